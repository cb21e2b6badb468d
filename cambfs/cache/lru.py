"""The entries of the cache, and the order in which they were last used. No lock of its own: the cache guards it."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Mapping
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


class Entries:
    """All entries, and which of them are in use. The idle ones are dropped, least recently used first, until all fit
    into `limit_bytes`. `remove` removes the bytes of a dropped entry."""

    def __init__(self, limit_bytes: int, remove: Callable[[RunId, Entry], None]) -> None:
        self.limit_bytes = limit_bytes
        self._remove = remove
        self._all: dict[RunId, Entry] = {}
        self._in_use: set[RunId] = set()
        self._idle = Idle(limit_bytes, self._drop)

    @property
    def evictions(self) -> int:
        return self._idle.evictions

    @property
    def in_use(self) -> set[RunId]:
        return set(self._in_use)

    def get(self, run_id: RunId) -> Entry | None:
        return self._all.get(run_id)

    def items(self) -> ItemsView[RunId, Entry]:
        return self._all.items()

    def set_limit(self, limit_bytes: int) -> None:
        """Evicts what is too much now."""
        idle, self._idle, self.limit_bytes = self._idle, Idle(limit_bytes, self._drop), limit_bytes
        self._idle.evictions = idle.evictions
        for run_id, entry in idle.items():
            self._add(run_id, entry)
        self.make_room()

    def take_over(self, stored: Mapping[RunId, int]) -> None:
        """Replaces the idle results by those on the disk: their sizes, least recently used by any mount first."""
        for run_id in [run_id for run_id in self._idle if run_id not in stored]:
            if self._all[run_id].spool is None:
                self.forget(run_id)
        parts = [run_id for run_id in self._idle if self._all[run_id].spool is not None]
        unused = [run_id for run_id in stored if run_id not in self._in_use]
        for run_id in [*unused, *parts]:  # only this mount has parts
            self._add(run_id, self._all.get(run_id) or Entry(stored[run_id], whole=True))
        self.make_room()

    def use(self, run_id: RunId, entry: Entry) -> None:
        """The entry is not dropped until `end_use`."""
        self._idle.pop(run_id, None)
        self._all[run_id] = entry
        self._in_use.add(run_id)

    def end_use(self, run_id: RunId) -> None:
        """Call `keep` or `forget` next."""
        self._in_use.discard(run_id)

    def keep(self, run_id: RunId, entry: Entry) -> None:
        """Makes an entry the most recently used idle one. Drops an entry larger than the limit."""
        self._add(run_id, entry)
        self.make_room()

    def forget(self, run_id: RunId) -> None:
        """Its bytes are gone already, or the caller removes them."""
        self._idle.pop(run_id, None)
        self._all.pop(run_id, None)

    def evict(self) -> bool:
        """Drops the least recently used idle entry. False when there is none."""
        if not self._idle:
            return False
        self._idle.popitem()
        return True

    def drop_spool(self) -> bool:
        """Drops an idle entry that holds a descriptor. False when there is none."""
        run_id = next((run_id for run_id in self._idle if self._all[run_id].spool is not None), None)
        if run_id is None:
            return False
        self._drop(run_id, self._idle.pop(run_id))
        return True

    def clear(self) -> None:
        """Forgets all entries. Removes no bytes."""
        self._all.clear()
        self._idle = Idle(self.limit_bytes, self._drop)  # its own clear() would evict

    def _add(self, run_id: RunId, entry: Entry) -> None:
        if entry.size > self.limit_bytes:
            self._drop(run_id, entry)
            return
        self._idle.pop(run_id, None)  # replaced where it is, it could be evicted to make room for itself
        self._all[run_id] = entry
        self._idle[run_id] = entry

    def _drop(self, run_id: RunId, entry: Entry) -> None:
        self._all.pop(run_id, None)
        self._remove(run_id, entry)

    def make_room(self) -> None:
        """Evicts idle entries until all fit."""
        in_use_bytes = sum(self._all[run_id].size for run_id in self._in_use)
        while self._idle and self._idle.currsize + in_use_bytes > self.limit_bytes:
            self._idle.popitem()
