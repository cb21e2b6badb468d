"""Recognises audio by its first bytes, and finds where it ends by its structure. Labels are ignored.

The containers that cambfs knows are FLAC (also behind an ID3v2 tag), WAV (RIFF, RF64), Ogg, MP3, and MP4. FLAC and WAV
mark their own end. Pure functions on bytes, no threads.
"""

from __future__ import annotations

from enum import Enum, auto

from cambfs import flac

# As much of a beginning as `signature` needs: two MP3 frames, the largest of which has 1,441 bytes.
SIGNATURE_BYTES = 2048
_RIFF_HEAD_BYTES = 12
_EMPTY_WAV_BYTES = 44
_DS64_SIZE_END = 28
# Encoders that write to a pipe leave such a length in place of the right one (0xFFFFFFFF, sox 0x7FFFF024, some services
# 2,000,000,036).
_PLACEHOLDER_FROM = 1_900_000_000
_SMALLEST_FTYP, _LARGEST_FTYP = 16, 4096
_MP3_BITRATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),  # MPEG 2 and 2.5
}
_MP3_RATES = {3: (44100, 48000, 32000, 0), 2: (22050, 24000, 16000, 0), 0: (11025, 12000, 8000, 0), 1: (0, 0, 0, 0)}


class End(Enum):
    """What a file's own structure says about the place where it ends.

    WHOLE: it is the end. INTACT: an intact frame ends there, and the number of frames is unknown. PADDED: zeros
    follow it, or may do so, which a checksum does not show. BROKEN: it is not the end, or something that is not audio
    follows it. UNKNOWN: this structure does not mark its end.
    """

    WHOLE = auto()
    INTACT = auto()
    PADDED = auto()
    BROKEN = auto()
    UNKNOWN = auto()


def signature(head: bytes) -> str | None:
    """The container of a file with this beginning ("FLAC", "WAV", "Ogg", "MP3", "MP4"); None for anything else. `head`
    has SIGNATURE_BYTES, or is the whole file."""
    if head.startswith(b"ID3"):
        return _behind_id3(head)
    if head.startswith(flac.MAGIC):
        return "FLAC" if _is_flac(head) else None
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:5] == b"OggS\0" and len(head) >= 27:
        return "Ogg"
    if _is_mp4(head):
        return "MP4"
    return "MP3" if _is_mp3(head) else None


def _behind_id3(head: bytes) -> str | None:
    end = flac.id3_end(head)
    if not end:
        return None
    behind = head[end:]
    if behind.startswith(flac.MAGIC):
        return "FLAC" if _is_flac(behind) or len(behind) < flac.STREAMINFO_END else None
    # A tag may be longer than `head`, or leave too little of it for two frames.
    first = _mp3_frame_bytes(behind)
    is_cut = len(behind) < 4 or (first and len(behind) < first + 4)
    return "MP3" if is_cut or _is_mp3(behind) else None


def _is_flac(head: bytes) -> bool:
    """STREAMINFO comes first. A file that begins otherwise counts as FLAC as long as the word is not part of a text. A
    byte that is in no text shows that soon."""
    text = head[: flac.STREAMINFO_END].decode("latin-1")
    return not all(character.isprintable() or character.isspace() for character in text)


def _is_mp4(head: bytes) -> bool:
    length = int.from_bytes(head[:4], "big")
    return head[4:8] == b"ftyp" and _SMALLEST_FTYP <= length <= _LARGEST_FTYP and length % 4 == 0


def _is_mp3(head: bytes) -> bool:
    """Two frames in a row, or one that is the whole file."""
    length = _mp3_frame_bytes(head)
    if not length:
        return False
    return len(head) == length or bool(_mp3_frame_bytes(head[length:]))


def _mp3_frame_bytes(head: bytes) -> int:
    """The length of the layer III frame at the beginning of `head`; 0 when there is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version = head[1] >> 3 & 3
    kbit_per_s = _MP3_BITRATES[version == 3][head[2] >> 4]
    rate = _MP3_RATES[version][head[2] >> 2 & 3]
    if not kbit_per_s or not rate:
        return 0
    return (144 if version == 3 else 72) * kbit_per_s * 1000 // rate + (head[2] >> 1 & 1)


def tail_bytes_wanted(head: bytes) -> int:
    """How many of the last bytes of a file that begins with `head` `end_of` needs to find its end."""
    return flac.tail_bytes_wanted(head) if flac.stream_info(head) else 0


def end_of(head: bytes, tail: bytes, size: int) -> End:
    """The verdict on the end of a file that begins with `head`, ends with `tail`, and has `size` bytes. `tail` has
    `tail_bytes_wanted`, or is the whole file; a shorter one is enough for every verdict but BROKEN."""
    if (expected := _wav_bytes(head)) is not None:
        return _wav_end(expected, size)
    info = flac.stream_info(head)
    if info is None and _is_beginning(head[flac.id3_end(head) :]):
        return End.BROKEN
    if flac.is_empty(head, size):
        return End.WHOLE
    if info is None or flac.tail_bytes_wanted(head) == 0:
        return End.UNKNOWN
    if flac.is_too_long(head, size):
        return End.BROKEN  # a retry has sent it once more behind itself
    tail = flac.without_id3v1(tail)
    is_end = flac.is_whole(head, tail) if info.samples else flac.ends_in_a_frame(tail)
    if not is_end:
        return End.BROKEN
    # In one of 256 files it is a zero of the last CRC-16.
    if tail.endswith(b"\0") and not flac.ends_in_its_checksum(head, tail):
        return End.BROKEN if tail.endswith(b"\0\0\0") else End.PADDED
    return End.WHOLE if info.samples else End.INTACT


def is_counted(head: bytes, end: End) -> bool:
    """Whether `end`, the verdict of `end_of`, says that a file ends with the last of the samples that its head counts,
    and with nothing behind it. Only then do a head and an end that were read from two sources tell a size."""
    info = flac.stream_info(head)
    return end is End.WHOLE and info is not None and info.samples > 0


def _is_beginning(head: bytes) -> bool:
    """Whether it is the beginning of a FLAC's header, and nothing else."""
    return head.startswith(flac.MAGIC) and len(head) < flac.STREAMINFO_END


def _wav_end(expected: int, size: int) -> End:
    # A chunk of odd length is padded, and not every writer does so.
    if size in (expected, expected + expected % 2):
        return End.WHOLE
    # Some services do not return to the header of an empty file, and some count the first eight bytes, too.
    return End.UNKNOWN if expected <= _EMPTY_WAV_BYTES or size == expected - 8 else End.BROKEN


def _wav_bytes(head: bytes) -> int | None:
    """The length that a WAV's header gives; None when it is no WAV, or has no length."""
    if head[8:12] != b"WAVE":
        return None
    size = int.from_bytes(head[4:8], "little")
    if head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64" and len(head) >= _DS64_SIZE_END:
        length = int.from_bytes(head[20:28], "little")
        return 8 + length if length else None
    if head[:4] != b"RIFF" or size <= _RIFF_HEAD_BYTES - 8 or size >= _PLACEHOLDER_FROM:
        return None
    return 8 + size
