"""Which runs the shared tier is asked about."""

from __future__ import annotations

from cambfs.ahead.shared_facts import SharedFacts
from cambfs.names import RunId


def test_a_single_look_asks_about_that_run_once() -> None:
    facts = SharedFacts()

    assert facts.wanted(RunId(7), lambda _: False) == [7]
    assert facts.wanted(RunId(7), lambda _: False) == []


def test_a_look_into_the_middle_of_a_listing_asks_about_that_run() -> None:
    facts = SharedFacts()
    facts.begin([RunId(number) for number in range(1, 301)])

    assert facts.wanted(RunId(200), lambda _: False) == [200]


def test_a_walk_through_a_listing_asks_about_the_next_ones_once() -> None:
    facts, runs = SharedFacts(), [RunId(number) for number in range(1, 301)]
    facts.begin(runs)

    assert facts.wanted(RunId(1), lambda run: run == 3) == [1, 2, *range(4, 257)]
    assert facts.wanted(RunId(2), lambda _: False) == []
