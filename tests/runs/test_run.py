"""One run and its readers: a download for all of them, their waits, and failures that they share."""

from __future__ import annotations

import random
from typing import Any

import pytest

from cambfs.cache.cache import Cache
from cambfs.deadline import Deadline
from cambfs.disk.disk import Disk
from cambfs.disk.sidecar import Sidecar
from cambfs.errors import (
    BadResponse,
    CambfsError,
    Cancelled,
    ServerError,
    TimedOut,
    TooLarge,
    UnknownRun,
)
from cambfs.names import RunId
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner, some_flac
from tests.runs.results import (
    CONTENT,
    OTHER,
    RUN,
    SIZE,
    open_run,
    read_at,
    stalls_at,
)
from tests.waiting import (
    MakeLibrary,
    Watched,
    cached,
    deadline,
    eventually,
    in_thread,
    library_of,
    no_threads,
    our_threads,
    pieces,
    read_all,
    size_of,
)

# Once for all.


@pytest.mark.parametrize("has_length", [True, False])
def test_many_readers_at_random_places_share_one_download(
    source: FakeSource, library: Library, has_length: bool
) -> None:
    source.piece_bytes = 700
    source.add(1, Result(CONTENT, has_length=has_length))

    def reader(seed: int) -> bool:
        handle, dice = open_run(library), random.Random(seed)
        places = [dice.randrange(SIZE) for _ in range(20)]
        same = [read_at(handle, place, 500) == CONTENT[place : place + 500] for place in places]
        handle.close()
        return all(same)

    readers = [in_thread(lambda seed=seed: reader(seed)) for seed in range(16)]  # type: ignore[misc]

    assert all(reader.result(LIMIT_S) for reader in readers)
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1
    assert source.sent("stream", 1) == SIZE


def test_what_is_cached_costs_no_request(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    assert read_all(library, 1) == CONTENT
    eventually(no_threads)
    asked = source.requests

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    assert source.requests == asked


def test_reads_end_where_the_result_ends(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    handle = open_run(library)

    assert read_at(handle, SIZE - 10, 100) == CONTENT[-10:]
    assert read_at(handle, SIZE, 100) == b""
    assert read_at(handle, SIZE + 1000, 100) == b""
    assert read_at(handle, 0, 0) == b""
    handle.close()


def test_a_read_waits_until_it_can_be_answered_in_full(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    gate = stalls_at(source, 4999)
    handle = open_run(library)
    assert read_at(handle, 0, 4999) == CONTENT[:4999]
    read = in_thread(lambda: read_at(handle, 4000, 1000))
    gate.wait_for_arrivals()

    assert not read.done()
    gate.open()
    assert read.result(LIMIT_S) == CONTENT[4000:5000]
    handle.close()


def test_a_read_fills_its_buffer_and_at_the_end_only_a_part_of_it(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    handle = open_run(library)
    buffer = bytearray(b"-" * 5000)

    assert handle.readinto(4000, memoryview(buffer), deadline()) == 5000
    assert buffer == CONTENT[4000:9000]
    buffer[:] = b"-" * 5000
    assert handle.readinto(SIZE - 10, memoryview(buffer), deadline()) == 10
    assert buffer == CONTENT[-10:] + b"-" * 4990
    assert handle.readinto(SIZE, memoryview(buffer), deadline()) == 0
    handle.close()


def test_pages_may_be_kept_as_long_as_the_bytes_are_the_same(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    same = []
    for _ in range(3):
        handle = open_run(library)
        same.append(handle.same_bytes)
        list(pieces(handle))
        handle.close()
        eventually(no_threads)

    assert same == [False, True, True]


def test_pages_are_dropped_when_a_result_was_fetched_anew(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT))
    source.add(2, Result(OTHER))
    library = make_library(Cache(None, SIZE))
    for run_id in (1, 2):
        read_all(library, run_id)
        eventually(no_threads)
    handle = open_run(library)

    assert not handle.same_bytes
    handle.close()


def test_a_cached_result_opens_although_the_api_knows_the_run_no_more(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.add(1, Result(CONTENT))
    library = make_library()
    assert read_all(library, 1) == CONTENT
    eventually(lambda: cached(library) == [1])
    source.plan_always("sign", 1, Plan(error=UnknownRun("gone", 404)))
    with pytest.raises(UnknownRun):
        library.signature(RunId(1), deadline())

    assert read_all(library, 1) == CONTENT
    assert library.listed() == [1]


# Failures.


def test_a_failure_is_shared_by_all_who_wait_and_the_next_begins_anew(source: FakeSource, library: Library) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(error=BadResponse("nonsense", 200), gate=gate))
    callers = [Watched() for _ in range(8)]
    opens = [in_thread(lambda caller=caller: library.open(RUN, caller)) for caller in callers]  # type: ignore[misc]
    for caller in callers:
        caller.await_waiting()
    gate.open()

    for open_ in opens:
        with pytest.raises(BadResponse):
            open_.result(LIMIT_S)
    assert source.count("stream") == 1
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 2


def test_temporary_failures_are_hidden(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, *[Plan(error=ServerError("down", 503))] * 3)

    assert read_all(library, 1) == CONTENT


def test_what_nobody_foresaw_is_an_error_of_ours(
    source: FakeSource, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(error=ZeroDivisionError("oops")))

    with pytest.raises(CambfsError, match="internal error"):
        read_all(library, 1)
    assert "ZeroDivisionError" in caplog.text


def test_a_result_that_is_too_large_is_refused(source: FakeSource) -> None:
    library = library_of(source, Cache(None, SIZE), max_result_bytes=SIZE - 1)
    for run_id, has_length in ((1, True), (2, False)):
        source.storage = StorageManner.UNREACHABLE
        source.add(run_id, Result(CONTENT, has_length=has_length))
        with pytest.raises(TooLarge):
            read_all(library, run_id)
    library.close()


# Waiting.


@pytest.mark.tuning(stalled_after_s=0.05, look_every_s=0.005)
def test_a_result_that_stalls_does_not_hold_back_another(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    for run_id in (1, 2):
        source.add(run_id, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    library = make_library(max_transfers=1)
    stalled = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()

    assert read_all(library, 2) == CONTENT
    assert not stalled.done()
    gate.open()
    assert stalled.result(LIMIT_S) == CONTENT


@pytest.mark.tuning(stalled_after_s=LIMIT_S)
def test_no_more_transfers_at_a_time_than_allowed(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    for run_id in range(1, 5):
        source.add(run_id, Result(CONTENT))
        source.plan("stream", run_id, Plan(gate=gate))
    library = make_library(max_transfers=2)
    reads = [in_thread(lambda run_id=run_id: read_all(library, run_id)) for run_id in range(1, 5)]  # type: ignore[misc]
    gate.wait_for_arrivals(2)
    eventually(lambda: sum(name.startswith("stream") for name in our_threads()) == 4)

    assert source.count("stream") == 2
    gate.open()
    assert all(read.result(LIMIT_S) == CONTENT for read in reads)


def test_a_killed_caller_leaves_at_once_and_the_others_stay(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    stays = in_thread(lambda: read_at(handle, 5000, 1000))
    gate.wait_for_arrivals()

    with pytest.raises(Cancelled):
        handle.read(5000, 1000, Deadline(LIMIT_S, lambda: True))
    with pytest.raises(Cancelled):
        library.open(RUN, Deadline(LIMIT_S, lambda: True)).read(5000, 1, Deadline(LIMIT_S, lambda: True))
    assert not stays.done()
    gate.open()
    assert stays.result(LIMIT_S) == CONTENT[5000:6000]
    handle.close()


def test_a_read_without_progress_ends(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT))
    gate = stalls_at(source, 5000)
    library = make_library()
    handle = open_run(library)
    gate.wait_for_arrivals()

    with pytest.raises(TimedOut):
        handle.read(5000, 1, Deadline(0.05))
    assert read_at(handle, 0, 5000) == CONTENT[:5000]
    gate.open()
    assert read_at(handle, 5000, 1) == CONTENT[5000:5001]
    handle.close()


# The cache.


def test_eviction_does_not_hurt_who_has_it_open(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> None:
    for run_id in range(1, 6):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id)))
    library = make_library(Cache(disk, 2 * SIZE))
    read_all(library, 1)
    handle = open_run(library)
    for run_id in (2, 3, 4, 5):
        assert read_all(library, run_id) == some_flac(SIZE, seed=run_id)
        eventually(no_threads)

    assert b"".join(pieces(handle)) == some_flac(SIZE, seed=1)
    assert len(cached(library)) == 2
    handle.close()


def test_one_larger_than_the_cache_is_served(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> None:
    source.add(1, Result(CONTENT))
    library = make_library(Cache(disk, SIZE // 2))

    assert read_all(library, 1) == CONTENT
    eventually(no_threads)
    assert read_all(library, 1) == CONTENT
    assert cached(library) == []


@pytest.mark.tuning(close_s=0.0)
def test_what_takes_long_to_keep_can_be_waited_for(
    source: FakeSource, make_library: MakeLibrary, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    describe = Disk.describe

    def slowly(disk: Disk, *arguments: Any) -> Sidecar:
        gate.go_through()
        return describe(disk, *arguments)

    monkeypatch.setattr(Disk, "describe", slowly)
    source.add(1, Result(CONTENT))
    library = make_library(Cache(disk, 1 << 20))
    assert read_all(library, 1) == CONTENT
    gate.wait_for_arrivals()
    waiting = in_thread(lambda: library.wait_until_kept(LIMIT_S))
    gate.open()
    waiting.result(LIMIT_S)
    library.close()
    assert disk.run_ids() == [1]
