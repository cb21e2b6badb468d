"""When another connection is worth it, and which bytes it takes."""

from __future__ import annotations

import pytest

from cambfs.spans import lanes
from cambfs.spans.lanes import MOST_LANES, Lanes

MB = 1 << 20
LARGE = 150 * MB


def read_on(found: Lanes, rates: list[int], *, missing: int = LARGE, begin: float = 100.0) -> list[int]:
    """How many lanes there are after each window, in which so many bytes a second came."""
    now, came, counts = begin, 0, []
    found.consider(now, came, missing)
    for rate in rates:
        now += lanes._WINDOW_S
        came += int(rate * lanes._WINDOW_S)
        found.consider(now, came, missing)
        counts.append(found.count)
    return counts


def test_more_are_added_while_each_brings_more_and_never_too_many() -> None:
    assert read_on(Lanes(), [MB, 2 * MB, 4 * MB, 8 * MB, 16 * MB]) == [1, 2, 3, MOST_LANES, MOST_LANES]


def test_one_that_brings_nothing_is_the_last() -> None:
    found = Lanes()
    assert read_on(found, [10 * MB] * 20) == [1] * 20
    assert read_on(found, [20 * MB, 40 * MB], begin=200.0) == [1, 1], "it had its time"


def test_what_arrives_soon_has_none() -> None:
    assert read_on(Lanes(), [10 * MB] * 5, missing=15 * MB) == [0] * 5
    assert read_on(Lanes(), [MB] * 2, missing=15 * MB) == [1, 1], "15 s more"
    assert read_on(Lanes(), [1000] * 5, missing=3 * MB) == [0] * 5, "a small result"


def test_a_reader_that_does_not_wait_all_the_time_says_nothing() -> None:
    found = Lanes()
    for now in range(10):
        found.consider(float(now), now * MB, LARGE)
    assert found.count == 0


def test_after_a_seek_there_are_none_for_a_while() -> None:
    found = Lanes()
    read_on(found, [MB, 2 * MB])
    found.hold(100.5)

    assert read_on(found, [4 * MB] * 3, begin=101.0) == [0, 0, 0]
    assert read_on(found, [4 * MB], begin=100.5 + lanes._HOLD_S) == [1]


def test_after_a_failure_there_are_none() -> None:
    found = Lanes()
    read_on(found, [MB])
    found.fail()
    assert read_on(found, [4 * MB] * 3, begin=200.0) == [0, 0, 0]


def test_ranges_come_from_the_top_and_shrink_until_the_rest_is_the_streams() -> None:
    found = Lanes()
    read_on(found, [16 * MB, 64 * MB, 256 * MB])
    taken: list[tuple[int, int]] = []
    while (span := found.next_range(2 * MB, LARGE, taken)) is not None:
        taken.append(span)

    assert [stop for _, stop in taken] == [LARGE, *(start for start, _ in taken[:-1])], "without holes"
    lengths = [stop - start for start, stop in taken]
    assert lengths[0] == 16 * MB
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] >= MB
    assert taken[-1][0] > 2 * MB + MB * 2


@pytest.mark.parametrize("taken", [[(40 * MB, 60 * MB)], [(0, 20 * MB), (40 * MB, 60 * MB)]])
def test_what_is_here_or_on_its_way_is_not_taken_again(taken: list[tuple[int, int]]) -> None:
    found = Lanes()
    read_on(found, [256 * MB])
    span = found.next_range(MB, 60 * MB, taken)

    assert span is not None
    assert span[1] == 40 * MB
    assert span[0] >= 20 * MB


def test_a_hole_that_an_ended_range_left_is_taken_whole_and_a_small_one_is_the_streams() -> None:
    found = Lanes()
    read_on(found, [256 * MB])
    taken = [(0, 20 * MB), (40 * MB, 50 * MB), (53 * MB, LARGE - 1)]

    assert found.next_range(MB, LARGE, taken) == (50 * MB, 53 * MB)
    span = found.next_range(MB, LARGE, [*taken, (50 * MB, 53 * MB)])
    assert span is not None
    assert span[1] == 40 * MB
