"""The values that settings may have, parsed from text: sizes, times, paths and the like.

Each function raises ValueError with a sentence that quotes the wrong text. No threads.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from cambfs.text import quoted

_MAX_SIZE_BYTES = 2**63 - 1
_MAX_TIMEOUT_S = 86_400.0
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?(?:([KMGTP])(I?B)?|B)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h)?", re.ASCII)
_SECONDS = {None: 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}
_MAX_COMPARED = 60


def parse_size(text: str) -> int:
    """Bytes: `500MB` is decimal, `5GiB` and `5G` are binary, `4096` is itself. Raises ValueError with a sentence."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{quoted(text)} is not a size; write for example 5GiB, 500MB, 1.5G or a number of bytes")
    number, letter, unit = match.groups()
    base = 1000 if (unit or "").upper() == "B" else 1024
    size = int(Decimal(number) * base ** (" KMGTP".index(letter.upper()) if letter else 0))
    if size > _MAX_SIZE_BYTES:
        raise ValueError(f"{quoted(text)} is more than any disk holds")
    return size


def parse_duration(text: str) -> float:
    """Seconds, above 0 and at most a day: `30`, `30s`, `2m`. Raises ValueError with a sentence."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{quoted(text)} is not a time; write for example 30, 30s, 2m or 1h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= _MAX_TIMEOUT_S:
        raise ValueError(f"{quoted(text)} is out of range; a time must be more than 0 and at most 24h")
    return seconds


def parse_path(text: str) -> Path:
    """An absolute path; `~` is the home directory. Raises ValueError when empty, or of an unknown user's home."""
    if not text.strip() or "\0" in text:
        raise ValueError(f"{quoted(text)} is not a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{quoted(text)} is in the home directory of an unknown user") from None
    except FileNotFoundError:
        raise ValueError(f"{quoted(text)} is relative, and the working directory was removed; cd to another") from None


def parse_options(text: str) -> tuple[str, ...]:
    """Mount options in a list with commas."""
    return tuple(option for option in (part.strip() for part in text.split(",")) if option)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name; empty when no known name is like it."""
    close = difflib.get_close_matches(name[:_MAX_COMPARED], sorted(known), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""
