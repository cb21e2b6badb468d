"""How many ranges of one large result are fetched beside its stream, and which.

One connection may bring less than the link can: TCP needs seconds to find the rate of a long link, and some servers
limit each connection. Each lane is one more connection, which fetches range after range. The first is a trial, and
another one follows only after the last one has brought more.

Readers go on waiting for the stream alone. It goes upwards, the lanes take ranges from the top downwards, and when they
meet, nothing is missing. So a lane that stalls or fails costs nothing but its own bytes.

Decisions only: no threads, no requests, no lock. The run that owns it holds its lock for every method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from cambfs.disk.ranges import RangeSet

MOST_LANES = 3  # with the stream four connections, as browsers and download tools take
# Less than that arrives before more connections are worth their handshakes.
_MUCH_BYTES = 16 << 20
_LITTLE_BYTES = 4 << 20
_LONG_S = 4.0
_WINDOW_S = 0.15
# A lane is worth it when the sum is so many times that of before; a new connection has so long to show it.
_GAIN = 1.25
_SHOWS_WITHIN_S = 1.5
_LEAST_BYTES, _MOST_BYTES = 1 << 20, 16 << 20
# After a seek, the reader is left alone with the link for so long.
_HOLD_S = 2.0


class Lanes:
    """`count` is how many there should be. Times are in time.monotonic seconds."""

    def __init__(self) -> None:
        self.count = 0
        self._most = MOST_LANES
        self._not_before = -math.inf
        self._bytes_per_s = 0.0
        self._window_at, self._window_bytes = -math.inf, 0
        self._added_at, self._rate_then = -math.inf, 0.0

    def consider(self, now: float, came_bytes: int, missing_bytes: int) -> None:
        """A reader waits for the stream. `came_bytes` of the result are here, however they came."""
        took_s = now - self._window_at
        if took_s < _WINDOW_S:
            return
        is_measured = took_s < 2 * _WINDOW_S  # else no reader waited meanwhile
        came = came_bytes - self._window_bytes
        self._window_at, self._window_bytes = now, came_bytes
        if is_measured:
            self._bytes_per_s = came / took_s
            if self._is_another_worth_it(now, missing_bytes):
                self.count += 1
                self._added_at, self._rate_then = now, self._bytes_per_s

    def _is_another_worth_it(self, now: float, missing_bytes: int) -> bool:
        is_long = missing_bytes >= _LITTLE_BYTES and missing_bytes > _LONG_S * self._bytes_per_s
        if self.count >= self._most or now < self._not_before or not (is_long or missing_bytes >= _MUCH_BYTES):
            return False
        if self.count == 0 or self._bytes_per_s >= _GAIN * self._rate_then:
            return True
        if now - self._added_at > _SHOWS_WITHIN_S:
            self._most = self.count  # the last one brought nothing
        return False

    def next_range(self, front: int, size: int, taken: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
        """The range for a lane that is free: the last bytes that are missing, or a part of them. The stream is at
        `front`; `taken` is here or on its way. None where the rest is the stream's."""
        gaps = _gaps(RangeSet(*taken), front, size)
        takes_a_second = int(self._bytes_per_s) // (self.count + 1)
        for start, stop in reversed(gaps):
            # The stream is at work in the first of them, from below.
            room = (stop - start) // (2 * (self.count + 1)) if (start, stop) == gaps[0] else stop - start
            length = min(room, _MOST_BYTES, max(takes_a_second, _LEAST_BYTES))
            if length >= _LEAST_BYTES:
                return stop - length, stop
        return None

    def hold(self, now: float) -> None:
        """A reader has gone elsewhere, or other readers need the link."""
        self.count, self._not_before = 0, now + _HOLD_S

    def fail(self) -> None:
        """A lane has failed."""
        self.count = self._most = 0


def _gaps(taken: RangeSet, start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of start … stop that are missing, in their order."""
    gaps = []
    while (gap := taken.gap(start, stop)) is not None:
        gaps.append(gap)
        start = gap[1]
    return gaps
