"""FLAC files of noise in every format that cambfs decodes, and their WAVs as the program flac decodes them."""

from __future__ import annotations

import hashlib
import random
import subprocess
from functools import cache
from pathlib import Path

from cambfs.flac import STREAMINFO_END
from cambfs.wav.wav_format import WavFormat
from tests.flac_files import crc, number_as_utf8

BLOCK = 512
_BITS_CODES = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6}
_MD5 = slice(26, STREAMINFO_END)
_COUNT_AT = 21


@cache
def noise(form: WavFormat, seed: int = 0, *, block: int = BLOCK, variable: bool = False) -> bytes:
    """A FLAC whose samples are stored as they are. Its header has their number and their MD5. `variable`: its frames
    are numbered by their first sample, as those of different lengths are."""
    source = random.Random(seed)
    samples = [[source.getrandbits(form.bits) for _ in range(form.channels)] for _ in range(form.samples)]
    blocks = [samples[at : at + block] for at in range(0, len(samples), block)]
    shape = form.rate << 44 | (form.channels - 1) << 41 | (form.bits - 1) << 36 | form.samples
    info = 2 * block.to_bytes(2, "big") + bytes(6) + shape.to_bytes(8, "big") + _md5(samples, form)
    step = block if variable else 1
    frames = b"".join(_frame(step * at, part, form, variable=variable) for at, part in enumerate(blocks))
    # A zero at the end may or may not belong to the last frame.
    return (
        noise(form, seed + 1000, block=block, variable=variable)
        if frames.endswith(b"\0")
        else b"fLaC\x80\0\0\x22" + info + frames
    )


def encoded(form: WavFormat, seed: int = 0) -> bytes:
    """As the program flac encodes something that is like sound, with all that it can do: predictors, related channels,
    frames of its own length."""
    source, value, content = random.Random(seed), 0, bytearray()
    limit = 1 << form.bits - 2
    for _ in range(form.samples * form.channels):
        value = (value * 15 + source.randrange(-limit, limit)) // 16
        content += value.to_bytes(form.sample_bytes, "little", signed=True)
    shape = [f"--channels={form.channels}", f"--bps={form.bits}", f"--sample-rate={form.rate}"]
    raw = ["--force-raw-format", "--endian=little", "--sign=signed"]
    command = ["flac", "-8", "-s", "--lax", *raw, *shape, f"--input-size={len(content)}", "-c", "-"]
    done = subprocess.run(command, input=bytes(content), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return uncounted(done.stdout)


def steps(frames: int, block: int) -> bytes:
    """A FLAC of two channels and 24 bits, in which each sample is the number of its frame. It is small for its length,
    and has no MD5."""
    shape = 192_000 << 44 | 1 << 41 | 23 << 36 | frames * block
    info = 2 * block.to_bytes(2, "big") + bytes(6) + shape.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80\0\0\x22" + info + b"".join(_step(number, block) for number in range(frames))


def _step(number: int, block: int) -> bytes:
    header = b"\xff\xf8\x70\x1c" + number_as_utf8(number) + (block - 1).to_bytes(2, "big")
    frame = header + crc(header, 0x07, 8) + 2 * (b"\0" + number.to_bytes(3, "big"))
    return frame + crc(frame, 0x8005, 16)


def _md5(samples: list[list[int]], form: WavFormat) -> bytes:
    sign = 1 << form.bits - 1
    signed = ((word ^ sign) - sign for frame in samples for word in frame)
    content = b"".join(word.to_bytes(form.sample_bytes, "little", signed=True) for word in signed)
    return hashlib.md5(content, usedforsecurity=False).digest()


def _frame(number: int, samples: list[list[int]], form: WavFormat, *, variable: bool) -> bytes:
    codes = (form.channels - 1) << 4 | _BITS_CODES[form.bits] << 1
    header = (
        bytes([0xFF, 0xF8 | variable, 0x70, codes]) + number_as_utf8(number) + (len(samples) - 1).to_bytes(2, "big")
    )
    bits = "".join(
        "00000010" + "".join(format(frame[channel], f"0{form.bits}b") for frame in samples)
        for channel in range(form.channels)
    )
    bits += "0" * (-len(bits) % 8)
    frame = header + crc(header, 0x07, 8) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return frame + crc(frame, 0x8005, 16)


def uncounted(flac: bytes) -> bytes:
    """As an encoder leaves it that cannot go back to the header."""
    return with_count(flac[: _MD5.start] + bytes(16) + flac[_MD5.stop :], 0)


def with_count(flac: bytes, samples: int) -> bytes:
    """With another number of samples in its header."""
    upper = flac[_COUNT_AT] & 0xF0 | samples >> 32
    return flac[:_COUNT_AT] + bytes([upper]) + (samples & 0xFFFFFFFF).to_bytes(4, "big") + flac[_COUNT_AT + 5 :]


def padded(flac: bytes, length: int) -> bytes:
    """The same audio, in a file of that length."""
    padding = length - len(flac) - 4
    first = b"fLaC\0" + flac[5:STREAMINFO_END]
    return first + b"\x81" + padding.to_bytes(3, "big") + bytes(padding) + flac[STREAMINFO_END:]


def with_other_md5(flac: bytes) -> bytes:
    return flac[: _MD5.start] + bytes([flac[_MD5.start] ^ 0xFF]) + flac[_MD5.start + 1 :]


def wav_of(flac: bytes, directory: Path, *options: str) -> bytes:
    """As `flac -d` writes it."""
    source, target = directory / "reference.flac", directory / "reference.wav"
    source.write_bytes(flac)
    command = ["flac", "-d", "-s", "-f", *options, "-o", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return target.read_bytes()
