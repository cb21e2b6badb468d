"""Fetches the next results for a program that opens one after the other in the order of the listing.

A folder of names has several orders: that of the runs file, that of the names, and that of the inodes. Two opens in one
of them make a sequence. An open elsewhere ends it, and so do readers that look at the beginning of each result only,
as programs do that collect titles and lengths. What is fetched ahead goes behind everything that a caller waits for
(`transfers/foreground`). It is kept when it is complete, and dropped otherwise.

Threads: callers report their opens; the thread `ahead` follows them, one after the other, so an open does not wait for
it. The lock is a leaf.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property, partial
from threading import Condition, Lock
from typing import Protocol

from cambfs.errors import CambfsError, UnknownRun
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.signer import BULK_MOST
from cambfs.transfers.context import Context

log = logging.getLogger(__name__)

MOST_BYTES = 64 << 20
# A player that skips a track is still likely to play the next one.
_MOST_SKIMMED = 2
# A program that opens two neighbours by chance has opened another result by then.
_NEXT_OPEN_S = 0.05
# A result of a mount with a million runs should not wait for their sorting at each open.
_LIST_AGAIN_S = 10.0


class Run(Protocol):
    """A run in use."""

    def note_in_sequence(self) -> None:
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


class _Order:
    """An order in which programs may open the runs of a listing. Each run is in it once."""

    def __init__(self, runs: Sequence[RunId]) -> None:
        self._runs = runs

    @cached_property
    def places(self) -> Mapping[RunId, int]:
        return {run_id: place for place, run_id in enumerate(self._runs)}

    def step(self, before: RunId | None, run_id: RunId) -> int | None:
        """How far a run is behind another one; None where that is not known."""
        here, there = self.places.get(run_id), None if before is None else self.places.get(before)
        return None if here is None or there is None else here - there

    def behind(self, run_id: RunId, count: int) -> Sequence[RunId]:
        """The next runs."""
        place = self.places.get(run_id)
        return [] if place is None else self._runs[place + 1 : place + 1 + count]


class ReadAhead:
    """Fetches at most `most_results` (0: none) and `most_bytes` ahead of the last open."""

    def __init__(self, owner: Owner, context: Context, most_results: int, most_bytes: Callable[[], int]) -> None:
        self._owner = owner
        self._context = context
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._changed = Condition(Lock())  # guards the next two; notified of each event
        self._events: deque[Callable[[], None]] = deque()
        self._is_following = False
        # Written by the thread that follows; a listing replaces the first two.
        self._orders: Sequence[_Order] = [_Order(())]  # the one that the last sequence had comes first
        self._listed_at = -math.inf
        self._skimmed = 0  # results that were closed one after the other with most of them unread; any thread writes it
        self._last: RunId | None = None
        self._reported: RunId | None = None  # by the last open; any thread writes it
        self._is_in_order = False
        self._ahead: set[RunId] = set()  # fetched, or tried, in this sequence, and not opened yet

    def begin(self, *orders: Sequence[RunId]) -> None:
        """A directory was listed. These are the orders in which programs go through it; the first has all runs."""
        self._orders, self._listed_at = [_Order(runs) for runs in orders], time.monotonic()

    def opened(self, run_id: RunId) -> None:
        """A caller has opened a result. Does not wait."""
        self._context.ahead_counts.opened(run_id)
        if not self._most_results or run_id == self._reported:
            return  # one that is opened again tells nothing new
        self._reported = run_id
        self._pass_on(partial(self._follow, run_id))

    def closed(self, is_skimmed: bool) -> None:
        """A caller has closed a result, of which it may have left out most. Does not wait."""
        self._skimmed = self._skimmed + 1 if is_skimmed else 0
        if self._most_results and self._skimmed == _MOST_SKIMMED:
            self._pass_on(self._end_sequence)

    def _pass_on(self, event: Callable[[], None]) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
            if self._is_following:
                return
            self._is_following = True
        try:
            self._context.workers.start("ahead", self._follow_all)
        except CambfsError as error:
            log.info("nothing is fetched ahead: %s", error)
            with self._changed:
                self._is_following = False

    # In the thread `ahead`.

    def _follow_all(self) -> None:
        while (event := self._next_event()) is not None:
            try:
                event()
            except CambfsError as error:
                log.info("nothing is fetched ahead: %s", error)
            except Exception:
                log.exception("unexpected error while fetching ahead")

    def _next_event(self) -> Callable[[], None] | None:
        with self._changed:
            self._is_following = bool(self._events)
            return self._events.popleft() if self._events else None

    def _end_sequence(self) -> None:
        self._is_in_order = False
        self._drop(set(self._ahead))

    def _follow(self, run_id: RunId) -> None:
        order = self._order_of(run_id)
        step = order.step(self._last, run_id)
        self._ahead.discard(run_id)
        if step is not None and (step == 0 or (self._is_in_order and -self._most_results <= step < 0)):
            return  # opened again, or by one of several readers
        is_next = step is not None and 0 < step <= self._reach()
        is_new, self._is_in_order = not self._is_in_order, is_next and self._skimmed < _MOST_SKIMMED
        self._last = run_id
        wanted = order.behind(run_id, self._most_results) if self._is_in_order else []
        self._drop(self._ahead.difference(wanted))
        if wanted and not (is_new and self._is_opened_again_soon()):
            self._mark(run_id)
            self._fetch(wanted, order.behind(wanted[-1], BULK_MOST - 1))

    def _is_opened_again_soon(self) -> bool:
        """Whether the next open comes so soon that it tells more."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._events), _NEXT_OPEN_S)

    def _reach(self) -> int:
        """How many steps at most the next open of a sequence may be away."""
        return self._most_results if self._is_in_order else 1

    def _order_of(self, run_id: RunId) -> _Order:
        """The order of the last sequence, or where this open leaves that, the one that has it next."""
        orders = self._orders_with(run_id)
        step = orders[0].step(self._last, run_id)
        if step is not None and -self._reach() <= step <= self._reach():
            return orders[0]
        found = next((order for order in orders[1:] if order.step(self._last, run_id) == 1), orders[0])
        if orders is self._orders:
            self._orders = [found, *(order for order in orders if order is not found)]
        return found

    def _orders_with(self, run_id: RunId) -> Sequence[_Order]:
        """The orders of the last listing, which is made again when it is old and has no such run."""
        is_listed = run_id in self._orders[0].places
        if not is_listed and time.monotonic() - self._listed_at > _LIST_AGAIN_S:
            self.begin(self._owner.listed())
        return self._orders

    def _drop(self, run_ids: set[RunId]) -> None:
        self._ahead -= run_ids
        for run_id in run_ids:
            with self._owner.use(run_id) as run:
                run.stop_ahead()

    def _mark(self, run_id: RunId) -> None:
        with self._owner.use(run_id) as run:
            run.note_in_sequence()

    def _fetch(self, wanted: Sequence[RunId], next_ones: Sequence[RunId]) -> None:
        if not self._context.speculation.is_allowed:
            return
        limits = {run_id: limit for run_id, limit in self._limits(wanted) if run_id not in self._ahead}
        self._sign(limits, next_ones)
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

    def _sign(self, run_ids: Iterable[RunId], next_ones: Sequence[RunId]) -> None:
        """A step of a sequence adds one result. Its request has room for the next ones, and saves theirs."""
        api, signer = self._context.api, self._context.signer
        if api.stream_has_length is not False and api.stream_tells_time is not False:
            return  # storage is not asked
        unsigned = [run_id for run_id in run_ids if self._is_unknown(run_id) and signer.fresh(run_id) is None]
        if unsigned:
            unsigned.extend(filter(self._is_unknown, next_ones[: max(BULK_MOST - len(unsigned), 0)]))
            signer.request_many(unsigned)

    def _is_unknown(self, run_id: RunId) -> bool:
        """Whether its size is to be asked for."""
        with suppress(UnknownRun):
            return self._owner.info(run_id) is None
        return False
