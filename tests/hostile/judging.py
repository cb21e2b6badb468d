"""Judges a reader's results: bytes, errnos, and sizes that agree with them.

Pure functions; no threads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Read:
    """The bytes from an offset on, and how the read ended: "end", or the name of an errno."""

    offset: int
    data: bytes
    end: str


@dataclass(frozen=True)
class Answer:
    """The result of one of the reader's operations. `sizes` has a number, or the name of an errno, for each request."""

    reads: list[Read]
    sizes: list[int | str]

    @classmethod
    def parse(cls, found: dict[str, Any]) -> Answer:
        reads = [Read(one["offset"], base64.b64decode(one["data"]), one["end"]) for one in found["reads"]]
        return cls(reads, found["sizes"])


def judge(
    answer: Answer,
    right: Sequence[bytes],
    want: frozenset[str],
    name: Callable[[bytes], str],
    *,
    is_size_open: Callable[[str], bool] = lambda _: False,
) -> tuple[str, list[str]]:
    """The reader's result, and its mistakes. `right` are the contents that may be read, `want` the allowed outcomes.
    `name` describes wrong bytes. `is_size_open` says whether the reported sizes may have been others for this
    result."""
    problems = [problem for read in answer.reads if (problem := _wrong_bytes(read, right, name))]
    got = {"right" if read.end == "end" else read.end for read in answer.reads}
    got |= {size for size in answer.sizes if isinstance(size, str)}
    if got - want:
        problems.append(f"got {name_of(got)}, not {name_of(want)}")
    sizes = answer.sizes[-1:] if got == {"right"} else []
    problems += _wrong_sizes(answer.reads, sizes if is_size_open(name_of(got)) else answer.sizes, right)
    return name_of(got), problems


def _wrong_bytes(read: Read, right: Sequence[bytes], name: Callable[[bytes], str]) -> str:
    """Nothing when it is right; a read that failed may have brought a part."""
    is_whole = read.end == "end"
    parts = [content[read.offset :] if is_whole else content[read.offset :][: len(read.data)] for content in right]
    if read.data in parts:
        return ""
    if is_whole and right[0].startswith(read.data):
        return f"{len(read.data)} bytes of {len(right[0])}, and status 0"
    at = next((i for i, (a, b) in enumerate(zip(read.data, parts[0], strict=False)) if a != b), len(parts[0]))
    return (
        f"{len(read.data)} bytes of {len(right[0])}, wrong from {read.offset + at} on: {name(read.data[at : at + 200])}"
    )


def _wrong_sizes(reads: Sequence[Read], sizes: Sequence[int | str], right: Sequence[bytes]) -> list[str]:
    """A size is that of what can be read; of what was read, where that was whole."""
    whole = {read.offset + len(read.data) for read in reads if read.end == "end"}
    lengths = whole or {len(content) for content in right}
    told = [size for size in sizes if isinstance(size, int) and size not in lengths]
    return [f"stat told {size} bytes, not {name_of(map(str, lengths))}" for size in told]


def name_of(words: Iterable[str]) -> str:
    return " or ".join(sorted(words))


def shown_url(answer: Answer) -> str:
    """The result of reading a `.url`: "right" for one line of JSON with a URL in it, "wrong", or the name of an
    errno."""
    (read,) = answer.reads
    if read.end != "end":
        return read.end
    try:
        found = json.loads(read.data)
    except ValueError:
        return "wrong"
    is_url = isinstance(found, dict) and str(found.get("output_url")).startswith("http")
    return "right" if is_url and read.data.count(b"\n") == 1 else "wrong"
