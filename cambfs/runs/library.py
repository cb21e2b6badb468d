"""All runs of one mount: their sizes, and the runs that are in use.

Not one run's bytes (`run`), nor names and attributes (`tree`). Threads: callers come in here; `close` ends the threads
that work for the runs. `_lock` guards the tables; under it only the cache is locked, and what is a leaf (for the order
of locks see `intake`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock

from cambfs.ahead.lookups import Lookups
from cambfs.ahead.read_ahead import MOST_BYTES, ReadAhead
from cambfs.cache.unknown import UnknownRuns
from cambfs.cache.usage import CacheUsage
from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Closing, NotRepeated, UnknownRun
from cambfs.model import Arrived, Progress, RunInfo
from cambfs.names import RunId
from cambfs.remote.signer import Signature
from cambfs.runs.handle import Handle, Lease
from cambfs.runs.run import Run
from cambfs.transfers.ahead_counts import ReadAheadCounts
from cambfs.transfers.context import Context

log = logging.getLogger(__name__)


class Library:
    """`declared` returns the runs that the user named. `read_ahead` is how many results are fetched ahead. Call `close`
    at the end."""

    def __init__(self, context: Context, declared: Callable[[], Sequence[RunId]] = tuple, read_ahead: int = 0) -> None:
        self.timeout_s = context.timeout_s
        self._context = context
        self._cache = context.cache
        self._signer = context.signer
        self._declared = declared
        self._ending = Lock()  # held while the library closes; taken before any other lock
        self._lock = Lock()  # guards all below
        self._runs: dict[RunId, Run] = {}
        self._detached: dict[RunId, list[Run]] = {}  # replaced by a newer version, but still in use
        self._info: dict[RunId, RunInfo | None] = {}  # None where the size that was reported is wrong
        self._unverified: set[RunId] = set()  # of these facts, those that stand and fall with storage
        self._opened_generations: dict[RunId, int] = {}
        self._unknown = UnknownRuns(context.tuning.unknown_for_s)
        self._declared_last = declared()
        self._lookups = Lookups(self, context)
        # Half of the cache: what is fetched ahead must not evict itself, nor the result that is being read.
        self._read_ahead = ReadAhead(self, context, read_ahead, lambda: min(MOST_BYTES, context.cache.limit_bytes // 2))

    def info(self, run_id: RunId) -> RunInfo | None:
        """What is known without waiting; None when the size is not. Raises UnknownRun when the API just said so."""
        self._lookups.known_size_read(run_id)
        with self._lock:
            self._doubt(run_id)
            if (known := self._info.get(run_id)) is not None:
                return known
            if (cached := self._cache.info(run_id)) is not None:
                self._info[run_id] = cached
                return cached
            self._unknown.check(run_id)
            return None

    def is_cached(self, run_id: RunId) -> bool:
        """Whether the whole result is kept, so that reading it costs no request."""
        return self._cache.info(run_id) is not None

    def _doubt(self, run_id: RunId) -> None:
        if run_id in self._unverified and self._context.store.trust.distrusted:
            self._unverified.discard(run_id)
            self._info[run_id] = None

    def _shared_info(self, run_id: RunId) -> RunInfo | None:
        for known_id, info in self._lookups.shared_by_others(run_id).items():
            self.learn(known_id, info, is_unverified=False)
        return self.info(run_id)

    def was_reported(self, run_id: RunId) -> bool:
        """Whether this mount has ever reported a size of the run."""
        with self._lock:
            return run_id in self._info

    def wait_for_info(self, run_id: RunId, deadline: Deadline) -> RunInfo:
        """Waits for the exact size, and asks for it if necessary. Raises CambfsError."""
        known = self.info(run_id) or self._shared_info(run_id)
        if known is not None:
            return known
        is_open_likely = self._lookups.unknown_size_read(run_id)
        with self.use(run_id) as run:
            if is_open_likely:
                run.expect_open()
            return run.info(deadline)

    def wait_for_head(self, run_id: RunId, deadline: Deadline) -> tuple[RunInfo, bytes]:
        """As `wait_for_info`, and the first HEAD_BYTES of the result (all of a shorter one) beside it."""
        if self.info(run_id) is None:
            self._lookups.unknown_size_read(run_id)
        with self.use(run_id) as run:
            return run.info(deadline), run.head(deadline)

    def open(self, run_id: RunId, deadline: Deadline, *, for_size: bool = False) -> Handle:
        """Starts the download and returns as soon as the first audio or its headers are here. Nothing is fetched ahead
        of one that is opened `for_size`, as for a `stat`. Raises CambfsError."""
        if self._cache.info(run_id) is None:
            with self._lock:
                self._unknown.check(run_id)
        lease = self._lease_of(run_id)
        if not lease.run.is_unchanged():
            with lease:
                lease = self._lease_of(run_id)
        try:
            lease.run.open(deadline)
        except BaseException:
            with lease:
                raise
        generation = lease.run.generation
        with self._lock:
            beside_other = run_id in self._detached
            same_bytes = self._opened_generations.get(run_id) == generation and not beside_other
            self._opened_generations[run_id] = -1 if beside_other else generation
            self._unknown.found(run_id)
        if not for_size:
            self._lookups.opened(run_id)
            self._read_ahead.opened(run_id)
        closed = _ignored if for_size else partial(self._read_ahead.closed, run_id)
        return Handle(lease, closed, same_bytes=same_bytes, beside_other=beside_other)

    def signature(self, run_id: RunId, deadline: Deadline) -> Signature:
        """The run's file_url response, asked for anew when the last one does not hold long enough. Raises
        CambfsError."""
        self._check_open()
        fresh = self._signer.fresh(run_id)
        if fresh is not None:
            return fresh
        with self._lock:
            self._unknown.check(run_id)
        self._lookups.expect_url(run_id)
        try:
            signature = self._awaited_signature(run_id, deadline)
        except UnknownRun as error:
            self._note_unknown(run_id, error)
            raise
        with self._lock:
            self._unknown.found(run_id)
        return signature

    def _awaited_signature(self, run_id: RunId, deadline: Deadline) -> Signature:
        is_waiting = True
        try:
            while True:
                with suppress(NotRepeated):  # it was requested ahead, or for a caller that has left
                    return deadline.result(self._signer.request(run_id, lambda: is_waiting), self._check_open)
        finally:
            is_waiting = False

    def fresh_signature(self, run_id: RunId) -> Signature | None:
        """What `signature` returns without a request; None when it needs one."""
        self._lookups.known_url_read(run_id)
        return self._signer.fresh(run_id)

    def listed(self) -> list[RunId]:
        """The known runs, sorted: cached, declared or found in this mount, without those that the API did not know when
        it was last asked. A change of the declared runs brings these back, and so does an open."""
        declared = self._declared()
        with self._lock:
            self._note_declared(declared)
            found = {run_id for run_id, info in self._info.items() if info is not None}
            found.update(self._opened_generations, declared)
            self._unknown.remove_from(found)
            found.update(self._cache.runs())
            return sorted(found)

    def _note_declared(self, declared: Sequence[RunId]) -> None:
        # Cheap as long as it is the same object; a young file is read again and again.
        if declared is not self._declared_last and declared != self._declared_last:
            self._unknown.clear()
        self._declared_last = declared

    def with_url(self, listed: Sequence[RunId]) -> Container[RunId]:
        """Those of the listed runs whose `.url` can be had: all, or, while the API cannot be reached, those whose URL
        holds still."""
        to_ask = next((run_id for run_id in listed if self._signer.fresh(run_id) is None), None)
        if to_ask is None or self._context.outlook.is_api_there(to_ask):
            return set(listed)
        return {run_id for run_id in listed if self._signer.fresh(run_id) is not None}

    def begin_listing(self) -> list[RunId]:
        """As `listed`, at the beginning of a directory listing."""
        listed = self.listed()
        self.expect(listed)
        return listed

    def expect(self, runs: Sequence[RunId], *other_orders: Sequence[RunId]) -> None:
        """Notes that a directory or playlist with these runs, each once, was read: a program may now go through them
        in this order, or in one of the others."""
        self._lookups.begin(runs)
        self._read_ahead.begin(runs, *other_orders)

    def cached_or_in_use(self) -> set[RunId]:
        """The runs that are cached as a whole or in use. It costs far less than `arrived` for each of many runs."""
        with self._lock:
            return {*self._cache.runs(), *self._runs}

    def arrived(self, run_id: RunId) -> Arrived | None:
        """What is here of a run; None when nothing is."""
        cached = self._cache.arrived(run_id)
        if cached is not None and cached.is_cached:
            return cached
        with self._lock:
            run = self._runs.get(run_id)
            if run is None:
                return cached
            run.users += 1  # its bytes could be closed meanwhile
        with Lease(run, self._release):
            return run.arrived()

    def progress(self) -> list[Progress]:
        """The results that are being downloaded."""
        with self._lock:
            runs = list(self._runs.values())
        return [progress for run in runs if (progress := run.progress()) is not None]

    def read_ahead_counts(self) -> ReadAheadCounts:
        return self._context.ahead_counts.counts()

    def cache_usage(self) -> CacheUsage:
        return self._cache.usage()

    def known_bytes(self) -> int:
        """The sizes that are known, added up."""
        with self._lock:
            return sum(info.size for info in self._info.values() if info is not None)

    def is_answered(self, run_id: RunId) -> bool:
        """Whether a look at the run needs no request."""
        with self._lock:
            is_known = self._info.get(run_id) is not None or self._unknown.fails(run_id)
        return is_known or self._cache.info(run_id) is not None

    # Runs in use. Runs call these methods, too, as their owner.

    @contextmanager
    def use(self, run_id: RunId) -> Iterator[Run]:
        with self._lease_of(run_id) as lease:
            yield lease.run

    def _lease_of(self, run_id: RunId) -> Lease:
        with self._lock:
            self._check_open()
            run = self._runs.get(run_id)
            if run is None:
                self._doubt(run_id)
                info, is_unverified = self._info.get(run_id), run_id in self._unverified
                run = self._runs[run_id] = Run(run_id, self._context, self, info, is_unverified)
            run.users += 1
            return Lease(run, self._release)

    def lease(self, run: Run) -> Lease:
        """Another use of a run that is in use."""
        with self._lock:
            run.users += 1
        return Lease(run, self._release)

    def _release(self, run: Run) -> None:
        """After the last use, what was fetched goes to the cache."""
        with self._lock:
            run.users -= 1
            if run.users:
                return
            if self._runs.get(run.id) is run:
                del self._runs[run.id]
            self._forget_detached(run)
            run.retire()

    def _forget_detached(self, run: Run) -> None:
        others = [other for other in self._detached.pop(run.id, []) if other is not run]
        if others:
            self._detached[run.id] = others

    def learn(self, run_id: RunId, info: RunInfo | None, is_unverified: bool) -> None:
        with self._lock:
            self._info[run_id] = info
            if info is not None:
                self._unknown.found(run_id)
            if is_unverified:
                self._unverified.add(run_id)
            else:
                self._unverified.discard(run_id)

    def detach(self, run: Run, error: CambfsError) -> None:
        with self._lock:
            if self._runs.get(run.id) is run:  # not when a reader of an open file meets the same damage again
                log.warning("run %d: fetched anew at the next open: %s", run.id, error)
                del self._runs[run.id]
                self._detached.setdefault(run.id, []).append(run)
                self._info[run.id] = None
                self._cache.discard(run.id)
                self._context.store.forget(run.id)

    def failed(self, run: Run, error: CambfsError) -> None:
        if isinstance(error, UnknownRun):
            self._note_unknown(run.id, error)

    def _note_unknown(self, run_id: RunId, error: CambfsError) -> None:
        with self._lock:
            self._unknown.add(run_id, error)

    def _check_open(self) -> None:
        if self._context.closing.is_set():
            raise Closing("the mount is being unmounted")

    @property
    def in_use(self) -> set[RunId]:
        """The runs that are open, that a caller waits for, or that a transfer works for."""
        with self._lock:
            return {*self._runs, *self._detached}

    def wait_until_kept(self, timeout_s: float) -> None:
        """Returns when nothing is being fetched or put into the cache any more, or after the timeout."""
        self._context.workers.wait_idle(timeout_s)

    def close(self) -> None:
        """Ends all transfers and waits for them, at most 1 s; every operation fails from here on. Whole results are in
        the cache afterwards, and nothing else. Only the first call does anything; others wait for it."""
        with self._ending:
            if not self._context.closing.is_set():
                self._end_all()
                self._cache.close()

    def _end_all(self) -> None:
        with self._lock:
            self._context.closing.set()
            runs = list(self._runs.values())
        for run in runs:
            run.stop(Closing("the mount is being unmounted"))
        self._context.workers.wait_idle(self._context.tuning.close_s)
        with self._lock:
            runs = [*self._runs.values(), *(run for detached in self._detached.values() for run in detached)]
        for run in runs:  # open files are not closed when the mount ends
            run.unlink()


def _ignored(_is_skimmed: bool) -> None:
    """Programs have not opened such a result."""
