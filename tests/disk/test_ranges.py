"""`cambfs.disk.ranges`, against plain sets of numbers."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cambfs.disk.ranges import RangeSet

_PLACES = st.integers(0, 24)
_RANGES = st.lists(st.tuples(_PLACES, _PLACES), max_size=8)


def _numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {i for start, stop in ranges for i in range(start, stop)}


@given(_RANGES)
def test_holds_what_was_added_in_the_fewest_ranges(ranges: list[tuple[int, int]]) -> None:
    found = list(RangeSet(*ranges))

    assert _numbers(found) == _numbers(ranges)
    assert all(start < stop for start, stop in found)
    assert all(a_stop < b_start for (_, a_stop), (b_start, _) in pairwise(found))
    assert RangeSet(*ranges).total == len(_numbers(ranges))


@given(_RANGES, _PLACES)
def test_filled_until(ranges: list[tuple[int, int]], position: int) -> None:
    numbers = _numbers(ranges)
    expected = position
    while expected in numbers:
        expected += 1

    assert RangeSet(*ranges).filled_until(position) == expected


@given(_RANGES, _PLACES, _PLACES)
def test_gap_is_the_first_stretch_that_is_missing(ranges: list[tuple[int, int]], start: int, stop: int) -> None:
    numbers = _numbers(ranges)
    missing = [i for i in range(start, stop) if i not in numbers]
    gap = RangeSet(*ranges).gap(start, stop)

    assert RangeSet(*ranges).covers(start, stop) == (not missing)
    if gap is None:
        assert not missing
    else:
        assert gap[0] == missing[0]
        assert set(range(*gap)) <= set(missing)
        assert gap[1] == stop or gap[1] in numbers


@given(_RANGES, _PLACES, st.integers(1, 24))
def test_within_gives_the_parts_that_are_here(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    parts = RangeSet(*ranges).within(start, start + length)

    assert _numbers(parts) == _numbers(ranges) & set(range(start, start + length))
    assert parts == sorted(parts)


def test_shows_what_it_holds() -> None:
    assert repr(RangeSet((4, 6), (0, 2), (2, 3))) == "RangeSet(0-3, 4-6)"
