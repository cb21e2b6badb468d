"""What the link can do, as all transfers together show.

One transfer alone shows less, because a young connection sends little in a round trip. A connection that lost packets
when others filled the link stays slow long after that, and it shows beside the others.

Threads: those of transfers add bytes, and any thread asks. The lock is a leaf.
"""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from typing import Protocol

_WINDOW_S = 0.25
_WINDOWS = 16
# A connection that sends more than that, compared with the window before, is not slow but young.
_YOUNG = 1.6
_SLOW = 4


class _Readable(Protocol):
    def read(self, limit: int) -> bytes: ...


class Pace:
    """The rate of one response in its last window, None until one is over, and whether it still grows as fast as that
    of a young connection. Only reading counts: a transfer may pause, and its connection is not slow for that. For the
    thread of its transfer alone."""

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None
        self.is_growing = True
        self._window_s = 0.0
        self._bytes = 0

    def read(self, body: _Readable, limit: int) -> bytes:
        """As `Body.read`."""
        began_at = time.monotonic()
        data = body.read(limit)
        self._bytes += len(data)
        self._window_s += time.monotonic() - began_at
        if self._window_s >= _WINDOW_S:
            before, self.bytes_per_s = self.bytes_per_s, self._bytes / self._window_s
            self.is_growing = before is None or self.bytes_per_s > _YOUNG * before
            self._window_s, self._bytes = 0.0, 0
        return data


class Link:
    """`bytes_per_s` is the best of the last windows; 0 until one is over. It stays while nothing is transferred.
    `begins_s` is how long the quickest of the last responses took to begin; 0 before the first."""

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self.begins_s = 0.0
        self._lock = Lock()  # guards all below
        self._began_after: deque[float] = deque(maxlen=_WINDOWS)
        self._rates: deque[float] = deque(maxlen=_WINDOWS)
        self._since = time.monotonic()
        self._bytes = 0

    def began(self, after_s: float) -> None:
        """A response has begun, so long after its request."""
        with self._lock:
            self._began_after.append(after_s)
            self.begins_s = min(self._began_after)

    def received(self, count: int) -> None:
        """`count` bytes of any transfer came."""
        with self._lock:
            now = time.monotonic()
            self._bytes += count
            window_s = now - self._since
            if window_s < _WINDOW_S:
                return
            if window_s < 2 * _WINDOW_S or not self._rates:  # a longer one had a pause in it
                self._rates.append(self._bytes / window_s)
                self.bytes_per_s = max(self._rates)
            self._since, self._bytes = now, 0

    def outpaces(self, pace: Pace, transfers: int) -> bool:
        """Whether a response brings far less than its share of the link, which so many transfers use: its connection is
        slow, and another one would bring more."""
        if pace.is_growing or pace.bytes_per_s is None:
            return False
        return pace.bytes_per_s * _SLOW * transfers < self.bytes_per_s
