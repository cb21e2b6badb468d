"""A deadline for one caller's wait, and a check whether the caller has been killed.

`run` waits, `retry` repeats requests. No threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TypeVar

from cambfs.errors import Cancelled, TimedOut

# A caller that was killed notices within one slice.
SLICE_S = 0.05

T = TypeVar("T")


class Deadline:
    """One operation's deadline, made when the operation begins. `is_cancelled` is called every SLICE_S, and says
    whether the caller was killed."""

    def __init__(self, timeout_s: float, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        self.timeout_s = timeout_s
        self._is_cancelled = is_cancelled
        self._since = time.monotonic()

    def lasting(self, timeout_s: float) -> Deadline:
        """The deadline of the same caller, from now on, with another timeout."""
        return Deadline(timeout_s, self._is_cancelled)

    def check(self, progress_at: float = 0.0) -> None:
        """Raises Cancelled when the caller is gone, TimedOut when neither the operation's beginning nor `progress_at`
        (time.monotonic seconds) lies within the timeout."""
        if self._is_cancelled():
            raise Cancelled("the caller was killed")
        if time.monotonic() - max(self._since, progress_at) > self.timeout_s:
            raise TimedOut(f"no progress for {self.timeout_s:g} s")

    def result(self, future: Future[T], meanwhile: Callable[[], None] = lambda: None) -> T:
        """Waits for the future. Raises as the future, as `check`, or as `meanwhile`, which is called every SLICE_S."""
        while True:
            try:
                return future.result(timeout=SLICE_S)
            except FutureTimeout:
                if future.done():
                    return future.result()
                meanwhile()
                self.check()
