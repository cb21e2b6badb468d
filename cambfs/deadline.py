"""A deadline for one caller's wait, and a check whether the caller has been killed.

`run` waits, `retry` repeats requests. Threads: each caller waits in its own. `_Crowd._lock` guards their number; it is
a leaf.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

from cambfs.errors import Cancelled, TimedOut

# A caller that was killed notices within one slice.
SLICE_S = 0.05
# Beyond this number of callers each notices less often. The slices of 1,500 would keep the interpreter busy.
CROWD = 64

T = TypeVar("T")


class _Crowd:
    """The callers that wait for futures."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards the next one
        self._size = 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        self._add(1)
        try:
            yield
        finally:
            self._add(-1)

    def _add(self, change: int) -> None:
        with self._lock:
            self._size += change

    @property
    def slice_s(self) -> float:
        return SLICE_S * max(1.0, self._size / CROWD)


_crowd = _Crowd()


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
        """Waits for the future. Raises as the future, as `check`, or as `meanwhile`, which is called every SLICE_S,
        in a crowd less often."""
        with _crowd.joined():
            while True:
                try:
                    return future.result(timeout=_crowd.slice_s)
                except FutureTimeout:
                    if future.done():
                        return future.result()
                    meanwhile()
                    self.check()
