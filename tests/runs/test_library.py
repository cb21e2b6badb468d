"""`cambfs.runs.library`: which runs there are, and sizes that are requested ahead of a listing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cambfs.cache.cache import Cache
from cambfs.errors import BadResponse, UnknownRun, Unreachable
from cambfs.model import Arrived
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.runs.run import Run
from cambfs.transfers.context import Tuning, make_context
from tests.fakes import LIMIT_S, FakeSource, Result, some_flac
from tests.waiting import (
    MakeLibrary,
    cached,
    context_of,
    deadline,
    eventually,
    library_of,
    our_threads,
    read_all,
    size_of,
)

SIZE = 5000
_COUNT = 40


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary) -> Library:
    """Forty runs are declared, of unknown size; storage has proven itself."""
    for run_id in range(1, _COUNT + 1):
        source.add(run_id, Result(some_flac(SIZE + run_id, seed=run_id), has_length=False))
    source.add(999, Result(some_flac(SIZE), has_length=False))
    library = make_library(declared=range(1, _COUNT + 1))
    assert size_of(library, 999) == SIZE
    eventually(lambda: not our_threads())
    return library


def _asked(source: FakeSource) -> int:
    return source.calls("sign") + source.calls("bulk")


# The listing.


def test_lists_what_is_declared_cached_or_was_opened(source: FakeSource, make_library: MakeLibrary) -> None:
    for run_id in (5, 6, 70):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id)))
    library = make_library(declared=[30, 6])
    assert library.listed() == [6, 30]
    read_all(library, 5)
    handle = library.open(RunId(70), deadline())

    assert library.listed() == [5, 6, 30, 70]
    handle.close()


def test_lists_what_another_mount_left_in_the_cache(library: Library, source: FakeSource) -> None:
    source.add(50, Result(some_flac(SIZE)))
    read_all(library, 50)
    eventually(lambda: not our_threads())

    assert 50 in cached(library)
    assert 50 in library_of(source, context_of(library).cache).listed()


def test_does_not_list_what_the_api_does_not_know(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(some_flac(SIZE)))
    library = make_library(declared=[1, 2])
    with pytest.raises(UnknownRun):
        read_all(library, 2)

    assert library.listed() == [1]
    assert library.listed() == [1]


@pytest.mark.parametrize(
    "use", [lambda library: read_all(library, 2), lambda library: library.signature(RunId(2), deadline())]
)
def test_what_the_api_does_not_know_stays_out_when_it_may_be_asked_again(
    use: Callable[[Library], object], source: FakeSource
) -> None:
    runs = [[RunId(1), RunId(2)]]
    context = make_context(source, Cache(None, 1 << 20), timeout_s=LIMIT_S, tuning=Tuning(unknown_for_s=0.0))
    library = Library(context, lambda: runs[0])
    with pytest.raises(UnknownRun):
        read_all(library, 2)
    assert library.listed() == [1]
    runs[0] = list(runs[0])
    assert library.listed() == [1], "another list, but the same runs"

    source.add(2, Result(some_flac(SIZE)))
    use(library)
    assert library.listed() == [1, 2]
    library.close()


def test_a_change_of_the_declared_runs_brings_back_what_was_not_known(source: FakeSource) -> None:
    runs = [[RunId(1), RunId(2)]]
    library = Library(make_context(source, Cache(None, 1 << 20), timeout_s=LIMIT_S), lambda: runs[0])
    with pytest.raises(UnknownRun):
        read_all(library, 2)
    runs[0] = [RunId(2), RunId(3)]
    assert library.listed() == [2, 3]

    with pytest.raises(UnknownRun):
        read_all(library, 2)
    assert library.listed() == [3], "it was asked for anew"
    library.close()


def test_only_urls_that_are_known_are_listed_while_the_api_cannot_be_reached(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.add(1, Result(some_flac(SIZE)))
    library = make_library(declared=[1, 2])
    assert library.with_url(library.listed()) == {1, 2}
    library.signature(RunId(1), deadline())
    source.look_error = Unreachable("gone")
    assert library.with_url(library.listed()) == {1}
    assert library.with_url([RunId(1)]) == {1}, "nobody looks for what is known"


def test_listing_asks_for_nothing(library: Library, source: FakeSource) -> None:
    asked = source.requests
    library.begin_listing()

    assert source.requests == asked


# Sizes ahead of a reader.


def test_going_through_a_listing_asks_ahead_in_bulk(library: Library, source: FakeSource) -> None:
    asked = _asked(source)
    sizes = [size_of(library, run_id) for run_id in library.begin_listing()]

    assert sizes == [*(SIZE + run_id for run_id in range(1, _COUNT + 1)), SIZE]
    assert _asked(source) - asked <= _COUNT // 5 + 1
    assert source.count("stream") == 1


def test_urls_are_there_before_the_sizes_need_them(source: FakeSource, make_library: MakeLibrary) -> None:
    for run_id in range(1, 201):
        source.add(run_id, Result(b"fLaC"))
    library = make_library(declared=range(1, 201))
    for run_id in library.begin_listing()[:2]:
        size_of(library, run_id)
    library.wait_until_kept(LIMIT_S)

    assert library.fresh_signature(RunId(120)) is not None
    assert library.info(RunId(70)) is None, "its size is not requested yet"
    assert library.fresh_signature(RunId(130)) is None


def test_asks_ahead_also_where_the_first_sizes_are_known(library: Library, source: FakeSource) -> None:
    for run_id in (1, 2, 3):
        size_of(library, run_id)
    asked = _asked(source)
    for run_id in library.begin_listing():
        if library.info(run_id) is None:
            size_of(library, run_id)

    assert _asked(source) - asked <= _COUNT // 5 + 1


def test_a_look_at_one_asks_for_one(library: Library, source: FakeSource) -> None:
    library.begin_listing()
    asked = _asked(source)

    assert size_of(library, 20) == SIZE + 20
    assert _asked(source) == asked + 1


def test_a_bad_run_costs_the_others_nothing(library: Library, source: FakeSource) -> None:
    del source.results[3]
    source.bulk_error = BadResponse("one id is bad", 400)
    sizes = {}
    for run_id in library.begin_listing():
        try:
            sizes[run_id] = size_of(library, run_id)
        except UnknownRun:
            sizes[run_id] = RunId(0)

    assert sizes == {**{RunId(r): SIZE + r for r in range(1, _COUNT + 1)}, RunId(3): 0, RunId(999): SIZE}


def test_knows_the_bytes_of_all(library: Library) -> None:
    size_of(library, 1)

    assert library.known_bytes() == SIZE + SIZE + 1


def test_urls_are_asked_for_ahead_in_bulk(source: FakeSource, make_library: MakeLibrary) -> None:
    for run_id in range(1, 21):
        source.add(run_id, Result(b"fLaC"))
    library = make_library(declared=range(1, 21))
    for run_id in library.begin_listing():
        library.signature(run_id, deadline())

    assert source.calls("bulk") == 4
    assert source.count("sign") == 0


def test_a_look_at_the_whole_disturbs_nobody_who_goes_through_it(source: FakeSource, make_library: MakeLibrary) -> None:
    for run_id in range(1, 101):
        source.add(run_id, Result(b"fLaC"))
    library = make_library(declared=range(1, 101))
    for run_id in library.begin_listing():
        library.signature(run_id, deadline())
        library.listed()

    assert source.calls("bulk") + source.calls("sign") <= 25


# What is here of a run.


def test_a_look_at_what_has_arrived_keeps_the_bytes(
    source: FakeSource, make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last user may leave at the same moment."""
    content = some_flac(SIZE)
    source.add(50, Result(content))
    library = make_library(limit_bytes=0)
    handle = library.open(RunId(50), deadline())
    assert handle.read(0, SIZE, deadline()) == content
    eventually(lambda: not our_threads())
    original = Run.arrived

    def arrived(run: Run) -> Arrived:
        handle.close()
        return original(run)

    monkeypatch.setattr(Run, "arrived", arrived)
    found = library.arrived(RunId(50))
    assert found is not None
    assert (found.received, found.head[:4]) == (SIZE, b"fLaC")
    assert library.arrived(RunId(50)) is None, "it was not kept"
