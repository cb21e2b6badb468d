"""Gives priority to callers that wait for bytes or a size: transfers that work ahead pause meanwhile.

Threads: each caller and each transfer that pauses has its own. The lock is a leaf.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import Protocol

# A reader does not wait between two reads, but still needs the link for the next one.
_QUIET_S = 0.15
_LOOK_S = 0.03


class Awaited(Protocol):
    """A run that callers wait for."""

    @property
    def is_pressing(self) -> bool:
        """Whether transfers that work ahead pause meanwhile. Takes no lock."""

    @property
    def is_open(self) -> bool:
        """Whether its reader may wait again in a moment. Takes no lock."""


class Dispensable(Protocol):
    """A transfer that may work ahead."""

    @property
    def is_dispensable(self) -> bool:
        """No caller waits for it, and it goes on all the same. Takes no lock."""


class Foreground:
    def __init__(self) -> None:
        self._changed = Condition(Lock())  # guards all below; notified when a transfer that pauses should look
        self._waiting: Counter[Awaited] = Counter()
        self._pressed: Awaited | None = None  # the last pressing run that a caller waited for
        self._pressed_at = 0.0

    @contextmanager
    def waiting(self, run: Awaited) -> Iterator[None]:
        """A caller waits for the run until the context is left."""
        with self._changed:
            self._waiting[run] += 1
        try:
            yield
        finally:
            is_pressing = run.is_pressing
            with self._changed:
                self._waiting[run] -= 1
                if not self._waiting[run]:
                    del self._waiting[run]
                if is_pressing:
                    self._pressed, self._pressed_at = run, time.monotonic()

    def pause(self, transfer: Dispensable) -> bool:
        """Returns when the transfer may go on: at once, unless it is dispensable and a caller waits or just waited.
        Returns whether it had to pause."""
        with self._changed:
            has_paused = False
            while transfer.is_dispensable and self._is_busy():
                has_paused = True
                self._changed.wait(_LOOK_S)
            return has_paused

    def look(self) -> None:
        """Call when a transfer may no longer be dispensable."""
        with self._changed:
            self._changed.notify_all()

    def _is_busy(self) -> bool:
        last, is_recent = self._pressed, time.monotonic() - self._pressed_at < _QUIET_S
        is_between_reads = last is not None and is_recent and last.is_open and last.is_pressing
        return is_between_reads or any(run.is_pressing for run in self._waiting)
