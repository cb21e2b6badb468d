"""Whether several connections bring a large result faster than one: tried, measured, and remembered.

It only decides; `downloader` starts the ranges. No threads and no lock: there are two values for all runs of a mount,
and an update that gets lost changes little.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

PIECES = 4
# Other connections come up to speed in several round trips. A shorter rest is there by then.
_LEAST_S = 1.0
_LEAST_BYTES = 1 << 20
# Less than this is not shared once more between connections. Below this size, the ranges of a result would be a large
# part of all requests. Each result earns a share of one such split, so that
# many small results cost less than 5 % more requests: 2 a result, 3 a split.
_SMALL_BYTES = 8 << 20
_EARNED = 0.025
_MOST_EARNED = 4.0
# A stream that slows down more than this has filled the link, and so the others only take their part from it.
_SLOWER = 0.7
_TRY_AGAIN_S = 300.0


@dataclass(frozen=True)
class Split:
    """The moment at which the rest of a result was split: where its stream was, and its bytes a second so far."""

    position: int
    bytes_per_s: float
    at: float  # time.monotonic seconds


class Parallel:
    def __init__(self) -> None:
        self._not_before = -math.inf
        self._credit = _MOST_EARNED  # splits of small results

    def earn(self) -> None:
        """A result was requested."""
        self._credit = min(self._credit + _EARNED, _MOST_EARNED)

    def spend(self, missing_bytes: int) -> None:
        """So much was split."""
        if missing_bytes < _SMALL_BYTES:
            self._credit -= 1

    def is_worth(self, missing_bytes: int, bytes_per_s: float) -> bool:
        """Whether the missing bytes, which one connection brings at that rate, should be fetched in pieces."""
        least_bytes = _LEAST_BYTES if self._credit >= 1 else _SMALL_BYTES
        is_long = missing_bytes >= max(least_bytes, _LEAST_S * bytes_per_s)
        return is_long and bytes_per_s > 0 and time.monotonic() >= self._not_before

    def is_shared(self, missing_bytes: int) -> bool:
        """Whether half of what one of the pieces still has to bring goes to a connection that is done."""
        return missing_bytes >= _SMALL_BYTES and time.monotonic() >= self._not_before

    def judge(self, split: Split, position: int) -> None:
        """To be told once for each split, where the stream is when it or the first of the pieces ends."""
        bytes_per_s = (position - split.position) / max(time.monotonic() - split.at, 1e-3)
        if bytes_per_s < _SLOWER * split.bytes_per_s:
            self._not_before = time.monotonic() + _TRY_AGAIN_S


def pieces(start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of start … stop behind the first, which the stream brings."""
    step = -(-(stop - start) // PIECES)
    return [(first, min(first + step, stop)) for first in range(start + step, stop, step)]
