"""Limits how many transfers run at a time: first come, first served. Stalled and unwanted transfers do not count.

A transfer that no caller wants yet is requested when the one that runs will have ended by the time its response begins.
Earlier, it would only share the link. TCP does not find the rate of a link while another connection fills it: one of
the two would stay slow for long, and its result may be the next to be read.

Threads: the thread of each transfer waits here for its turn, at an event of its own. So a thousand waiting transfers
wake a thousand times in all, and not at each change. The lock is a leaf.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock
from typing import Protocol

from cambfs.errors import Closing
from cambfs.transfers.foreground import Foreground
from cambfs.transfers.link import Link

# More of them would need more connections, which are slow at first.
_MOST_WITH_AHEAD = 2
# Two at once for a moment cost less than a link that is idle.
_EARLY = 1.25


class Turn(Protocol):
    """A transfer, as far as the queue knows it."""

    @property
    def received_at(self) -> float:
        """When bytes last came, or it began to wait for them, in time.monotonic seconds."""

    @property
    def brought_at(self) -> float:
        """When bytes last came; 0 before the first."""

    @property
    def left_s(self) -> float:
        """How long it will take from now on; infinite where that is not known."""

    @property
    def is_wanted(self) -> bool: ...

    @property
    def stopping(self) -> bool: ...


class _Place:
    """One place in the queue. `look` is set when it may be its turn, or its transfer is stopped."""

    def __init__(self, transfer: Turn) -> None:
        self.transfer = transfer
        self.look = Event()


class Slots:
    def __init__(self, limit: int, stalled_after_s: float = 1.0, look_every_s: float = 0.01) -> None:
        """A transfer that has brought nothing for `stalled_after_s` does not keep the others waiting. The first of them
        gets no signal when one stalls, or is about to end, so it looks every `look_every_s`."""
        self.foreground = Foreground()
        self.link = Link()
        self._limit = limit
        self._stalled_after_s = stalled_after_s
        self._look_every_s = look_every_s
        self._lock = Lock()  # guards all below
        self._running: dict[Turn, float] = {}  # each with the time at which its turn began
        self._queue: deque[_Place] = deque()
        self._brought_at = 0.0  # of those whose turn is over

    def join(self, transfer: Turn) -> None:
        """Takes a place in the queue, for a transfer whose thread is about to start. Threads start in any order."""
        with self._lock:
            self._queue.append(_Place(transfer))

    def leave(self, transfer: Turn) -> None:
        """Its thread could not be started."""
        with self._lock:
            self._queue.remove(self._place_of(transfer))
            self._wake_first()

    @contextmanager
    def turn(self, transfer: Turn) -> Iterator[None]:
        """Waits for the turn of a transfer that has joined, and holds it. Raises Closing when the transfer is stopped
        meanwhile."""
        with self._lock:
            place = self._place_of(transfer)
        try:
            self._await(place)
        finally:
            with self._lock:
                self._queue.remove(place)
                self._wake_first()
        try:
            yield
        finally:
            with self._lock:
                del self._running[transfer]
                self._brought_at = max(self._brought_at, transfer.brought_at)
                self._wake_first()

    @property
    def waiting(self) -> int:
        """How many transfers wait for their turn."""
        with self._lock:
            return len(self._queue)

    @property
    def running(self) -> int:
        """How many transfers have their turn. Without the lock."""
        return len(self._running)

    def is_left_to(self, own: int) -> bool:
        """Whether callers want no transfers but the `own` ones of one run, and one more would leave a slot free."""
        with self._lock:
            return sum(one.is_wanted for one in self._running) <= own < self._limit - 1

    @property
    def progress_at(self) -> float:
        """When any transfer last brought bytes (time.monotonic seconds); 0 when none has."""
        with self._lock:
            return max([self._brought_at, *(running.brought_at for running in self._running)])

    def look(self, transfer: Turn) -> None:
        """Call when a transfer is stopped, or is no longer wanted: it or another one may wait for its turn."""
        with self._lock:
            for place in self._queue:
                if place.transfer is transfer:
                    place.look.set()
            self._wake_first()
        self.foreground.look()

    def _place_of(self, transfer: Turn) -> _Place:
        return next(place for place in self._queue if place.transfer is transfer)

    def _await(self, place: _Place) -> None:
        while not self._enter(place):
            with self._lock:
                is_first = self._first() is place
            place.look.wait(self._look_every_s if is_first else None)
            place.look.clear()

    def _enter(self, place: _Place) -> bool:
        with self._lock:
            if place.transfer.stopping:
                raise Closing("stopped before its turn")
            if self._first() is not place or self._busy_for(place.transfer) >= self._limit:
                return False
            self._running[place.transfer] = time.monotonic()
            return True

    def _first(self) -> _Place:
        return next((place for place in self._queue if place.transfer.is_wanted), self._queue[0])

    def _busy_for(self, transfer: Turn) -> int:
        since = time.monotonic() - self._stalled_after_s
        moving = [one for one, began in self._running.items() if max(one.received_at, began) > since]
        if transfer.is_wanted:
            return sum(one.is_wanted for one in moving)
        left_s = sum(one.left_s for one in moving)
        is_about_to_end = len(moving) < _MOST_WITH_AHEAD and left_s <= _EARLY * self.link.begins_s
        return len(self._running) if is_about_to_end else self._limit

    def _wake_first(self) -> None:
        if self._queue:
            self._first().look.set()
