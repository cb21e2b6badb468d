"""Facts about results, without their bytes. Values; no threads."""

from __future__ import annotations

from dataclasses import dataclass

from cambfs.names import RunId


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`size` in bytes, exact, below 2^63; `mtime_ns` since the epoch, the same as long as it is remembered."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Progress:
    """A result that is being downloaded: `bytes` of it are here, of `size`, None when that is not known yet.
    `bytes_per_s` is the mean over all its transfers since they began."""

    run_id: RunId
    bytes: int
    size: int | None
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Arrived:
    """The part of a result that is here: `received` bytes of `size` (None: not known yet), its first bytes if they are
    here, and the SHA-256 of a cached one, "" when that is not known."""

    received: int
    size: int | None
    head: bytes
    is_cached: bool
    sha256: str = ""
