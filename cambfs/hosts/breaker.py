"""Circuit breakers, one for each origin. A request to an origin that is down fails at once instead of waiting.

One `Breaker` an origin; origins do not share their fate. A breaker is closed as long as the origin answers. A request
that fails because nothing answers opens it: for some seconds every other request fails at once, with the same class of
error. Then it is half open: the next request tries, and the others still fail at once. If its response takes as long
as a pause, another one tries, too: the first may be about a result that is stuck. A response of any status closes the
breaker. No request that is under way is disturbed. The only request made for a breaker's sake is the check that
`exchange` makes after a silence: a few stuck results must not make all other requests fail.

Threads: any. `Breaker._lock` and `Breakers._lock` are leaves. Neither is held while a request is under way.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache

from cambfs.errors import ConnectTimedOut, LinkError, TimedOut, Unreachable
from cambfs.hosts.origins import Origin

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 30.0
# A failure that is faster than this costs little: such an origin is tried every few seconds.
_QUICK_S = 1.0
# The API, its storage, and hosts that they redirect to: a few. A limit, in case a server invents host names.
_ORIGINS_KEPT = 64
# So many results in a row may be stuck. Each of them costs its caller the timeout.
_MOST_STUCK = 3
_jitter = random.Random()


@dataclass(frozen=True)
class OriginState:
    """State of one origin, without secrets. `origin` is scheme://host[:port]. `reason` says why it is down, or is "".
    `seconds_left` is the time until the next trial, 0 if the next request is one."""

    origin: str
    is_open: bool
    reason: str
    seconds_left: float


class Breaker:
    """The breaker of one origin. `clock` counts seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_at = float("-inf")  # when it last sent anything; one word, written by any thread
        self._lock = Lock()  # guards all below
        self._failure: LinkError | None = None  # why it is open; None while it is closed
        self._reason = ""
        self._retry_at = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._trials = 0  # how many requests try
        self._tried_at = 0.0  # when the last of them began
        self._responded_at = float("-inf")
        self._silent_at = float("-inf")  # when it fell silent, if no bytes came since
        self._is_check_due = False
        self._stuck: set[str] = set()  # what it fell silent about since the last response, and responded to a check

    @contextmanager
    def attempt(self, what: str, *, is_request: bool = True) -> Iterator[None]:
        """Held around a request until the head of its response is there. Raises a LinkError at once while the origin is
        down. `what` begins the texts of errors. Without `is_request`, success proves nothing."""
        began_at = self._clock()
        is_trial = self._admit(what, began_at)
        try:
            yield
            if is_request:
                self._note_response()
        except LinkError as error:
            error.is_host_heard = self._heard_at > began_at
            self._note_failure(error, what, began_at, is_trial)
            raise
        finally:
            if is_trial:
                with self._lock:
                    self._trials -= 1

    def note_bytes(self) -> None:
        """Bytes of a response arrived, so the origin is not silent."""
        self._heard_at = self._clock()

    def was_heard_within(self, seconds: float) -> bool:
        return self._clock() - self._heard_at < seconds

    @property
    def is_open(self) -> bool:
        """Whether requests fail at once, except for a trial now and then."""
        return self._failure is not None

    def takes_check(self) -> bool:
        """Whether the caller should make a simple request to the origin, because one request got no response: the cause
        may be this one result. True for one caller each time."""
        with self._lock:
            is_due, self._is_check_due = self._is_check_due, False
            return is_due

    def note_stuck(self, what: str) -> None:
        """The origin responded to the check. Another silence about the same result says nothing new, and one about
        another result is the first again. An origin that responds to nothing but checks is down all the same."""
        with self._lock:
            self._stuck.add(what)
            if len(self._stuck) < _MOST_STUCK:
                self._silent_at = float("-inf")

    def state(self, origin: str) -> OriginState:
        with self._lock:
            if self._failure is None:
                return OriginState(origin, False, "", 0.0)
            return OriginState(origin, True, self._reason, max(0.0, self._retry_at - self._clock()))

    def _admit(self, what: str, now: float) -> bool:
        """Whether the request tries on behalf of all."""
        with self._lock:
            if self._failure is None:
                return False
            if now >= self._retry_at and (not self._trials or now - self._tried_at >= FIRST_PAUSE_S):
                self._trials, self._tried_at = self._trials + 1, now
                return True
            left_s = max(self._retry_at - now, 0.0)
            when = "is being tried again" if self._trials else f"is tried again in {max(left_s, 1):.0f} s"
            error = copy.copy(self._failure)
        error.args = (f"{what}: {self._reason}; it {when}",)
        error.down_for_s, error.was_sent = left_s, False
        raise error

    def _note_response(self) -> None:
        with self._lock:
            self._heard_at = self._responded_at = self._clock()
            self._failure, self._pause_s = None, FIRST_PAUSE_S
            self._stuck.clear()

    def _note_failure(self, error: LinkError, what: str, began_at: float, is_trial: bool) -> None:
        with self._lock:
            if not (is_trial if self._failure is not None else self._opens(error, what, began_at)):
                return
            now = self._clock()
            if is_trial and self._retry_at > began_at:
                error.down_for_s = max(self._retry_at - now, 0.0)  # another trial has failed meanwhile
                return
            is_quick = now - began_at < _QUICK_S
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S) if is_trial and not is_quick else FIRST_PAUSE_S
            error.down_for_s = _jitter.uniform(0.8, 1.0) * self._pause_s
            self._retry_at = now + error.down_for_s
            self._failure, self._reason = copy.copy(error), str(error).removeprefix(f"{what}: ")

    def _opens(self, error: LinkError, what: str, began_at: float) -> bool:
        """Whether the failure of a request means that the origin is down. A silence says nothing while the origin sends
        bytes of other responses. Otherwise it means it if no connection is made, or the second time in a row. The first
        time, the cause may be a kept connection that is dead without either end knowing, or one stuck result."""
        if self._responded_at > began_at:
            return False
        if isinstance(error, Unreachable):
            return True
        if not isinstance(error, TimedOut) or self._heard_at > began_at:
            return False
        if isinstance(error, ConnectTimedOut):
            return True
        if what in self._stuck:
            return False
        is_first = self._silent_at <= self._heard_at
        if is_first:
            self._silent_at, self._is_check_due = self._clock(), True
        return not is_first and self._silent_at <= began_at


class Breakers:
    """The breakers of all origins that requests were made to."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards _kept
        self._kept: LRUCache[Origin, Breaker] = LRUCache(_ORIGINS_KEPT)

    def of(self, origin: Origin) -> Breaker:
        with self._lock:
            if origin not in self._kept:
                self._kept[origin] = Breaker()
            return self._kept[origin]

    def states(self) -> tuple[OriginState, ...]:
        """States of all origins that requests were made to."""
        with self._lock:
            kept = list(self._kept.items())
        return tuple(breaker.state(f"{origin.scheme}://{origin}") for origin, breaker in kept)
