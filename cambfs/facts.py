"""What is known of a result without its bytes. A value; no threads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Facts:
    """`size` in bytes, exact; `mtime_ns` since the epoch, the same for as long as anybody remembers it."""

    size: int
    mtime_ns: int
