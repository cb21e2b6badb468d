"""Sets of byte ranges: plain arithmetic on half-open ranges start ≤ i < stop.

Not thread-safe: the owner of a set guards it. No threads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """Bytes, as the fewest sorted ranges that neither overlap nor touch."""

    def __init__(self, *ranges: tuple[int, int]) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in ranges:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Adds the range; an empty one changes nothing."""
        if start >= stop:
            return
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def filled_until(self, position: int) -> int:
        """Where the range that holds `position` stops; `position` itself when no range holds it."""
        index = bisect_right(self._starts, position) - 1
        return max(position, self._stops[index]) if index >= 0 else position

    def gap(self, start: int, stop: int) -> tuple[int, int] | None:
        """The first part of start … stop that is missing here; None when nothing is."""
        missing = self.filled_until(start)
        if missing >= stop:
            return None
        index = bisect_right(self._starts, missing)
        end = self._starts[index] if index < len(self._starts) else stop
        return missing, min(end, stop)

    def covers(self, start: int, stop: int) -> bool:
        return self.gap(start, stop) is None

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of start … stop that are here, in their order."""
        first, last = bisect_right(self._stops, start), bisect_left(self._starts, stop)
        pairs = zip(self._starts[first:last], self._stops[first:last], strict=True)
        return [(max(a, start), min(b, stop)) for a, b in pairs]

    @property
    def total(self) -> int:
        """How many bytes are in the set."""
        return sum(self._stops) - sum(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._stops, strict=True))

    def __repr__(self) -> str:
        return f"RangeSet({', '.join(f'{a}-{b}' for a, b in self)})"
