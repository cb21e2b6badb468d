"""What the cache knows of each result that it keeps, and in which order they were used last.

Not when something is evicted, nor what becomes of it (`cache`). No threads: the cache guards it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache

from cambfs.cache.sidecar import Identity
from cambfs.cache.spool import Spool
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
    """The entries that nobody uses. What it evicts is dropped for good."""

    def __init__(self, limit_bytes: int, drop: Callable[[RunId, Entry], None]) -> None:
        super().__init__(limit_bytes, getsizeof=lambda entry: entry.size)
        self._drop = drop

    def popitem(self) -> tuple[RunId, Entry]:
        run_id, entry = super().popitem()
        self._drop(run_id, entry)
        return run_id, entry
