"""Audio beside the size: for programs that open what they look at, and not for those that only look."""

from __future__ import annotations

import pytest

from cambfs.ahead.open_habit import OpenHabit
from cambfs.errors import CambfsError, UnknownRun
from cambfs.names import RunId
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, some_flac
from tests.waiting import MakeLibrary, cached, eventually, in_thread, no_threads, read_all, size_of

SIZE = 50_000
COUNT = 8


def _content(run_id: int) -> bytes:
    return some_flac(SIZE + run_id, seed=run_id)


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary) -> Library:
    source.piece_bytes = 500
    for run_id in range(1, COUNT + 1):
        source.add(run_id, Result(_content(run_id), has_length=False))
    return make_library(declared=range(1, COUNT + 1), unopened_looks=2, nearly_bytes=0)


def test_two_looks_without_an_open_end_it_and_an_open_brings_it_back() -> None:
    habit = OpenHabit(2)
    looks = [habit.looked_at(RunId(run_id)) for run_id in (1, 2, 3, 4)]
    habit.opened(RunId(9))  # which no program has looked at
    looks.append(habit.looked_at(RunId(5)))
    habit.opened(RunId(5))
    looks.append(habit.looked_at(RunId(6)))

    assert looks == [True, True, False, False, False, True]


def test_a_listing_ends_it_until_a_program_opens_what_it_looks_at() -> None:
    habit = OpenHabit(2)
    habit.listed()
    looks = [habit.looked_at(RunId(run_id)) for run_id in (5, 3)]
    habit.opened(RunId(3))
    looks.append(habit.looked_at(RunId(4)))

    assert looks == [False, False, True]


def test_the_audio_is_requested_beside_the_size(library: Library, source: FakeSource) -> None:
    gate = Gate()
    source.plan_always("sign", 1, Plan(gate=gate))
    source.plan("stream", 1, Plan(gate=gate))
    sizes = in_thread(lambda: size_of(library, 1))
    gate.wait_for_arrivals(2)  # both, while neither has a response
    gate.open()

    assert sizes.result(LIMIT_S) == len(_content(1))
    assert read_all(library, 1) == _content(1)
    assert source.count("stream", 1) == 1


def test_stats_alone_cost_no_audio_after_the_second(library: Library, source: FakeSource) -> None:
    for run_id in (3, 7, 5, 8, 2):
        assert size_of(library, run_id) == len(_content(run_id))
    eventually(no_threads)

    assert {run_id for run_id in range(1, COUNT + 1) if source.count("stream", run_id)} <= {3, 7}
    read_all(library, 5)
    read_all(library, 2)
    assert size_of(library, 6) == len(_content(6))
    eventually(lambda: source.count("stream", 6) == 1)


def test_a_listing_costs_no_audio(library: Library, source: FakeSource) -> None:
    size_of(library, 1)
    read_all(library, 1)
    eventually(no_threads)
    before = source.count("stream")
    for run_id in sorted(library.begin_listing(), key=lambda run: run % 3):
        assert size_of(library, run_id) == len(_content(run_id))
    eventually(no_threads)

    assert source.count("stream") == before


def test_audio_that_fails_costs_neither_the_size_nor_the_open(library: Library, source: FakeSource) -> None:
    size_of(library, 1)
    read_all(library, 1)  # which proves storage
    source.plan("stream", 4, Plan(error=UnknownRun("run 4: it says 404", 404)))

    assert size_of(library, 4) == len(_content(4))
    assert read_all(library, 4) == _content(4)
    eventually(lambda: 4 in cached(library))


def test_a_run_that_is_unknown_stays_so(library: Library) -> None:
    with pytest.raises(CambfsError, match="404"):
        size_of(library, 77)
