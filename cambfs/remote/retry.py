"""Whether and when a failed request is repeated.

Not the requests themselves. No threads; `retrying` sleeps in its caller's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from cambfs.errors import CambfsError, Closing, NotRepeated, RemoteError

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 8.0
# Far beyond the longest pause; more would not fit into a float.
_MOST_DOUBLED = 64
# A generator of its own, independent of `random.seed`.
_jitter = random.Random()

T = TypeVar("T")


class Backoff:
    """Pauses that grow, with jitter, until there is progress. Jitter keeps many mounts that failed together from coming
    back together."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._begin_at = time.monotonic()
        self._failures = 0

    def progress(self) -> None:
        """Bytes have arrived: the timeout and the pauses start again."""
        self._begin_at = time.monotonic()
        self._failures = 0

    def pause_s(self, error: CambfsError, *, outlast_outage: bool = False) -> float:
        """How long to wait before the next try. Raises `error` when it is not temporary, or when the next try would
        begin after the timeout; also when the host is down, unless that is to be outlasted."""
        if not error.temporary or (error.down_for_s is not None and not outlast_outage):
            raise error
        ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, _MOST_DOUBLED))
        pause_s = _jitter.uniform(ceiling / 2, ceiling)
        if isinstance(error, RemoteError) and error.retry_after_s is not None:
            pause_s = max(error.retry_after_s, pause_s)
        self._failures += 1
        if time.monotonic() + pause_s - self._begin_at >= self._timeout_s:
            raise error
        return pause_s


def always() -> bool:
    return True


def retrying(call: Callable[[], T], timeout_s: float, closing: Event, is_awaited: Callable[[], bool] = always) -> T:
    """What `call` returns, repeated while it fails temporarily and time is left. Raises its last error, or Closing as
    soon as `closing` is set; NotRepeated in place of a temporary error when no caller waits for the result."""
    backoff = Backoff(timeout_s)
    while True:
        try:
            return call()
        except CambfsError as error:
            if error.temporary and not is_awaited():
                raise NotRepeated(str(error)) from error
            if closing.wait(backoff.pause_s(error)):
                raise Closing("the mount is being unmounted") from error
