"""Fetches the next results for a program that opens one after the other in the order of the listing.

`Sequences` decides which program that is, and this module carries it out. What is fetched ahead goes behind everything
that a caller waits for (`transfers/foreground`). It is kept when it is complete, and dropped otherwise.

Threads: callers report listings, opens and closes; the thread `ahead` follows these events, one after the other, so no
caller waits for it. The lock is a leaf.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from threading import Condition, Lock
from typing import NamedTuple, Protocol

from cambfs.ahead.sequences import OpenSequence, Sequences
from cambfs.errors import CambfsError, UnknownRun
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.signer import BULK_MOST
from cambfs.transfers.context import Context

log = logging.getLogger(__name__)

MOST_BYTES = 64 << 20
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


class _Event(NamedTuple):
    """What a caller did. It `tells_more` about a guess if it may show that the guess is wrong."""

    follow: Callable[[], None]
    tells_more: bool = False


class ReadAhead:
    """Fetches at most `most_results` (0: none) ahead of the last open of each sequence, and `most_bytes` ahead of all
    sequences together."""

    def __init__(self, owner: Owner, context: Context, most_results: int, most_bytes: Callable[[], int]) -> None:
        self._owner = owner
        self._context = context
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._changed = Condition(Lock())  # guards the next two; notified of each event
        self._events: deque[_Event] = deque()
        self._is_following = False
        self._reported: RunId | None = None  # by the last open; any thread writes it
        # Used by the thread that follows.
        self._sequences = Sequences(most_results)
        self._listed_at = -math.inf

    def begin(self, *orders: Sequence[RunId]) -> None:
        """A directory was listed. These are the orders in which programs go through it; the first has all runs."""
        self._pass_on(_Event(partial(self._note_listing, orders)))

    def opened(self, run_id: RunId) -> None:
        """A caller has opened a result. Does not wait."""
        self._context.ahead_counts.opened(run_id)
        if run_id != self._reported:  # one that is opened again tells nothing new
            self._reported = run_id
            self._pass_on(_Event(partial(self._follow_open, run_id), tells_more=True))

    def closed(self, run_id: RunId, is_skimmed: bool) -> None:
        """A caller has closed a result, of which it may have left out most. Does not wait."""
        self._pass_on(_Event(partial(self._follow_close, run_id, is_skimmed), tells_more=is_skimmed))

    def _pass_on(self, event: _Event) -> None:
        if not self._most_results:
            return
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
                event.follow()
            except CambfsError as error:
                log.info("nothing is fetched ahead: %s", error)
            except Exception:
                log.exception("unexpected error while fetching ahead")

    def _next_event(self) -> _Event | None:
        with self._changed:
            self._is_following = bool(self._events)
            return self._events.popleft() if self._events else None

    def _note_listing(self, orders: Sequence[Sequence[RunId]]) -> None:
        self._sequences.listed(orders)
        self._listed_at = time.monotonic()

    def _follow_close(self, run_id: RunId, is_skimmed: bool) -> None:
        self._sequences.closed(run_id, is_skimmed)
        self._drop()

    def _follow_open(self, run_id: RunId) -> None:
        if not self._sequences.is_listed(run_id) and time.monotonic() - self._listed_at > _LIST_AGAIN_S:
            self._note_listing((self._owner.listed(),))
        sequence = self._sequences.opened(run_id)
        self._drop()
        if sequence is not None and not (sequence.is_guess and self._is_more_told_soon()):
            self._fetch(sequence)

    def _is_more_told_soon(self) -> bool:
        """Whether the next open or close comes so soon that a guess can wait for it."""
        with self._changed:
            return self._changed.wait_for(lambda: any(event.tells_more for event in self._events), _NEXT_OPEN_S)

    def _drop(self) -> None:
        for run_id in self._sequences.take_dropped():
            with self._owner.use(run_id) as run:
                run.stop_ahead()

    def _fetch(self, sequence: OpenSequence) -> None:
        wanted = sequence.next_ones(self._most_results)
        if not wanted:
            return
        with self._owner.use(sequence.last) as run:
            run.note_in_sequence()
        share = self._make_room(sequence)
        if self._context.speculation.is_allowed:
            limits = {run: limit for run, limit in self._limits(wanted, share) if not self._sequences.is_ahead(run)}
            self._sign(limits, sequence.next_ones(self._most_results + BULK_MOST - 1)[len(wanted) :])
            sequence.ahead.extend(limits)
            for run_id, limit in limits.items():
                with self._owner.use(run_id) as run:
                    run.fetch_ahead(limit)

    def _make_room(self, sequence: OpenSequence) -> int:
        """How many bytes the sequence may have ahead: all that are not at their end have the same share. What others
        have beyond is dropped."""
        others = [one for one in self._sequences.in_order() if one is not sequence and one.next_ones(1)]
        share = self._most_bytes() // (1 + len(others))
        for other in others:
            self._sequences.keep_ahead(other, {run_id for run_id, _ in self._limits(other.ahead, share)})
        self._drop()
        return share

    def _limits(self, wanted: Sequence[RunId], most: int) -> Iterator[tuple[RunId, int]]:
        """The runs that are not cached, each with its largest size, `most` bytes in all. Cached runs before it count as
        well: the cache would otherwise evict them for it."""
        left = most
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
        unsigned = [run_id for run_id in run_ids if self._is_unknown(run_id) and not signer.is_requested(run_id)]
        if unsigned:
            unsigned.extend(filter(self._is_unknown, next_ones[: max(BULK_MOST - len(unsigned), 0)]))
            signer.request_many(unsigned)

    def _is_unknown(self, run_id: RunId) -> bool:
        """Whether its size is to be asked for."""
        with suppress(UnknownRun):
            return self._owner.info(run_id) is None
        return False
