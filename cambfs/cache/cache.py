"""Which results are kept: least recently used by bytes, never one that is in use.

An entry is a complete result (a file in the cache directory, or a spool without a disk), or the part that has arrived
(a spool, while the mount lives). Not how bytes are stored (`disk`, `spool`).

Threads: any. `_lock` guards the index. Local files are touched under it, the network never. No other lock is taken
under it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock

from cambfs.cache.lru import Entries, Entry
from cambfs.cache.usage import CacheUsage
from cambfs.disk.descriptors import SHORTAGES, shortage, with_descriptors
from cambfs.disk.disk import Disk, Usage
from cambfs.disk.sidecar import Sidecar
from cambfs.disk.spool import Spool, memory_spool
from cambfs.errors import CacheDamaged, CambfsError
from cambfs.model import Arrived, RunInfo
from cambfs.names import RunId

log = logging.getLogger(__name__)

_HEAD_BYTES = 4096  # in which the signature of its audio is


@dataclass(frozen=True)
class Acquired:
    """The result of `acquire`. The caller owns the spool until `release`, and must call `check` before any use when
    `must_be_checked`."""

    spool: Spool
    whole: bool
    info: RunInfo | None
    must_be_checked: bool


class Cache:
    """Methods raise TooManyOpenFiles when no descriptor is left and no idle spool can be closed."""

    def __init__(self, disk: Disk | None, limit_bytes: int) -> None:
        """Starts with the results on the disk. Without a disk all results are kept in memory."""
        self._disk = disk
        self._lock = Lock()  # guards all below
        self._entries = Entries(limit_bytes, self._remove)
        self._hits = self._misses = 0
        self._stamp_ns = -1
        self._is_closed = False
        self._complaints: set[str] = set()  # why results could not be cached, since the last success

    @property
    def limit_bytes(self) -> int:
        return self._entries.limit_bytes

    def trim(self) -> None:
        """Evicts until the disk holds no more than the limit. Called once, after mounting; later results are counted
        when they are kept."""
        with suppress(OSError):
            if self._disk is not None and self._disk.usage().bytes > self._entries.limit_bytes:
                self._apply_limit()

    def set_limit(self, limit_bytes: int) -> None:
        """From here on this much is kept; what is too much is evicted."""
        with self._lock:
            self._entries.set_limit(limit_bytes)
        self.trim()

    def _apply_limit(self) -> None:
        """Evicts down to the limit, and counts results of earlier and of other mounts. Takes about a second for 100,000
        results, without the lock. Raises OSError."""
        if self._disk is None:
            return
        with self._lock:  # this process changes the directory only under it
            stamp_ns = self._disk.stamp_ns()
            if self._stamp_ns == stamp_ns:
                return
        found = {stored.run_id: stored.size for stored in self._disk.scan()}
        with self._lock:
            self._stamp_ns = stamp_ns
            self._entries.take_over(found)

    def _remove(self, run_id: RunId, entry: Entry) -> None:
        log.debug("run %d: evicted, %d bytes", run_id, entry.size)
        if entry.spool is not None:
            entry.spool.close()
        elif self._disk is not None:
            stamp_ns = self._disk.stamp_ns()
            self._disk.remove(run_id)
            self._note_own_change(stamp_ns)

    def usage(self) -> CacheUsage:
        """How full it is, and how well it serves."""
        if self._disk is not None:
            stored, path = self._disk.usage(), str(self._disk.directory)
        else:
            with self._lock:
                sizes = [entry.size for _, entry in self._entries.items() if entry.whole]
            stored, path = Usage(0, len(sizes), sum(sizes)), None
        with self._lock:
            counts = self._hits, self._misses, self._entries.evictions
        trouble = "; ".join(sorted(self._complaints.copy()))
        return CacheUsage(path, stored.bytes, self._entries.limit_bytes, stored.results, *counts, trouble)

    def runs(self) -> list[RunId]:
        """The runs with a complete result."""
        if self._disk is not None:
            return with_descriptors(self._disk.run_ids, self._close_idle_spool)
        with self._lock:
            return [run_id for run_id, entry in self._entries.items() if entry.whole]

    @property
    def in_use(self) -> set[RunId]:
        """The runs that were taken and not given back."""
        with self._lock:
            return self._entries.in_use

    def info(self, run_id: RunId) -> RunInfo | None:
        """The info of a complete result, or None. Does not count as a use."""
        entry = with_descriptors(lambda: self._look_up_locked(run_id), self._close_idle_spool)
        return entry.info if entry is not None and entry.whole else None

    def arrived(self, run_id: RunId) -> Arrived | None:
        """The stored bytes of an unused or cached run; None when there are none. Does not count as a use."""
        entry = with_descriptors(lambda: self._look_up_locked(run_id), self._close_idle_spool)
        if entry is None or (run_id in self.in_use and not entry.whole):
            return None  # the run that uses a part changes it
        info = entry.info
        size = info.size if info is not None else None
        if entry.spool is None:
            sha256, head = self._disk.identify(run_id) if self._disk is not None else ("", b"")
            return Arrived(entry.size, size, head, entry.whole, sha256)
        with self._lock:  # or the spool may be closed meanwhile
            is_here = self._entries.get(run_id) is entry and entry.spool.filled.covers(0, min(entry.size, _HEAD_BYTES))
            head = entry.spool.read(0, min(entry.size, _HEAD_BYTES)) if is_here else b""
        return Arrived(entry.size, size, head, entry.whole)

    def _look_up_locked(self, run_id: RunId) -> Entry | None:
        with self._lock:
            return self._look_up(run_id)

    def _look_up(self, run_id: RunId) -> Entry | None:
        """The entry with the info of its sidecar, or a new one. Notices what another mount has added or removed."""
        entry = self._entries.get(run_id)
        if self._disk is None or (entry is not None and (entry.spool or entry.info)):
            return entry
        try:
            info = self._disk.info(run_id)
        except CacheDamaged as damage:
            self._drop_damaged(run_id, damage)
            info = None
        if info is None:
            self._entries.forget(run_id)
            return None
        entry = entry or Entry(info.size, whole=True)
        entry.info = info
        return entry

    def _drop_damaged(self, run_id: RunId, damage: CacheDamaged) -> None:
        log.warning("%s: dropped, it will be fetched again", damage)
        if self._disk is not None:
            self._disk.remove(run_id)

    def acquire(self, run_id: RunId) -> Acquired | None:
        """What is here of the run, or None. It is in use, and not evicted, until `release`. A file that does not match
        its sidecar is dropped."""
        acquired = with_descriptors(lambda: self._acquire(run_id), self._close_idle_spool)
        self._count(acquired)
        if acquired is not None:
            part = "" if acquired.whole else " so far"
            log.debug("run %d: cache hit, %d bytes%s", run_id, acquired.spool.filled.total, part)
        return acquired

    def _count(self, acquired: Acquired | None) -> None:
        is_hit = acquired is not None and acquired.whole
        with self._lock:
            self._hits += is_hit
            self._misses += not is_hit

    def _acquire(self, run_id: RunId) -> Acquired | None:
        with self._lock:
            entry = self._look_up(run_id)
            if entry is None:
                return None
            self._entries.use(run_id, entry)
        if entry.spool is not None:
            return Acquired(entry.spool, entry.whole, entry.info, must_be_checked=False)
        try:
            acquired = self._open(run_id, entry)
        except CacheDamaged as damage:
            self._drop_damaged(run_id, damage)
            acquired = None
        except OSError as error:
            self._forget_used(run_id)
            if error.errno in SHORTAGES:
                raise
            return None
        if acquired is None:
            self._forget_used(run_id)
        return acquired

    def _open(self, run_id: RunId, entry: Entry) -> Acquired | None:
        assert self._disk is not None, "without a disk every entry has its spool"
        opened = self._disk.open(run_id)
        if opened is None:
            return None
        spool, entry.info, is_right = opened
        if entry.identity != spool.identity():
            entry.generation = 0  # another mount has replaced the file
        if is_right or entry.generation:
            self._note_right(entry, spool)
        return Acquired(spool, entry.whole, entry.info, must_be_checked=spool.verified_identity is None)

    def _note_right(self, entry: Entry, spool: Spool) -> None:
        spool.generation = entry.generation = entry.generation or spool.generation
        spool.verified_identity = entry.identity = spool.verified_identity or entry.identity

    def _forget_used(self, run_id: RunId) -> None:
        with self._lock:
            self._entries.end_use(run_id)
            self._entries.forget(run_id)

    def check(self, run_id: RunId, spool: Spool, is_cancelled: Callable[[], bool]) -> None:
        """Compares an acquired file with its checksum. Raises CacheDamaged when it differs: the file is dropped and no
        longer in use, but the caller closes the spool. Raises Closing when `is_cancelled`."""
        disk = self._disk
        assert disk is not None, "without a disk nothing must be checked"
        try:
            with_descriptors(lambda: disk.check(run_id, spool, is_cancelled), self._close_idle_spool)
        except CacheDamaged as damage:
            self._drop_damaged(run_id, damage)
            self._forget_used(run_id)
            raise
        with self._lock:
            entry = self._entries.get(run_id)
            if entry is not None:
                self._note_right(entry, spool)

    def new_spool(self, run_id: RunId) -> Spool:
        """An empty spool; in memory without a disk, or when the disk fails. Raises NoSpace."""
        try:
            return with_descriptors(lambda: self._try_new_spool(run_id), self._close_idle_spool)
        except OSError as error:
            raise shortage(error, f"run {run_id}: cannot be spooled") from error

    def _try_new_spool(self, run_id: RunId) -> Spool:
        if self._disk is not None:
            try:
                return self._disk.new_spool(run_id, relieve=self._relieve)
            except OSError as error:
                if error.errno in SHORTAGES:
                    raise
                self._complain(run_id, error)
        return memory_spool(spill_bytes=self._entries.limit_bytes // 2)

    def _relieve(self) -> bool:
        """The disk is full: evicts the least recently used entry. False when none is left."""
        try:
            self._apply_limit()
        except OSError:
            return False
        with self._lock:
            return self._entries.evict()

    def _close_idle_spool(self) -> bool:
        """Drops an idle entry that holds a descriptor. False when there is none."""
        with self._lock:
            return self._entries.drop_spool()

    def commit(self, run_id: RunId, spool: Spool, info: RunInfo, content_type: str, proof: str) -> None:
        """Keeps the complete result of a spool that is in use, unless the spool becomes invalid meanwhile. A failure is
        logged and costs only the caching. `proof` is how the result was proven complete."""
        if info.size > self._entries.limit_bytes:
            return
        try:
            self._apply_limit()
            sidecar = None if self._disk is None else self._disk.describe(spool, info, content_type, proof)
            with self._lock:
                if not spool.is_invalid:
                    self._publish(run_id, spool, info, sidecar)
        except (OSError, CambfsError) as error:
            if self._disk is not None and spool.name is None and spool.trouble is None:
                log.info("run %d: not cached: the mount ended first", run_id)  # which has removed the name
            else:
                self._complain(run_id, error)

    def _complain(self, run_id: RunId, error: OSError | CambfsError) -> None:
        """A failing disk fails for every result: one warning is enough."""
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        level = logging.INFO if reason in self._complaints else logging.WARNING
        self._complaints.add(reason)
        log.log(level, "run %d: cannot be cached: %s", run_id, reason)

    def _publish(self, run_id: RunId, spool: Spool, info: RunInfo, sidecar: Sidecar | None) -> None:
        if self._disk is not None and sidecar is not None:
            stamp_ns = self._disk.stamp_ns()
            self._disk.publish(run_id, spool, sidecar)
            self._note_own_change(stamp_ns)
            self._complaints.clear()
        kept_spool = None if self._disk is not None else spool
        entry = Entry(info.size, True, info, kept_spool, spool.generation, spool.verified_identity)
        self._entries.use(run_id, entry)
        self._entries.make_room()

    def _note_own_change(self, stamp_before_ns: int) -> None:
        """The changes of this process need no new scan."""
        if self._disk is not None and self._stamp_ns == stamp_before_ns:
            self._stamp_ns = self._disk.stamp_ns()

    def release(self, run_id: RunId, spool: Spool, *, whole: bool, info: RunInfo | None) -> None:
        """Ends the use of a spool. The cache owns it from here on, and keeps or closes it."""
        with self._lock:
            entry = self._entries.get(run_id)  # perhaps not this spool: another mount may have been faster
            self._entries.end_use(run_id)
            if entry is not None and entry.whole and entry.spool is None:
                spool.close()
                self._disk_touch(run_id)
                self._entries.keep(run_id, entry)
            elif spool.filled.total and not (whole and self._disk is not None) and not self._is_closed:
                self._entries.keep(run_id, Entry(spool.filled.total, whole, info, spool, spool.generation))
            else:
                self._entries.forget(run_id)
                spool.close()

    def _disk_touch(self, run_id: RunId) -> None:
        if self._disk is not None:
            self._disk.touch(run_id)

    def discard(self, run_id: RunId) -> None:
        """Removes everything of a run, whose bytes are wrong. The caller closes a spool that it acquired."""
        with self._lock:
            self._entries.end_use(run_id)
            self._entries.forget(run_id)
            if self._disk is not None:
                self._disk.remove(run_id)

    def close(self) -> None:
        """Closes all spools that live only as long as the mount, now and at each later `release`."""
        with self._lock:
            self._is_closed = True
            for _, entry in self._entries.items():
                if entry.spool is not None:
                    entry.spool.close()
            self._entries.clear()
