"""All the runs of one mount: which there are, what is known of them, and who has them in use.

Not one run's bytes (`run`), nor names and attributes (`tree`). Callers' threads come in here; `close` ends the threads
that work for the runs. `_lock` guards the tables; under it only the cache is locked (the order of locks: see `run`).
"""

from __future__ import annotations

import logging
import math
import time
from array import array
from collections.abc import Callable, Sequence
from threading import Condition, Event, Lock
from typing import cast

from cachetools import TTLCache

from cambfs.cache.cache import Cache
from cambfs.errors import CambfsError, Closing, UnknownRun
from cambfs.model import Facts
from cambfs.names import RunId
from cambfs.remote.object_store import Storage
from cambfs.remote.signer import Signature, Signer
from cambfs.remote.source import Source
from cambfs.runs.commit_queue import Keeping
from cambfs.runs.deadline import Patience
from cambfs.runs.downloader import Habits, Means
from cambfs.runs.handle import Handle
from cambfs.runs.lookahead import Ahead
from cambfs.runs.run import Run
from cambfs.runs.slots import Slots
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

# A run that the API does not know is not asked for again so soon; it may come to be, so not much later either.
_UNKNOWN_FOR_S = 5.0
# Unmounting waits so long for transfers to end; what is left then ends with the process.
_CLOSE_S = 1.0


class Library:
    """`declared` gives the runs that the user named. `close` must be called at the end."""

    def __init__(
        self,
        source: Source,
        cache: Cache,
        declared: Callable[[], Sequence[RunId]] = tuple,
        *,
        timeout_s: float = 30.0,
        max_transfers: int = 64,
        max_result_bytes: int = 4 << 30,
    ) -> None:
        self.timeout_s = timeout_s
        self._closing = Event()
        self._ending = Lock()  # held while all is ended, before any other
        self._cache = cache
        self._declared = declared
        workers = Workers()
        self._signer = Signer(source, workers, timeout_s, self._closing)
        storage = Storage(source, self._signer, timeout_s, self._closing)
        self._means = Means(
            source,
            storage,
            cache,
            Slots(max_transfers),
            Habits(),
            workers,
            Keeping(workers, self._closing),
            timeout_s,
            max_result_bytes,
        )
        self._lock = Condition()  # guards all below; notified when a worker ends
        self._workers = 0
        self._runs: dict[RunId, Run] = {}
        self._detached: dict[RunId, list[Run]] = {}  # those of them that are in use still
        self._facts: dict[RunId, Facts | None] = {}  # None where what was said is known to be wrong
        self._believed: set[RunId] = set()  # of these facts, those that stand and fall with storage
        self._opened_serials: dict[RunId, int] = {}
        self._unknown: TTLCache[RunId, CambfsError] = TTLCache(math.inf, _UNKNOWN_FOR_S, timer=time.monotonic)
        self._listing: dict[RunId, int] = {}
        self._sizes_ahead = Ahead()
        self._urls_ahead = Ahead()

    def facts(self, run_id: RunId) -> Facts | None:
        """What is known without waiting; None when the size is not. Raises UnknownRun when the API just said so."""
        with self._lock:
            self._doubt(run_id)
            if (known := self._facts.get(run_id)) is not None:
                return known
            if (cached := self._cache.facts(run_id)) is not None:
                self._facts[run_id] = cached
                return cached
            self._check_unknown(run_id)
            return None

    def _doubt(self, run_id: RunId) -> None:
        if run_id in self._believed and self._means.storage.distrusted:
            self._believed.discard(run_id)
            self._facts[run_id] = None

    def was_said(self, run_id: RunId) -> bool:
        """Whether a size of the run was ever told in this mount, even if it is not known now."""
        with self._lock:
            return run_id in self._facts

    def wait_for_facts(self, run_id: RunId, patience: Patience) -> Facts:
        """The exact size, asked for where it is not known. Raises CambfsError."""
        known = self.facts(run_id)
        if known is not None:
            return known
        self._ask_ahead(run_id)
        run = self._use(run_id)
        try:
            return run.facts(patience)
        finally:
            self.let_go(run)

    def open(self, run_id: RunId, patience: Patience) -> Handle:
        """Opens a result as soon as it is known that there is audio; the stream is asked for at once. Raises
        CambfsError."""
        if self._cache.facts(run_id) is None:
            with self._lock:
                self._check_unknown(run_id)
        run = self._use(run_id)
        if not run.is_unchanged():
            self.let_go(run)
            run = self._use(run_id)
        try:
            run.open(patience)
        except BaseException:
            self.let_go(run)
            raise
        serial = run.serial
        with self._lock:
            beside_other = run_id in self._detached
            same_bytes = self._opened_serials.get(run_id) == serial and not beside_other
            self._opened_serials[run_id] = -1 if beside_other else serial
        return Handle(run, self.let_go, same_bytes=same_bytes, beside_other=beside_other)

    def signature(self, run_id: RunId, patience: Patience) -> Signature:
        """The run's file_url answer, asked for anew when the last one does not hold long enough. Raises CambfsError."""
        self._check_open()
        fresh = self._signer.fresh(run_id)
        if fresh is not None:
            return fresh
        with self._lock:
            self._check_unknown(run_id)
        self._ask_ahead_for_urls(run_id)
        try:
            return patience.result(self._signer.request(run_id), self._check_open)
        except UnknownRun as error:
            self._note_unknown(run_id, error)
            raise

    def fresh_signature(self, run_id: RunId) -> Signature | None:
        """What `signature` would give without a request; None when there would be one."""
        return self._signer.fresh(run_id)

    def listed(self) -> list[RunId]:
        """The runs that are known, in their order: cached, declared, or found in this mount; without those that the API
        just did not know."""
        declared = self._declared()
        with self._lock:
            found = {run_id for run_id, facts in self._facts.items() if facts is not None}
            found.update(self._opened_serials, declared)
            found.difference_update(self._unknown)
            found.update(self._cache.runs())
            return sorted(found)

    def begin_listing(self) -> list[RunId]:
        """What `listed` gives, for somebody who is about to go through it."""
        listed = self.listed()
        # A fifth of the memory that a list of them takes, for it stays.
        compact = cast("Sequence[RunId]", array("Q", listed))
        with self._lock:
            self._sizes_ahead.begin(compact)
            self._urls_ahead.begin(compact)
        return listed

    def known_bytes(self) -> int:
        """The sizes that are known, added up."""
        with self._lock:
            return sum(facts.size for facts in self._facts.values() if facts is not None)

    # Sizes ahead of a reader who goes through the listing.

    def _ask_ahead(self, run_id: RunId) -> None:
        """Reading attributes of one listed run after the other asks for those that come next as well, in bulk; a look
        at a single one does not."""
        with self._lock:
            wanted = self._sizes_ahead.window(run_id, self._is_answered)
        if not wanted:
            return
        self._signer.request_many(wanted)
        for wanted_id in wanted:
            run = self._use(wanted_id)
            run.want_probe()
            self.let_go(run)

    def _is_answered(self, run_id: RunId) -> bool:
        return self._facts.get(run_id) is not None or run_id in self._unknown or self._cache.facts(run_id) is not None

    def _ask_ahead_for_urls(self, run_id: RunId) -> None:
        with self._lock:
            wanted = self._urls_ahead.window(run_id, lambda run: self._signer.fresh(run) is not None)
        self._signer.request_many(wanted)

    # Runs in use (they know this as their owner).

    def _use(self, run_id: RunId) -> Run:
        with self._lock:
            self._check_open()
            run = self._runs.get(run_id)
            if run is None:
                self._doubt(run_id)
                facts, is_believed = self._facts.get(run_id), run_id in self._believed
                run = self._runs[run_id] = Run(run_id, self._means, self, facts, is_believed)
            run.users += 1
            return run

    def let_go(self, run: Run) -> None:
        """Ends one use of a run; after the last one, what was fetched goes to the cache."""
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

    def worker_begins(self, run: Run) -> None:
        with self._lock:
            run.users += 1
            self._workers += 1

    def worker_ends(self, run: Run) -> None:
        self.let_go(run)
        with self._lock:
            self._workers -= 1
            self._lock.notify_all()

    def learn(self, run_id: RunId, facts: Facts | None, is_believed: bool) -> None:
        with self._lock:
            self._facts[run_id] = facts
            if is_believed:
                self._believed.add(run_id)
            else:
                self._believed.discard(run_id)

    def detach(self, run: Run, error: CambfsError) -> None:
        with self._lock:
            if self._runs.get(run.id) is run:  # not when whoever has it open meets the damage once more
                log.warning("run %d: fetched anew at the next open: %s", run.id, error)
                del self._runs[run.id]
                self._detached.setdefault(run.id, []).append(run)
                self._facts[run.id] = None
                self._cache.discard(run.id)
                self._means.storage.forget(run.id)

    def failed(self, run: Run, error: CambfsError) -> None:
        if isinstance(error, UnknownRun):
            self._note_unknown(run.id, error)

    def _note_unknown(self, run_id: RunId, error: CambfsError) -> None:
        with self._lock:
            self._unknown[run_id] = error

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise Closing("the mount is being unmounted")

    def _check_unknown(self, run_id: RunId) -> None:
        error = self._unknown.get(run_id)
        if error is not None:
            raise error.with_traceback(None)

    def wait_until_kept(self, timeout_s: float) -> None:
        """Returns when nothing is being fetched or put into the cache any more, or after the timeout."""
        with self._lock:
            self._lock.wait_for(lambda: not self._workers, timeout_s)

    def close(self) -> None:
        """Ends all transfers and waits for them, at most 1 s; every operation fails from here on. Whole results are in
        the cache afterwards, and nothing else. Only the first call does anything; others wait for it."""
        with self._ending:
            if not self._closing.is_set():
                self._end_all()
                self._cache.close()

    def _end_all(self) -> None:
        with self._lock:
            self._closing.set()
            runs = list(self._runs.values())
        for run in runs:
            run.stop(Closing("the mount is being unmounted"))
        with self._lock:
            self._lock.wait_for(lambda: not self._workers, _CLOSE_S)
            runs = [*self._runs.values(), *(run for detached in self._detached.values() for run in detached)]
        for run in runs:  # nobody closes what is open still when the mount ends
            run.leave_disk()
