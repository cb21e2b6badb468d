"""What is known of results without their bytes. Values; no threads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`size` in bytes, exact, below 2^63; `mtime_ns` since the epoch, the same for as long as anybody remembers it."""

    size: int
    mtime_ns: int
