"""What is known of results without their bytes. Values; no threads."""

from __future__ import annotations

from dataclasses import dataclass

from cambfs.names import RunId


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`size` in bytes, exact, below 2^63; `mtime_ns` since the epoch, the same for as long as anybody remembers it."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A result that is being downloaded: `bytes` of it are here, of `size`, None when that is not known yet.
    `bytes_per_s` is the mean since its transfers began, all together."""

    run_id: RunId
    bytes: int
    size: int | None
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Arrived:
    """What is here of a result: `received` bytes of `size` (None: not known yet), its first bytes if they are, and of a
    cached one its SHA-256, "" when that is not known."""

    received: int
    size: int | None
    head: bytes
    is_cached: bool
    sha256: str = ""
