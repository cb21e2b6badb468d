"""The counts of the shared tier."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from cambfs.shared.counts import Counts, Usage
from cambfs.shared.engine import EngineClosed, EngineDown, EngineFull, RunMoves


def test_each_figure_is_counted_by_itself() -> None:
    counts = Counts("valkey://farm:6379", clock=lambda: 5.0)
    counts.add("hits")
    counts.add("led")
    counts.add("led")
    counts.add("received_bytes", 700)
    assert counts.usage() == Usage("valkey://farm:6379", since_s=5.0, hits=1, led=2, received_bytes=700)


def test_no_count_is_lost_between_threads() -> None:
    counts = Counts("")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: counts.add("sent_bytes", 3), range(2000)))
    assert counts.usage().sent_bytes == 6000


def test_the_engine_is_down_since_its_first_failure_and_for_its_latest_reason() -> None:
    now = iter([1.0, 2.0, 3.0, 4.0])
    counts = Counts("", clock=lambda: next(now))
    assert counts.usage().is_up is None
    counts.note_up()
    counts.note_down("refused")
    counts.note_down("refused")
    counts.note_down("wrong password")
    usage = counts.usage()
    assert (usage.is_up, usage.since_s, usage.reason) == (False, 3.0, "wrong password")
    counts.note_up()
    counts.note_up()
    usage = counts.usage()
    assert (usage.is_up, usage.since_s, usage.reason) == (True, 4.0, "")


def test_a_refusal_has_a_line_when_it_begins_and_one_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counts = Counts("valkey://farm")
    counts.note_up()
    for _ in range(3):
        counts.note_failure(EngineFull("valkey://farm: no memory is left"))
        counts.note_up()
        usage = counts.usage()
        assert (usage.is_up, usage.refusal) == (True, "valkey://farm: no memory is left")
    for _ in range(2):
        counts.note_taken()
        assert not counts.usage().refusal

    assert caplog.messages == [
        "new results are not shared, and those that are there are read all the same: valkey://farm: no memory is left",
        "the shared cache valkey://farm takes results again",
    ]


@pytest.mark.parametrize("error", [RunMoves("moves"), EngineClosed("closed")])
def test_what_says_nothing_of_the_next_call_changes_nothing(error: EngineDown) -> None:
    counts = Counts("")
    counts.note_up()
    before = counts.usage()
    counts.note_failure(error)
    assert counts.usage() == before
    counts.note_failure(EngineDown("refused"))
    assert counts.usage().is_up is False
