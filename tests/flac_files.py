"""Small real FLAC files of any wanted length: noise of 8 bits, stored as it is, with the checksums of RFC 9639."""

from __future__ import annotations

import random

_BLOCK = 512
_METADATA_BYTES = 42 + 4
_FRAME_BYTES = 10  # without its number and its samples


def make_flac(length: int, seed: int = 0, *, counted: bool = True, ends_in_zero: bool = False) -> bytes:
    """A FLAC file of exactly `length` bytes. Not `counted`: as an encoder leaves it that cannot go back to the header,
    without the number of samples and their MD5. `ends_in_zero`: as the last byte of its last checksum is by chance."""
    while (made := _made(length, seed, counted)).endswith(b"\0") is not ends_in_zero:
        seed += 1_000_000
    return made


def _made(length: int, seed: int, counted: bool) -> bytes:
    noise, frames, left = random.Random(seed), list[bytes](), length - _METADATA_BYTES
    count = 0
    while (room := left - _FRAME_BYTES - len(number_as_utf8(len(frames)))) > 0:
        samples = min(room, _BLOCK)
        frames.append(_frame(len(frames), noise.randbytes(samples)))
        count, left = count + samples, left - len(frames[-1])
    assert frames, "no room for a frame"
    padding = b"\x81" + left.to_bytes(3, "big") + bytes(left)
    md5 = noise.randbytes(16) if counted else bytes(16)
    return b"fLaC" + _stream_info(count if counted else 0, md5) + padding + b"".join(frames)


def _stream_info(samples: int, md5: bytes) -> bytes:
    shape = (44100 << 44 | 7 << 36 | samples).to_bytes(8, "big")  # mono, 8 bits
    return b"\0\0\0\x22" + 2 * _BLOCK.to_bytes(2, "big") + bytes(6) + shape + md5


def _frame(number: int, samples: bytes) -> bytes:
    header = b"\xff\xf8\x70\0" + number_as_utf8(number) + (len(samples) - 1).to_bytes(2, "big")
    frame = header + crc(header, 0x07, 8) + b"\x02" + samples
    return frame + crc(frame, 0x8005, 16)


def number_as_utf8(number: int) -> bytes:
    return chr(number).encode() if number < 0xD800 else chr(number + 0x800).encode()


def crc(data: bytes, polynomial: int, bits: int) -> bytes:
    crc = 0
    for byte in data:
        crc ^= byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ polynomial if crc >> bits - 1 else crc << 1
            crc &= (1 << bits) - 1
    return crc.to_bytes(bits // 8, "big")
