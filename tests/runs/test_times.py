"""The time of a result: the same from any source, in any order of requests, and after a remount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cambfs.cache.cache import Cache
from cambfs.deadline import Deadline
from cambfs.disk.disk import Disk
from cambfs.errors import CambfsError, ServerError, UnknownRun
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.sizes.sizing import UNKNOWN_TIME_NS
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner, some_flac
from tests.waiting import MakeLibrary, deadline, eventually, in_thread, read_all, size_of

SIZE = 20_000
CONTENT = some_flac(SIZE)
MADE_S = 1_700_000_000.0
MADE_NS = 1_700_000_000 * 10**9
RUN = RunId(1)


def _time_ns(library: Library) -> int:
    return library.wait_for_info(RUN, deadline()).mtime_ns


def _stat_first(library: Library) -> int:
    return _time_ns(library)


def _read_first(library: Library) -> int:
    assert read_all(library, RUN) == CONTENT
    return _time_ns(library)


def _stat_while_open(library: Library) -> int:
    handle = library.open(RUN, deadline())
    try:
        return _time_ns(library)
    finally:
        handle.close()


def _stat_after_another_run(library: Library) -> int:
    """Storage is trusted by then, and the stream is not requested."""
    assert size_of(library, 999) == 5000
    return _time_ns(library)


_ORDERS = [_stat_first, _read_first, _stat_while_open, _stat_after_another_run]


@pytest.fixture(params=[True, False], ids=["length", "chunked"])
def result(request: pytest.FixtureRequest, source: FakeSource) -> Result:
    source.add(999, Result(some_flac(5000, seed=999), has_length=False))
    return source.add(1, Result(CONTENT, has_length=request.param))


def _check_kept(make_library: MakeLibrary, directory: Path, look: Callable[[Library], int], wanted_ns: int) -> None:
    library = make_library(Cache(Disk(directory), 1 << 20))
    assert look(library) == wanted_ns
    assert read_all(library, RUN) == CONTENT
    assert _time_ns(library) == wanted_ns
    library.close()
    again = make_library(Cache(Disk(directory), 1 << 20))
    info = again.info(RUN)
    assert info is not None, "it was kept"
    assert info.mtime_ns == wanted_ns


@pytest.mark.parametrize("look", _ORDERS)
@pytest.mark.parametrize(("by_stream", "by_storage"), [(True, False), (False, True), (True, True)])
def test_the_time_is_the_last_modified_whatever_was_asked_first(
    look: Callable[[Library], int],
    by_stream: bool,
    by_storage: bool,
    result: Result,
    source: FakeSource,
    make_library: MakeLibrary,
    tmp_path: Path,
) -> None:
    result.stream_tells_time, result.storage_tells_time = by_stream, by_storage
    source.results[999].stream_tells_time = by_stream
    _check_kept(make_library, tmp_path, look, MADE_NS)


@pytest.mark.parametrize("look", _ORDERS)
@pytest.mark.parametrize("storage", StorageManner)
def test_a_time_that_nobody_tells_is_always_the_same(
    look: Callable[[Library], int],
    storage: StorageManner,
    result: Result,
    source: FakeSource,
    make_library: MakeLibrary,
    tmp_path: Path,
) -> None:
    source.storage = storage
    result.stream_tells_time = result.storage_tells_time = False
    _check_kept(make_library, tmp_path, look, UNKNOWN_TIME_NS)


def test_a_slow_storage_holds_back_the_time_and_not_the_bytes(
    result: Result, source: FakeSource, make_library: MakeLibrary
) -> None:
    result.stream_tells_time = False
    gate = Gate()
    source.plan_always("stored", 1, Plan(gate=gate))
    library = make_library(probe_takes_s=1000.0)
    handle = library.open(RUN, deadline())
    try:
        assert handle.read(0, 4096, deadline()) == CONTENT[:4096]
        looking = in_thread(lambda: _time_ns(library))
        assert handle.read(4096, SIZE, deadline()) == CONTENT[4096:]
        assert not looking.done()
    finally:
        gate.open()
        handle.close()
    assert looking.result(LIMIT_S) == MADE_NS


def test_a_storage_that_never_answers_does_not_hold_back_the_time_for_long(
    result: Result, source: FakeSource, make_library: MakeLibrary
) -> None:
    result.stream_tells_time = False
    gate = Gate()
    source.plan_always("sign", 1, Plan(gate=gate))
    library = make_library(probe_takes_s=0.05, end_takes_s=0.05)
    try:
        assert _read_first(library) == UNKNOWN_TIME_NS
    finally:
        gate.open()
    eventually(lambda: source.count("stored", 1))
    assert _time_ns(library) == UNKNOWN_TIME_NS, "what was told stays"


def test_the_time_of_another_file_does_not_count(result: Result, make_library: MakeLibrary) -> None:
    result.stream_tells_time = False
    result.stored = some_flac(SIZE, seed=7)
    assert _read_first(make_library()) == UNKNOWN_TIME_NS


def test_a_stream_that_tells_length_and_time_costs_no_question_to_storage(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.add(1, Result(CONTENT))
    assert _stat_while_open(make_library()) == MADE_NS
    assert (source.count("sign", 1), source.count("stored", 1)) == (0, 0)


@pytest.mark.parametrize("by_stream", [True, False])
def test_a_stat_that_storage_answers_does_not_ask_for_the_stream(
    by_stream: bool, result: Result, source: FakeSource, make_library: MakeLibrary
) -> None:
    """It does only for a time that storage leaves out, and streams were not seen to leave out, too."""
    for one in source.results.values():
        one.stream_tells_time, one.storage_tells_time = by_stream, not by_stream
    library = make_library()
    assert size_of(library, 999) == 5000
    result.storage_tells_time = True
    assert _time_ns(library) == MADE_NS
    assert source.count("stream", 1) == 0
    source.add(2, Result(CONTENT, stream_tells_time=by_stream, storage_tells_time=False))
    assert size_of(library, 2) == SIZE
    assert source.count("stream", 2) == by_stream


def test_a_result_that_changed_has_the_new_time(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT, etag='"a"'))
    library = make_library(Cache(None, 0))
    assert _read_first(library) == MADE_NS
    source.add(1, Result(some_flac(SIZE + 10), etag='"b"', modified_s=MADE_S + 60))
    library.wait_until_kept(LIMIT_S)
    library.open(RUN, deadline()).close()
    assert _time_ns(library) == MADE_NS + 60 * 10**9


@pytest.mark.parametrize("error", [ServerError("run 1: it says 500", 500), UnknownRun("run 1: it says 404", 404)])
def test_a_stream_that_fails_costs_the_time_and_not_the_size(
    error: CambfsError, result: Result, source: FakeSource, make_library: MakeLibrary
) -> None:
    """Storage has told the size. The stream is only asked for the time that storage leaves out."""
    result.storage_tells_time = False
    source.plan_always("stream", 1, Plan(error=error))
    library = make_library(timeout_s=0.5)
    assert size_of(library, 999) == 5000
    info = library.wait_for_info(RUN, deadline())
    assert (info.size, info.mtime_ns) == (SIZE, UNKNOWN_TIME_NS)
    assert source.count("stream", 1)


def test_a_storage_that_is_waited_for_costs_no_timeout(
    result: Result, source: FakeSource, make_library: MakeLibrary
) -> None:
    """The size is known, so an operation whose time is short does not fail for want of a time."""
    result.stream_tells_time = False
    gate = Gate()
    source.plan_always("sign", 1, Plan(gate=gate))
    library = make_library(timeout_s=0.5, probe_takes_s=1000.0, end_takes_s=0.0)
    try:
        assert read_all(library, RUN) == CONTENT
        assert library.wait_for_info(RUN, Deadline(library.timeout_s)).size == SIZE
    finally:
        gate.open()
