"""Fetches the next results for a program that opens one after the other in the order of the listing.

Two opens in that order make a sequence, an open elsewhere ends it. What is fetched ahead goes behind everything that a
caller waits for (`transfers/foreground`). It is kept when it is complete, and dropped otherwise.

Threads: callers report their opens; the thread `ahead` follows them, one after the other, so an open does not wait for
it. `_lock` is a leaf.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from threading import Lock
from typing import Protocol

from cambfs.errors import CambfsError, UnknownRun
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.transfers.context import Context

log = logging.getLogger(__name__)

MOST_BYTES = 64 << 20
# A result of a mount with a million runs should not wait for their sorting at each open.
_LIST_AGAIN_S = 10.0


class Run(Protocol):
    """A run in use."""

    is_in_sequence: bool
    """Its reader opens one result after the other."""

    def fetch_ahead(self, most_bytes: int) -> None:
        """Fetches it before it is opened, unless it is larger. Does not wait. Raises CambfsError."""

    def stop_ahead(self) -> None:
        """It is not expected to be opened any more."""


class Owner(Protocol):
    """The library."""

    def listed(self) -> list[RunId]:
        """The known runs, sorted."""

    def info(self, run_id: RunId) -> RunInfo | None:
        """What is known without waiting. Raises UnknownRun."""

    def is_cached(self, run_id: RunId) -> bool: ...

    def use(self, run_id: RunId) -> AbstractContextManager[Run]:
        """The run is in use until the context is left. Raises Closing."""


class ReadAhead:
    """Fetches at most `most_results` (0: none) and `most_bytes` ahead of the last open."""

    def __init__(self, owner: Owner, context: Context, most_results: int, most_bytes: Callable[[], int]) -> None:
        self._owner = owner
        self._context = context
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._lock = Lock()  # guards the next two
        self._opened: deque[RunId] = deque()
        self._is_following = False
        # Written by the thread that follows; a listing replaces the first two.
        self._listed: Sequence[RunId] = ()
        self._listed_at = -math.inf
        self._places: tuple[Sequence[RunId], Mapping[RunId, int]] = ((), {})  # of one listing
        self._last: RunId | None = None
        self._is_in_order = False
        self._ahead: set[RunId] = set()  # fetched, or tried, in this sequence, and not opened yet

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._listed, self._listed_at = listed, time.monotonic()

    def opened(self, run_id: RunId) -> None:
        """A caller has opened a result. Does not wait."""
        self._context.ahead_counts.opened(run_id)
        if not self._most_results:
            return
        with self._lock:
            self._opened.append(run_id)
            if self._is_following:
                return
            self._is_following = True
        try:
            self._context.workers.start("ahead", self._follow_all)
        except CambfsError as error:
            log.info("nothing is fetched ahead: %s", error)
            self._is_following = False

    # In the thread `ahead`.

    def _follow_all(self) -> None:
        while (run_id := self._next_opened()) is not None:
            try:
                self._follow(run_id)
            except CambfsError as error:
                log.info("run %d: nothing is fetched ahead of it: %s", run_id, error)
            except Exception:
                log.exception("run %d: unexpected error while fetching ahead of it", run_id)

    def _next_opened(self) -> RunId | None:
        with self._lock:
            self._is_following = bool(self._opened)
            return self._opened.popleft() if self._opened else None

    def _follow(self, run_id: RunId) -> None:
        step = self._step_to(run_id)
        self._ahead.discard(run_id)
        if step is not None and (step == 0 or (self._is_in_order and -self._most_results <= step < 0)):
            return  # opened again, or by one of several readers
        reach = self._most_results if self._is_in_order else 1
        self._is_in_order = step is not None and 0 < step <= reach
        self._last = run_id
        wanted = self._next_runs(run_id) if self._is_in_order else []
        self._drop(self._ahead.difference(wanted))
        if self._is_in_order:
            self._mark(run_id)
            self._fetch(wanted)

    def _step_to(self, run_id: RunId) -> int | None:
        """How far it is behind the last one in the listing; None where that is not known."""
        if self._place(run_id) is None and time.monotonic() - self._listed_at > _LIST_AGAIN_S:
            self.begin(self._owner.listed())
        place, last_place = self._place(run_id), None if self._last is None else self._place(self._last)
        return None if place is None or last_place is None else place - last_place

    def _place(self, run_id: RunId) -> int | None:
        listed, places = self._places
        if listed is not self._listed:
            listed = self._listed
            places = {run: place for place, run in enumerate(listed)}
            self._places = listed, places
        return places.get(run_id)

    def _next_runs(self, run_id: RunId) -> Sequence[RunId]:
        listed, places = self._places
        place = places.get(run_id)
        return [] if place is None else listed[place + 1 : place + 1 + self._most_results]

    def _drop(self, run_ids: set[RunId]) -> None:
        self._ahead -= run_ids
        for run_id in run_ids:
            with self._owner.use(run_id) as run:
                run.stop_ahead()

    def _mark(self, run_id: RunId) -> None:
        with self._owner.use(run_id) as run:
            run.is_in_sequence = True

    def _fetch(self, wanted: Sequence[RunId]) -> None:
        if not self._context.speculation.is_allowed:
            return
        limits = {run_id: limit for run_id, limit in self._limits(wanted) if run_id not in self._ahead}
        self._sign([run_id for run_id in limits if self._owner.info(run_id) is None])
        self._ahead.update(limits)
        for run_id, limit in limits.items():
            with self._owner.use(run_id) as run:
                run.fetch_ahead(limit)

    def _limits(self, wanted: Sequence[RunId]) -> Iterator[tuple[RunId, int]]:
        """The runs that are not cached, each with its largest size. Cached runs before it count as well: the cache
        would otherwise evict them for it."""
        left = most = self._most_bytes()
        for run_id in wanted:
            with suppress(UnknownRun):
                info = self._owner.info(run_id)
                limit = most // self._most_results if info is None else info.size
                if limit > left:
                    return
                left -= limit
                if not self._owner.is_cached(run_id):
                    yield run_id, limit

    def _sign(self, run_ids: Sequence[RunId]) -> None:
        api = self._context.api
        if api.stream_has_length is False or api.stream_tells_time is False:  # so storage is asked, too
            self._context.signer.request_many(run_ids)
