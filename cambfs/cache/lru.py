"""The entries of the cache, and the order in which they were last used. No lock of its own: the cache guards it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from cambfs.disk.sidecar import Identity
from cambfs.disk.spool import Spool
from cambfs.model import RunInfo
from cambfs.names import RunId


@dataclass(slots=True)
class Entry:
    """`size` in bytes is what it counts for; `info` is None until the sidecar was read, and for a part of unknown size;
    `spool` is None when the bytes are in a file; `generation` is the spool's whose bytes it has, 0 before a file was
    found to be right in this mount, when it had the `identity`."""

    size: int
    whole: bool
    info: RunInfo | None = None
    spool: Spool | None = None
    generation: int = 0
    identity: Identity | None = None


class Idle(LRUCache[RunId, Entry]):
    """The entries that are not in use. An evicted entry is dropped."""

    def __init__(self, limit_bytes: int, drop: Callable[[RunId, Entry], None]) -> None:
        super().__init__(limit_bytes, getsizeof=lambda entry: entry.size)
        self._drop = drop
        self.evictions = 0

    def popitem(self) -> tuple[RunId, Entry]:
        run_id, entry = super().popitem()
        self.evictions += 1
        self._drop(run_id, entry)
        return run_id, entry
