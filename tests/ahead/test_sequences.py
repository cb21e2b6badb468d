"""`cambfs.ahead.sequences`: which programs open results in order, and what comes next for each of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import pairwise

import pytest

from cambfs.ahead.sequences import MOST_SEQUENCES, Sequences
from cambfs.names import RunId


class Opens:
    """Opens of the runs 1 to 1000, four ahead, that fetch all that they may."""

    def __init__(self) -> None:
        self.sequences = Sequences(4)
        self.begin(range(1, 1001))

    def begin(self, *orders: Iterable[int]) -> None:
        self.sequences.listed([[RunId(run) for run in order] for order in orders])

    def __call__(self, *run_ids: int) -> list[int]:
        """What the last of them has ahead afterwards."""
        ahead: list[RunId] = []
        for run_id in map(RunId, run_ids):
            sequence = self.sequences.opened(run_id)
            ahead = [] if sequence is None else [*sequence.next_ones(4)]
            if sequence is not None:
                sequence.ahead = ahead
        return [*ahead]

    def close(self, run_id: int, *, is_skimmed: bool) -> None:
        self.sequences.closed(RunId(run_id), is_skimmed)

    def dropped(self) -> set[int]:
        return {*self.sequences.take_dropped()}


@pytest.fixture
def opens() -> Opens:
    return Opens()


def _are_ahead(opens: Opens, *run_ids: int) -> bool:
    return all(opens.sequences.is_ahead(RunId(run_id)) for run_id in run_ids)


def test_two_opens_in_a_row_are_a_guess_and_three_are_not(opens: Opens) -> None:
    assert opens(10) == []
    assert opens(11) == [12, 13, 14, 15]
    assert [sequence.is_guess for sequence in opens.sequences.in_order()] == [True]
    assert opens(12) == [13, 14, 15, 16]
    assert [sequence.is_guess for sequence in opens.sequences.in_order()] == [False]


def test_two_interleaved_readers_from_their_third_open_on(opens: Opens) -> None:
    assert opens(10, 500, 11) == opens(501) == []
    assert opens(12) == [13, 14, 15, 16]
    assert opens(502) == [503, 504, 505, 506]
    assert opens(13) == [14, 15, 16, 17]
    assert opens.dropped() == set()


def test_a_second_reader_beside_one_in_order_from_its_second_open_on(opens: Opens) -> None:
    opens(10, 11, 12, 500, 13)
    assert opens(501) == [502, 503, 504, 505]
    assert _are_ahead(opens, 14, 15, 16, 17)


def test_an_open_elsewhere_ends_a_guess_until_its_next_one(opens: Opens) -> None:
    opens(10, 11, 500)
    assert opens.dropped() == {12, 13, 14, 15}
    assert opens(12) == [13, 14, 15, 16]


def test_opens_elsewhere_end_the_least_recently_used_one(opens: Opens) -> None:
    opens(10, 11, 12)
    opens(*range(100, 100 * MOST_SEQUENCES, 100))
    assert opens.dropped() == set()
    opens(900)
    assert opens.dropped() == {13, 14, 15, 16}
    assert opens(13) == []


def test_a_sequence_that_goes_on_stays(opens: Opens) -> None:
    opens(10, 11, 12)
    for run_id in range(13, 30):
        opens(run_id * 30)
        assert opens(run_id) == [*range(run_id + 1, run_id + 5)]


def test_one_that_another_sequence_has_ahead_as_well_is_not_dropped(opens: Opens) -> None:
    opens(10, 11, 12)
    opens.begin(range(1000, 0, -1))
    opens(19, 18, 17)  # the last one has 16 to 13 ahead
    opens(100, 200, 300)
    assert opens.dropped() == set()
    assert _are_ahead(opens, 13, 14, 15, 16)


def test_results_that_are_left_out_are_dropped(opens: Opens) -> None:
    assert opens(10, 11, 14) == [15, 16, 17, 18]
    assert opens.dropped() == {12, 13}
    assert opens(13) == []  # another reader of the sequence
    assert opens(15) == [16, 17, 18, 19]


def test_the_sequence_of_which_it_is_the_very_next_one_goes_on(opens: Opens) -> None:
    opens(500, 501, 502)
    opens.begin([20, 21, 22, 700, 503])
    opens(20, 21, 22)
    assert opens(503) == [504, 505, 506, 507]


def test_skimming_ends_the_sequence_of_its_reader_alone(opens: Opens) -> None:
    opens(10, 11, 12, 500, 501, 502)
    for run_id in (501, 502):
        opens.close(run_id, is_skimmed=True)
    assert opens.dropped() == {503, 504, 505, 506}
    assert opens(503, 504) == []
    assert opens(13) == [14, 15, 16, 17]


def test_a_sequence_that_has_ended_is_no_longer_sure(opens: Opens) -> None:
    opens(10, 11, 12)
    for run_id, is_skimmed in ((11, True), (12, True), (12, False)):
        opens.close(run_id, is_skimmed=is_skimmed)
    assert opens(500, 13) == []
    assert opens(14) == [15, 16, 17, 18]


def test_one_result_that_is_read_goes_on_after_skimming(opens: Opens) -> None:
    opens(10, 11)
    for run_id in (10, 11):
        opens.close(run_id, is_skimmed=True)
    opens(12)
    opens.close(12, is_skimmed=False)
    assert opens(13) == [14, 15, 16, 17]


def test_other_readers_do_not_hide_that_one_skims(opens: Opens) -> None:
    opens(10, 11, 12, 500, 501, 502)
    opens.close(501, is_skimmed=True)
    opens.close(12, is_skimmed=False)
    opens.close(502, is_skimmed=True)
    assert opens.dropped() == {503, 504, 505, 506}


def test_each_sequence_keeps_the_order_of_its_listing(opens: Opens) -> None:
    opens.begin([30, 20, 10, 40, 50, 60, 70])
    opens(30, 20, 10)
    opens.begin([500, 300, 400, 100, 600], [100, 300, 400, 500, 600])
    assert opens(500, 300) == [400, 100, 600]
    assert opens(40) == [50, 60, 70]
    assert opens(400) == [100, 600]


@pytest.mark.parametrize("run_ids", [(3,), (3, 3), (3, 5), (4, 3), (3, 9, 4), (3, 2000, 4), (2000, 2001, 2002)])
def test_other_opens_are_in_no_order(run_ids: tuple[int, ...], opens: Opens) -> None:
    assert opens(*run_ids) == []


def test_random_opens_begin_hardly_more_than_two_in_a_row_do(opens: Opens) -> None:
    """Two in a row are what begins the sequence of a lone reader."""
    order = random.Random(1).choices(range(1, 1001), k=50_000)
    in_a_row = sum(second == first + 1 for first, second in pairwise(order))
    begun = 0
    for run_id in order:
        before = opens.sequences.in_order()
        opens(run_id)
        begun += any(sequence not in before for sequence in opens.sequences.in_order())
    assert begun <= 1.1 * in_a_row
