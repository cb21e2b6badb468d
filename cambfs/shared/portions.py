"""How many bytes one call takes to or from the engine.

A call that takes too long counts as a failure of the engine, and then nothing is shared for a while. So on a slow link,
and beside other calls, a call carries less. All calls together have as many bytes under way as the link carries in
GOAL_S.

Threads: any. `_lock` is a leaf; it is not held while a call is under way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

# How long the bytes of a call may take: far less than a caller waits for an engine (`engine.PATIENCE_S`).
GOAL_S = 0.1
FEWEST_BYTES, MOST_BYTES = 64 << 10, 8 << 20
_FEW_BYTES = 4 << 10  # that take a round trip, and no longer
# How much one call changes at most. A failure may have another reason than the link.
_GROWTH, _SHRINKING = 4, 4


class Portion:
    """One call: `bytes` is how many it may carry, and `carried` how many it did. `beside` are those of the other calls
    that were under way when it began."""

    def __init__(self, count: int, beside: int) -> None:
        self.bytes = self.carried = count
        self.beside = beside


class Portions:
    """`clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()  # guards all below
        self._most = 2 * FEWEST_BYTES  # of all calls that are under way together
        self._under_way = 0
        self._round_trip_s: float | None = None  # the shortest call that carried few bytes

    @contextmanager
    def portion(self, most_bytes: int) -> Iterator[Portion]:
        """Held around a call that could carry `most_bytes`."""
        portion, begun_at = self._begin(most_bytes), self._clock()
        try:
            yield portion
            self._note(portion, self._clock() - begun_at)
        except BaseException:
            self._shrink(0)
            raise
        finally:
            with self._lock:
                self._under_way -= portion.bytes

    def _begin(self, most_bytes: int) -> Portion:
        """Half of what is free is left for other calls that begin meanwhile."""
        with self._lock:
            free = self._most - self._under_way
            portion = Portion(min(max(free // 2, FEWEST_BYTES), most_bytes), self._under_way)
            self._under_way += portion.bytes
            return portion

    def _note(self, portion: Portion, took_s: float) -> None:
        with self._lock:
            if portion.carried <= _FEW_BYTES:
                self._round_trip_s = min(self._round_trip_s or took_s, took_s)
            lasted_s = took_s - min(self._round_trip_s or 0.0, GOAL_S / 2)
            count = portion.beside + portion.carried
            fitting = int(count * GOAL_S / max(lasted_s, GOAL_S / _GROWTH))
            if count >= self._most // 2:  # fewer do not show what the link can do
                self._most = min(max(self._most, fitting), MOST_BYTES)
        if lasted_s > GOAL_S:
            self._shrink(fitting)

    def _shrink(self, fitting: int) -> None:
        with self._lock:
            self._most = max(min(self._most, max(fitting, self._most // _SHRINKING)), 2 * FEWEST_BYTES)
