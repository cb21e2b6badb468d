"""The results that are measured: real FLAC files of given sizes, made once in a working directory.

`server` serves them. No threads.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_RATE_HZ = 48_000
# FLAC cannot make white noise smaller, so the bytes follow from the seconds: two channels of three bytes.
_BYTES_A_SECOND = _RATE_HZ * 2 * 3


@dataclass(frozen=True)
class Kind:
    """Results of one size. A run id whose first digit is `digit`, and that has seven, is one of them."""

    digit: int
    name: str
    megabytes: float

    def run(self, number: int) -> int:
        return self.digit * 1_000_000 + number


SENTENCE = Kind(1, "0.3 MB", 0.3)
MINUTE = Kind(2, "3 MB", 3)
CHAPTER = Kind(3, "15 MB", 15)
BOOK = Kind(4, "150 MB", 150)
SMALL, MEDIUM, LARGE = Kind(5, "0.2 MB", 0.2), Kind(6, "0.8 MB", 0.8), Kind(7, "1.6 MB", 1.6)
# Too long to make from real audio: a file that begins like BOOK, and then has a hole.
HUGE = Kind(8, "2 GB", 2000)

SIZES = (SENTENCE, MINUTE, CHAPTER, BOOK)
MIXED = (SMALL, SENTENCE, MEDIUM, LARGE, MINUTE)


def speak(path: Path, megabytes: float) -> None:
    """Makes a FLAC file of this size there."""
    seconds = megabytes * 1e6 / _BYTES_A_SECOND
    part = path.with_name(f"{path.name}.part")
    noise = ["synth", f"{seconds:.3f}", "whitenoise", "whitenoise", "gain", "-3"]
    form = ["-r", str(_RATE_HZ), "-b", "24", "-c", "2", "-t", "flac"]
    subprocess.run(["sox", "-R", "-n", *form, str(part), *noise], check=True)
    part.rename(path)


class Audio:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        for kind in {*SIZES, *MIXED}:
            if not self.path(kind).exists():
                speak(self.path(kind), kind.megabytes)

    def path(self, kind: Kind) -> Path:
        return self.directory / f"{kind.digit}.flac"

    def size(self, kind: Kind) -> int:
        return self.path(kind).stat().st_size

    def piece(self, kind: Kind, offset: int, length: int) -> bytes:
        with self.path(kind).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def make_huge(self) -> None:
        with self.path(HUGE).open("wb") as file:
            file.write(self.piece(BOOK, 0, 1 << 20))
            file.truncate(int(HUGE.megabytes * 1e6))
