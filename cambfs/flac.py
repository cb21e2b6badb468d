"""The part of the FLAC format that tells one result from another, and a whole result from a truncated one.

It decodes no audio. Pure functions on bytes, no threads. The layout is that of RFC 9639: "fLaC", metadata blocks (the
first is STREAMINFO), then frames, each with a CRC-8 over its header and a CRC-16 over all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from cambfs import flac_subframes

MAGIC = b"fLaC"
STREAMINFO_END = 42
_AUDIO_THAT_IDENTIFIES_BYTES = 1024
# A tag of MP3 files that some programs put behind FLAC as well.
_ID3V1_BYTES = 128
_ID3_HEAD_BYTES = 10
# The header with its CRC-8, each subframe's own header, and the CRC-16.
_FRAME_OVERHEAD_BYTES = 64
_LONGEST_HEADER_BYTES = 16
# One in 256 that has a sync code has a CRC-8 by chance. A tail that a server fills with them has room for thousands;
# their checksums would take a quarter of a minute.
_MOST_TRIED = 64
# Larger blocks than any encoder makes by itself; with such blocks the last frame is not searched.
_LARGEST_FRAME_BYTES = 512 * 1024
# A header with its CRC-8, at least one byte of audio, and the CRC-16.
_SMALLEST_FRAME_BYTES = 9
_MD5_OF_NO_SAMPLES = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")


@dataclass(frozen=True)
class StreamInfo:
    """`samples` (per channel) and `md5` are 0 and zeros when the encoder wrote to a pipe. `block` is the samples of the
    longest frame: where frames are numbered, of every one but the last. No frame is longer than `frame_limit_bytes`,
    nor than `max_frame_bytes`, which is 0 when unknown. `rate` is in samples a second, `bits` those of a sample."""

    rate: int
    channels: int
    bits: int
    block: int
    frame_limit_bytes: int
    max_frame_bytes: int
    samples: int
    md5: bytes


def id3_end(head: bytes) -> int:
    """The end of an ID3v2 tag in front of the audio; 0 when there is none."""
    if head[:3] != b"ID3" or len(head) < _ID3_HEAD_BYTES or 0xFF in head[3:5] or max(head[6:10]) > 0x7F:
        return 0
    length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    footer = _ID3_HEAD_BYTES if head[5] & 0x10 else 0
    return _ID3_HEAD_BYTES + length + footer


def stream_info(head: bytes) -> StreamInfo | None:
    """The fields of STREAMINFO; None when `head` does not begin like a FLAC file."""
    head = head[id3_end(head) :]
    if len(head) < STREAMINFO_END or head[:4] != MAGIC or head[4] & 0x7F != 0:
        return None
    largest = int.from_bytes(head[10:12], "big")
    channels, bits = (head[20] >> 1 & 7) + 1, ((head[20] & 1) << 4 | head[21] >> 4) + 1
    return StreamInfo(
        rate=int.from_bytes(head[18:21], "big") >> 4,
        channels=channels,
        bits=bits,
        block=largest,
        # An encoder stores samples as they are where nothing else is shorter; a side channel has one bit more.
        frame_limit_bytes=largest * channels * (bits + 1) // 8 + _FRAME_OVERHEAD_BYTES,
        max_frame_bytes=int.from_bytes(head[15:18], "big"),
        samples=int.from_bytes(head[18:26], "big") & (1 << 36) - 1,
        md5=head[26:42],
    )


def duration_s(head: bytes) -> float | None:
    """How long a FLAC file plays, as its STREAMINFO claims; None when that does not tell."""
    info, start = stream_info(head), id3_end(head)
    rate_hz = int.from_bytes(head[start + 18 : start + 21], "big") >> 4
    return info.samples / rate_hz if info is not None and info.samples and rate_hz else None


def identifies(head: bytes) -> bool:
    """Whether two FLAC files that both begin with `head` are the same file, as far as that can be known.

    The MD5 of the audio decides. Without one, metadata (mostly padding) proves nothing, and a stretch of audio must be
    there as well.
    """
    info = stream_info(head)
    if info is None:
        return False
    return any(info.md5) or len(head) - _metadata_end(head) >= _AUDIO_THAT_IDENTIFIES_BYTES


def _metadata_end(head: bytes) -> int:
    return _metadata(head)[0]


def _metadata(head: bytes) -> tuple[int, bool]:
    """The end of the metadata as far as `head` shows, and whether that is all of it."""
    position, last = id3_end(head) + len(MAGIC), False
    while not last and position + 4 <= len(head):
        last = bool(head[position] & 0x80)
        position += 4 + int.from_bytes(head[position + 1 : position + 4], "big")
    return position, last


def is_cut_short(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` is FLAC that ends before its first frame does. False when
    that cannot be known."""
    if len(head) < STREAMINFO_END:
        return MAGIC.startswith(head[: len(MAGIC)])
    if stream_info(head) is None or is_empty(head, size):
        return False
    return size < _metadata_end(head) + _SMALLEST_FRAME_BYTES


def is_empty(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` is FLAC without audio. The MD5 shows that its encoder had
    no samples; one that wrote to a pipe leaves zeros there."""
    info, (metadata_end, is_all) = stream_info(head), _metadata(head)
    return info is not None and is_all and size == metadata_end and info.md5 == _MD5_OF_NO_SAMPLES


def tail_bytes_wanted(head: bytes) -> int:
    """How many of a file's last bytes show its last frame; 0 when they would be too many."""
    info = stream_info(head)
    if info is None or info.frame_limit_bytes > _LARGEST_FRAME_BYTES:
        return 0
    return info.frame_limit_bytes + _ID3V1_BYTES


def is_too_long(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes is longer than the number of samples in its header allows. False when that cannot
    be known."""
    info, (metadata_end, is_all) = stream_info(head), _metadata(head)
    if info is None or not info.samples or not info.block or not is_all:
        return False
    frame_bytes = min(info.max_frame_bytes or info.frame_limit_bytes, info.frame_limit_bytes)
    # One frame more than that, for a tag.
    return size > metadata_end + (info.samples // info.block + 2) * frame_bytes + _ID3V1_BYTES


def without_id3v1(tail: bytes) -> bytes:
    return tail[:-_ID3V1_BYTES] if tail[-_ID3V1_BYTES:].startswith(b"TAG") else tail


def is_whole(head: bytes, tail: bytes) -> bool:
    """Whether a FLAC file that begins with `head` and ends with `tail` proves that its end is the end of the audio: its
    last frame is intact and holds the last of the samples that STREAMINFO counts. Zeros behind it go unnoticed, because
    they do not change a CRC-16."""
    info = stream_info(head)
    if info is None or not info.samples:
        return False
    candidates = (frame for frame in _last_frames(tail) if _samples_until(frame, info) == info.samples)
    return any(_divides_evenly(frame) for frame in islice(candidates, _MOST_TRIED))


def ends_in_a_frame(tail: bytes) -> bool:
    """Whether an intact frame ends where `tail` does, or zeros follow one."""
    return _last_intact(tail) is not None


def ends_in_its_checksum(head: bytes, tail: bytes) -> bool:
    """Whether the last frame, by what it holds, ends where `tail` does, and no zero follows its CRC-16. False when that
    cannot be known."""
    info, frame = stream_info(head), _last_intact(tail)
    if info is None or frame is None:
        return False
    try:
        return flac_subframes.end_of(frame, _header_end(frame), _numbers(frame)[1], info.bits) == len(frame)
    except ValueError:
        return False


def samples_at_end(head: bytes, tail: bytes) -> int | None:
    """The number of samples up to where `tail` ends, as the last frame counts them; None when no intact frame ends
    there."""
    info, frame = stream_info(head), _last_intact(tail)
    return None if info is None or frame is None else _samples_until(frame, info)


def _last_intact(tail: bytes) -> bytes | None:
    return next((frame for frame in islice(_last_frames(tail), _MOST_TRIED) if _divides_evenly(frame)), None)


def _last_frames(tail: bytes) -> Iterator[bytes]:
    """Candidates for the last frame, the shortest first: all from a sync code and a header with its CRC-8 on."""
    start = len(tail)
    while (start := tail.rfind(b"\xff", 0, start)) >= 0:
        if _header_end(tail[start : start + _LONGEST_HEADER_BYTES]):
            yield tail[start:]


def _header_end(frame: bytes) -> int:
    """The end of the header, its CRC-8 included; 0 when it is none."""
    if len(frame) < _SMALLEST_FRAME_BYTES or frame[1] & 0xFE != 0xF8:
        return 0
    _, _, position = _numbers(frame)
    position += {12: 1, 13: 2, 14: 2}.get(frame[2] & 0x0F, 0)
    return position + 1 if position < len(frame) and _crc8(frame[:position]) == frame[position] else 0


def _numbers(frame: bytes) -> tuple[int, int, int]:
    """The number of the frame or of its first sample, how many samples it has, and where both end."""
    number, position = _coded_number(frame, 4)
    block, position = _block_samples(frame[2] >> 4, frame, position)
    return number, block, position


def _samples_until(frame: bytes, info: StreamInfo) -> int:
    """The samples of all frames up to the end of this one."""
    number, block, _ = _numbers(frame)
    return (number if frame[1] & 1 else number * info.block) + block


def _coded_number(frame: bytes, position: int) -> tuple[int, int]:
    """A frame or sample number, coded like a character of UTF-8 but up to 36 bits; and its end."""
    lead = frame[position]
    extra = max(0, 7 - (lead ^ 0xFF).bit_length())
    number = lead & (0x7F if not lead & 0x80 else 0x3F >> extra)
    for byte in frame[position + 1 : position + 1 + extra]:
        number = number << 6 | byte & 0x3F
    return number, position + 1 + extra


def _block_samples(code: int, frame: bytes, position: int) -> tuple[int, int]:
    if code in (6, 7):
        width = code - 5
        return int.from_bytes(frame[position : position + width], "big") + 1, position + width
    if code <= 1:
        return code * 192, position  # 0 is reserved
    return (576 << code - 2 if code <= 5 else 256 << code - 8), position


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x107 if crc & 0x80 else 0)) & 0xFF
    return crc


def _divides_evenly(frame: bytes) -> bool:
    """Whether the CRC-16 of a frame, its CRC at the end included, is 0.

    That is, whether the frame as a polynomial over GF(2) is a multiple of x^16 + x^15 + x^2 + 1, which is (x + 1) times
    (x^15 + x + 1): a multiple of the former has an even number of ones. Modulo the latter, x^15 = x + 1, so (squares
    over GF(2) have no mixed terms) x^15q = x^q + 1 for every power of two q: what lies above bit 15q is added further
    down. A frame has 10 KB, and a loop over its bytes would keep the interpreter from the readers for a millisecond.
    """
    rest = int.from_bytes(frame, "big")
    if rest.bit_count() % 2:
        return False
    q = 1 << (rest.bit_length() // 15).bit_length()
    while q:
        while high := rest >> 15 * q:
            rest ^= high << 15 * q ^ high << q ^ high
        q >>= 1
    return rest == 0
