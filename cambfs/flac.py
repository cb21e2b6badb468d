"""As much of the FLAC format as it takes to tell one result from another, and a whole one from one that was cut off.

Not a decoder. Pure functions on bytes, no threads. The layout is that of RFC 9639: "fLaC", metadata blocks (the first
is STREAMINFO), then frames, each with a CRC-8 over its header and a CRC-16 over all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

MAGIC = b"fLaC"
_STREAMINFO_END = 42
_AUDIO_THAT_IDENTIFIES_BYTES = 1024
# A tag of MP3 files that some programs put behind FLAC as well.
_ID3V1_BYTES = 128
# STREAMINFO may claim more; no encoder makes it.
_LARGEST_FRAME_BYTES = 512 * 1024
# A header with its CRC-8, at least one byte of audio, and the CRC-16.
_SMALLEST_FRAME_BYTES = 9


@dataclass(frozen=True)
class StreamInfo:
    """`samples` (per channel) and `md5` are 0 and zeros when the encoder wrote to a pipe. `max_frame_bytes` is 0 when
    unknown. `fixed_block` is the samples of every frame but the last, or None when they vary."""

    fixed_block: int | None
    max_frame_bytes: int
    samples: int
    md5: bytes


def stream_info(head: bytes) -> StreamInfo | None:
    """What STREAMINFO says; None when `head` does not begin like a FLAC file."""
    if len(head) < _STREAMINFO_END or head[:4] != MAGIC or head[4] & 0x7F != 0:
        return None
    smallest, largest = int.from_bytes(head[8:10], "big"), int.from_bytes(head[10:12], "big")
    return StreamInfo(
        fixed_block=largest if smallest == largest else None,
        max_frame_bytes=int.from_bytes(head[15:18], "big"),
        samples=int.from_bytes(head[18:26], "big") & (1 << 36) - 1,
        md5=head[26:42],
    )


def identifies(head: bytes) -> bool:
    """Whether two FLAC files that both begin with `head` are the same file for all that one can tell.

    The MD5 of the audio says so. Without one, metadata (mostly padding) says nothing, and a stretch of audio must be
    there as well.
    """
    info = stream_info(head)
    if info is None:
        return False
    return any(info.md5) or len(head) - _metadata_end(head) >= _AUDIO_THAT_IDENTIFIES_BYTES


def _metadata_end(head: bytes) -> int:
    position, last = len(MAGIC), False
    while not last and position + 4 <= len(head):
        last = bool(head[position] & 0x80)
        position += 4 + int.from_bytes(head[position + 1 : position + 4], "big")
    return position


def is_cut_short(head: bytes, size: int) -> bool:
    """Whether a file of `size` bytes that begins with `head` is FLAC that ends before its first frame does. False when
    it cannot tell."""
    if len(head) < _STREAMINFO_END:
        return MAGIC.startswith(head[: len(MAGIC)])
    return stream_info(head) is not None and size < _metadata_end(head) + _SMALLEST_FRAME_BYTES


def tail_bytes_wanted(head: bytes) -> int:
    """How many of a file's last bytes `is_whole` should be given."""
    info = stream_info(head)
    frame_bytes = info.max_frame_bytes if info and info.max_frame_bytes else 64 * 1024
    return min(frame_bytes + 64, _LARGEST_FRAME_BYTES) + _ID3V1_BYTES


def is_whole(head: bytes, tail: bytes) -> bool:
    """Whether a FLAC file that begins with `head` and ends with `tail` proves that its end is the end of the audio:
    its last frame is intact and holds the last of the samples that STREAMINFO counts. False when it cannot tell."""
    info = stream_info(head)
    if tail[-_ID3V1_BYTES:].startswith(b"TAG"):
        tail = tail[:-_ID3V1_BYTES]
    if info is None or not info.samples or tail.endswith(b"\0\0"):  # zeros behind a frame would not change its CRC
        return False
    start = len(tail)
    while (start := tail.rfind(b"\xff", 0, start)) >= 0:
        if _ends_the_audio(tail[start:], info):
            return True
    return False


def _ends_the_audio(frame: bytes, info: StreamInfo) -> bool:
    if len(frame) < 8 or frame[1] & 0xFE != 0xF8:
        return False
    by_sample = bool(frame[1] & 1)
    number, position = _coded_number(frame, 4)
    block, position = _block_samples(frame[2] >> 4, frame, position)
    position += {12: 1, 13: 2, 14: 2}.get(frame[2] & 0x0F, 0)
    if position >= len(frame) or _crc8(frame[:position]) != frame[position]:
        return False
    first_sample = number if by_sample else number * (info.fixed_block or 0)
    is_last = first_sample + block == info.samples
    return is_last and _divides_evenly(frame)


def _coded_number(frame: bytes, position: int) -> tuple[int, int]:
    """A frame or sample number, coded like a character of UTF-8 but up to 36 bits; and where it ends."""
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
