"""Audio beside the size: for programs that open what they look at, and not for those that only look."""

from __future__ import annotations

import pytest

from cambfs.ahead.open_habit import OpenHabit
from cambfs.errors import CambfsError, RateLimited, ServerError, TimedOut, UnknownRun
from cambfs.names import RunId
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, some_flac
from tests.waiting import (
    MakeLibrary,
    cached,
    context_of,
    deadline,
    eventually,
    in_thread,
    no_threads,
    read_all,
    size_of,
)

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
    eventually(no_threads)
    assert read_all(library, 4) == _content(4)
    eventually(lambda: 4 in cached(library))


def test_a_run_that_is_unknown_is_asked_for_once(library: Library, source: FakeSource) -> None:
    with pytest.raises(UnknownRun):
        size_of(library, 77)
    eventually(no_threads)
    assert source.count("stream", 77) == 1
    assert source.count("sign", 77) <= 1


@pytest.mark.parametrize("has_length", [True, False])
def test_a_run_that_is_unknown_is_asked_for_once_where_storage_is_proven(
    has_length: bool, make_library: MakeLibrary, source: FakeSource
) -> None:
    library = _library_that_knows_lengths(make_library, source, has_length)
    with pytest.raises(UnknownRun):
        size_of(library, 77)
    assert (source.count("stream", 77), source.count("sign", 77)) == (1, 1)


@pytest.mark.parametrize("has_length", [True, False])
def test_audio_that_is_late_does_not_hold_back_the_size(
    has_length: bool, make_library: MakeLibrary, source: FakeSource
) -> None:
    library = _library_that_knows_lengths(make_library, source, has_length)
    gate = Gate()
    source.plan("stream", 2, Plan(gate=gate))
    assert size_of(library, 2) == len(_content(2))
    gate.open()


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("error", [RateLimited("run 2: it says 429", 429), TimedOut("run 2: no response")])
def test_audio_that_is_not_awaited_is_asked_for_once(
    error: CambfsError, has_length: bool, make_library: MakeLibrary, source: FakeSource
) -> None:
    library = _library_that_knows_lengths(make_library, source, has_length)
    source.plan_always("stream", 2, Plan(error=error))
    assert size_of(library, 2) == len(_content(2))
    eventually(no_threads)
    assert source.count("stream", 2) == 1

    source.heal(2)
    assert read_all(library, 2) == _content(2)


def test_an_open_in_time_shares_no_failure_of_what_was_expected(make_library: MakeLibrary, source: FakeSource) -> None:
    library = _library_that_knows_lengths(make_library, source, has_length=False)
    gate = Gate()
    source.plan("stream", 2, Plan(gate=gate, error=RateLimited("run 2: it says 429", 429)))
    assert size_of(library, 2) == len(_content(2))
    content = in_thread(lambda: read_all(library, 2))
    eventually(lambda: context_of(library).slots.foreground._waiting)
    gate.open()

    assert content.result(LIMIT_S) == _content(2)


def _library_that_knows_lengths(make_library: MakeLibrary, source: FakeSource, has_length: bool) -> Library:
    source.add(1, Result(_content(1), has_length=False))
    for run_id in (2, 3):
        source.add(run_id, Result(_content(run_id), has_length=has_length))
    library = make_library(unopened_looks=2, nearly_bytes=0, header_takes_s=0.05)
    size_of(library, 1)
    read_all(library, 1)
    assert context_of(library).store.trust.proven
    read_all(library, 3)
    eventually(no_threads)
    return library


def test_a_busy_api_is_asked_for_no_audio_beside_a_size(make_library: MakeLibrary, source: FakeSource) -> None:
    library = _library_that_knows_lengths(make_library, source, has_length=False)
    source.add(4, Result(_content(4)))
    source.plan("sign", 4, Plan(error=RateLimited("run 4: it says 429", 429)))
    library.signature(RunId(4), deadline())
    assert not context_of(library).speculation.is_allowed

    assert size_of(library, 2) == len(_content(2))
    eventually(no_threads)
    assert source.count("stream", 2) == 0


def test_a_program_that_opens_what_it_lists_gets_no_sizes_ahead(library: Library, source: FakeSource) -> None:
    library.begin_listing()
    size_of(library, 1)
    read_all(library, 1)
    size_of(library, 2)
    eventually(no_threads)

    assert source.count("bulk", COUNT) + source.count("sign", COUNT) == 0


def test_a_busy_api_is_asked_for_no_sizes_ahead(library: Library, source: FakeSource) -> None:
    source.plan("sign", COUNT, Plan(error=RateLimited("run 8: it says 429", 429)))
    library.signature(RunId(COUNT), deadline())
    library.begin_listing()
    size_of(library, 1)
    eventually(no_threads)

    assert source.count("bulk") == 0


def test_an_open_for_the_size_is_no_open(library: Library, source: FakeSource) -> None:
    for run_id in (3, 5):
        size_of(library, run_id)
        library.open(RunId(run_id), deadline(), for_size=True).close()
    size_of(library, 7)

    assert source.count("stream", 7) == 0


def test_a_caller_asks_again_for_a_url_that_was_requested_ahead_in_vain(library: Library, source: FakeSource) -> None:
    gate = Gate()
    source.bulk_error = ServerError("it says 500", 500)
    source.plan("sign", 1, Plan(gate=gate, error=RateLimited("run 1: it says 429", 429)))
    context_of(library).signer.request_many([RunId(1), RunId(2)])
    gate.wait_for_arrivals()
    signature = in_thread(lambda: library.signature(RunId(1), deadline()))
    gate.open()

    assert signature.result(LIMIT_S).signed.run_id is None
    assert source.count("sign", 1) == 2
