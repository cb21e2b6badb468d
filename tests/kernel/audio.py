"""The audio that the mounts are tested with: cambfs's own samples, and what is made of them once a session.

Made with sox and flac, so real files; nothing here knows of mounts or servers. No threads.
"""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cambfs.demo import samples
from tests.flac_files import make_flac

_LONG_SECONDS = 560
_LONG_BYTES_PER_S = 48_000 * 2 * 3


@dataclass(frozen=True)
class Audio:
    """`wav` is a WAV under the name of a FLAC; `piped` has neither MD5 nor the number of samples in its header; `edges`
    have sizes around those that the kernel and cambfs work in."""

    sentence: Path
    minutes: Path
    long: Path
    wav: Path
    piped: Path
    edges: tuple[Path, ...]


def make(directory: Path) -> Audio:
    spoken = samples()
    audio = Audio(
        sentence=spoken[101],
        minutes=directory / "minutes.flac",
        long=directory / "long.flac",
        wav=directory / "wav.flac",
        piped=directory / "piped.flac",
        edges=_make_edges(directory),
    )
    _call("sox", str(spoken[105]), "-r", "48000", "-b", "16", str(audio.minutes), "dither", "-s")
    _call("sox", str(spoken[103]), "-t", "wav", str(audio.wav))
    _make_piped(spoken[104], audio.piped)
    _make_long(directory, audio.long)
    return audio


def _make_piped(source: Path, target: Path) -> None:
    raw = _call("flac", "-d", "-s", "-c", "--force-raw-format", "--endian=little", "--sign=signed", str(source))
    target.write_bytes(_encode(raw, channels=1, bits=16, rate=22_050))


def _make_long(directory: Path, target: Path) -> None:
    """Noise at full scale: nothing to compress, and quickly encoded."""
    raw = directory / "long.raw"
    raw.write_bytes(random.Random(1).randbytes(_LONG_SECONDS * _LONG_BYTES_PER_S))
    _call("flac", *_RAW, "--channels=2", "--bps=24", "--sample-rate=48000", "-o", str(target), str(raw))
    raw.unlink()


_RAW = ("-0", "-s", "-f", "--force-raw-format", "--endian=little", "--sign=signed")


def _encode(raw: bytes, channels: int, bits: int, rate: int) -> bytes:
    """Into a pipe, so that the encoder cannot come back to the header."""
    shape = [f"--channels={channels}", f"--bps={bits}", f"--sample-rate={rate}"]
    return _call("flac", *_RAW, *shape, "--ignore-chunk-sizes", "-c", "-", stdin=raw)


def _make_edges(directory: Path) -> tuple[Path, ...]:
    paths = []
    for size in (127, 4095, 4096, 4097, 131_071, 131_072, 131_073, 262_144, 262_145, 1_048_577):
        path = directory / f"edge-{size}.flac"
        path.write_bytes(make_flac(size, seed=size))
        paths.append(path)
    return tuple(paths)


def _call(*command: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout
