"""Whether several connections bring a large result faster than one: tried, measured, and remembered.

It only decides; `downloader` starts the ranges. Threads: any. No lock: there are two values for all runs of a mount,
and a lost update changes little.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

PIECES = 4
# Other connections come up to speed in several round trips. The stream brings a shorter rest in that time.
_LEAST_S = 1.0
_LEAST_BYTES = 1 << 20
# A smaller part is not shared with another connection. A smaller rest is split only on credit, because its ranges would
# be a large part of all requests. Each result earns a share of a split, so that many small results cost less than 5 %
# more requests: 2 a result, 3 a split.
_SMALL_BYTES = 8 << 20
_EARNED = 0.025
_MOST_EARNED = 4.0
# If the stream slows down more than this, it had filled the link, and the other connections gain nothing.
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
        """A rest of that length was split."""
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
        """Call once for each split, when the stream or the first of the pieces ends, with the stream's position."""
        bytes_per_s = (position - split.position) / max(time.monotonic() - split.at, 1e-3)
        if bytes_per_s < _SLOWER * split.bytes_per_s:
            self._not_before = time.monotonic() + _TRY_AGAIN_S


def pieces(start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of start … stop behind the first, which the stream brings."""
    step = -(-(stop - start) // PIECES)
    return [(first, min(first + step, stop)) for first in range(start + step, stop, step)]
