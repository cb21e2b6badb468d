"""The callers that wait for something of one run, until it is here, the attempt has failed, or the run has ended.

Threads: callers wait here, in slices. A transfer that has brought bytes lets the readers that it woke run first. The
run's lock, that of `changed`, guards everything: hold it for every method.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, RLock
from typing import TypeVar

from cambfs.deadline import CROWD, SLICE_S, Deadline
from cambfs.errors import CambfsError

# Readers that have their bytes leave much sooner. After this time the transfer goes on anyway.
_HANDOVER_S = 0.005

T = TypeVar("T")


class Waiters:
    """`final_error` is set when the run has ended: no operation succeeds any more."""

    def __init__(self, lock: RLock, changed: Condition) -> None:
        self.final_error: CambfsError | None = None
        self._changed = changed
        self._left = Condition(lock)  # notified whenever a waiter leaves
        self._ready: list[Callable[[], object]] = []  # each returns what its waiter waits for, or None
        self._failures = 0
        self._failure: CambfsError | None = None

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def is_over(self) -> bool:
        """The run has ended."""
        return self.final_error is not None

    def wait(
        self,
        deadline: Deadline,
        ready: Callable[[], T | None],
        want: Callable[[], None],
        progress_at: Callable[[], float],
    ) -> T:
        """Until `ready` has a response; `want` sets going, again and again, what may bring it, and `progress_at` says
        when that last came nearer (time.monotonic seconds). Raises CambfsError."""
        failures = self._failures
        self._ready.append(ready)
        if len(self._ready) == 1:
            self._changed.notify_all()  # a transfer may linger because no caller waited
        try:
            while (value := self._response(ready, failures)) is None:
                want()
                deadline.check(progress_at())
                self._changed.wait(SLICE_S * max(1.0, len(self._ready) / CROWD))
            return value
        finally:
            self._ready.remove(ready)
            self._left.notify_all()

    def _response(self, ready: Callable[[], T | None], failures_before: int) -> T | None:
        self.check()
        if (value := ready()) is not None:
            return value
        if self._failure is not None and self._failures != failures_before:
            raise self._failure.with_traceback(None)
        return None

    def check(self) -> None:
        """Raises the final error, if there is one."""
        if self.final_error is not None:
            raise self.final_error.with_traceback(None)

    def fail(self, error: CambfsError) -> None:
        """All waiting callers share this failure."""
        self._failures += 1
        self._failure = error

    def end(self, error: CambfsError) -> None:
        """All waiting and later callers get this error, unless an earlier one ended the run."""
        self.final_error = self.final_error or error

    def wake(self) -> None:
        """Something has arrived. A waiter that is woken in vain takes the interpreter from the transfer."""
        if self._is_any_ready():
            self._changed.notify_all()

    def yield_to_readers(self) -> None:
        """Lets the readers that were just woken run first. A transfer that never sleeps keeps the interpreter for a
        time slice of some milliseconds."""
        self._left.wait_for(lambda: not self._is_any_ready(), _HANDOVER_S)

    def _is_any_ready(self) -> bool:
        return any(ready() is not None for ready in self._ready)
