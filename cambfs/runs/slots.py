"""How many transfers run at a time: first come, first served; one that has stalled does not count.

Not what a transfer does. Threads: each transfer's own thread waits here for its turn. The one lock is a leaf: nothing
else is locked under it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Protocol

from cambfs.errors import Closing

# A transfer that has brought nothing for so long does not keep the others waiting.
STALLED_AFTER_S = 1.0
# How often the first of those who wait looks whether a running transfer has stalled: nobody tells it.
_LOOK_EVERY_S = 0.1


class Turn(Protocol):
    """What is known of a transfer here."""

    @property
    def received_at(self) -> float:
        """When bytes last came, in time.monotonic seconds."""

    @property
    def stopping(self) -> bool: ...


class Slots:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._changed = Condition()  # guards the two below
        self._running: set[Turn] = set()
        self._queue: deque[Turn] = deque()

    @contextmanager
    def turn(self, transfer: Turn) -> Iterator[None]:
        """Waits for the transfer's turn and holds it. Raises Closing when the transfer is told to stop meanwhile."""
        with self._changed:
            self._queue.append(transfer)
            try:
                while not self._is_next(transfer):
                    if transfer.stopping:
                        raise Closing("stopped before its turn")
                    self._changed.wait(_LOOK_EVERY_S if self._queue[0] is transfer else None)
                self._running.add(transfer)
            finally:
                self._queue.remove(transfer)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._running.discard(transfer)
                self._changed.notify_all()

    def look(self) -> None:
        """A transfer has been told to stop; perhaps it waits here."""
        with self._changed:
            self._changed.notify_all()

    def _is_next(self, transfer: Turn) -> bool:
        since = time.monotonic() - STALLED_AFTER_S
        busy = sum(running.received_at > since for running in self._running)
        return self._queue[0] is transfer and busy < self._limit
