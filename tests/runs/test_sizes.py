"""How the size of a result becomes known, in each of the ways, and that it is never another: `sizing`, `storage`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import BadResponse, KeyRefused, ResultChanged, ServerError, TooLarge, UnknownRun, Unreachable
from cambfs.names import RunId
from cambfs.remote import object_store as storage_module
from cambfs.remote import store_trust
from cambfs.remote.source import SignedUrl
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeBody, FakeSource, Gate, Plan, Result, StorageManner, some_bytes, some_flac
from tests.runs.results import stalls_at
from tests.waiting import (
    MakeLibrary,
    Watched,
    context_of,
    deadline,
    eventually,
    in_thread,
    no_threads,
    our_threads,
    read_all,
    size_of,
)

SIZE = 20_000
CONTENT = some_flac(SIZE)


def _prove_storage(source: FakeSource, library: Library) -> None:
    """One result is compared, so that storage is believed."""
    source.add(999, Result(some_flac(5000, seed=999), has_length=False))
    assert size_of(library, 999) == 5000


# From the stream.


def test_from_the_streams_header(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=0, stall_gate=gate))
    library = make_library()
    handle = library.open(RunId(1), deadline())

    assert handle.size(deadline()) == SIZE
    assert source.sent("stream", 1) == 0
    gate.open()
    handle.close()


def test_from_the_streams_end(source: FakeSource, make_library: MakeLibrary) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, has_length=False))

    assert size_of(make_library(), 1) == SIZE


def test_a_stat_waits_for_the_end_rather_than_guess(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(stall_at=SIZE - 1, stall_gate=gate))
    library = make_library()
    stat = in_thread(lambda: size_of(library, 1))
    gate.wait_for_arrivals()

    assert library.info(RunId(1)) is None
    assert not stat.done()
    gate.open()
    assert stat.result(LIMIT_S) == SIZE


# From storage.


def test_from_storage_once_it_has_proven_itself(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.add(1, Result(CONTENT, has_length=False))

    assert size_of(library, 1) == SIZE
    assert (source.count("stream", 1), source.count("sign", 1), source.count("stored", 1)) == (0, 1, 2)
    assert source.sent("stored", 1) <= storage_module.HEAD_BYTES + storage_module._TAIL_BYTES


def test_from_storages_length_and_a_frame_that_ends_there(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.add(1, Result(some_flac(SIZE, counted=False), has_length=False))

    assert size_of(library, 1) == SIZE
    assert source.count("stream", 1) == 0


def test_a_storage_without_ranges_does_not_show_its_end(source: FakeSource, make_library: MakeLibrary) -> None:
    source.storage = StorageManner.NO_RANGES
    library = make_library()
    source.add(1, Result(CONTENT, has_length=False))

    assert size_of(library, 1) == SIZE
    assert source.count("stream", 1) == 1


def test_a_storage_that_does_not_count_from_the_end(
    source: FakeSource, make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is requested by offset, and not the other way again."""
    open_stored, asked = FakeSource.open_stored, []

    def refuse(source: FakeSource, signed: SignedUrl, start: int, stop: int | None) -> FakeBody:
        asked.append(start)
        if start < 0:
            raise BadResponse("storage says 400", 400)
        return open_stored(source, signed, start, stop)

    monkeypatch.setattr(FakeSource, "open_stored", refuse)
    library = make_library()
    _prove_storage(source, library)
    eventually(lambda: not our_threads())  # its stream may report the size before storage does
    for run_id in (1, 2):
        source.add(run_id, Result(CONTENT, has_length=False))
        assert size_of(library, run_id) == SIZE
    assert source.count("stream") == 1
    assert sum(start < 0 for start in asked) == 1


def test_a_storage_that_trickles_costs_only_the_stream(
    source: FakeSource, make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_PROBE_TAKES_S", 0.0)
    library = make_library()
    source.add(1, Result(CONTENT, has_length=False))

    assert size_of(library, 1) == SIZE


@pytest.mark.tuning(probe_takes_s=0.01)
def test_a_storage_that_is_silent_costs_only_the_stream(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stored", 1, Plan(gate=gate))

    assert size_of(library, 1) == SIZE
    gate.open()


def test_the_first_is_compared_also_for_a_bare_stat(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    source.piece_bytes = 1000
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(stall_at=storage_module.HEAD_BYTES - 1, stall_gate=gate))
    library = make_library()
    stat = in_thread(lambda: size_of(library, 1))
    gate.wait_for_arrivals()
    eventually(lambda: source.sent("stored", 1))

    assert library.info(RunId(1)) is None
    gate.open()
    assert stat.result(LIMIT_S) == SIZE


def test_one_stream_proves_storage_for_many_who_ask_at_once(
    source: FakeSource, make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_trust, "_PROOF_TAKES_S", LIMIT_S)
    for run_id in range(1, 9):
        source.add(run_id, Result(some_flac(SIZE + run_id, seed=run_id), has_length=False))
    library = make_library()
    stats = [in_thread(lambda run_id=run_id: size_of(library, run_id)) for run_id in range(1, 9)]  # type: ignore[misc]

    assert [stat.result(LIMIT_S) for stat in stats] == [SIZE + run_id for run_id in range(1, 9)]
    assert source.count("stream") == 1


def test_many_who_ask_for_one_share_its_requests(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stored", 1, Plan(gate=gate))
    stats = [in_thread(lambda: size_of(library, 1)) for _ in range(8)]
    gate.wait_for_arrivals()
    gate.open()

    assert {stat.result(LIMIT_S) for stat in stats} == {SIZE}
    assert (source.count("sign", 1), source.count("stored", 1), source.count("stream", 1)) == (1, 2, 0)


def test_a_small_result(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.add(1, Result(some_flac(100), has_length=False))

    assert size_of(library, 1) == 100


# From a storage that has something else.


@pytest.mark.parametrize(
    "stored",
    [
        some_bytes(SIZE - 5, seed=1),
        some_bytes(SIZE + 5, seed=1, head=b"RIFF\x24\x08\x00\x00WAVE"),
        CONTENT[:4095] + b"\0" + CONTENT[4096:] + b"more",
    ],
    ids=["another FLAC", "WAV", "another byte in the head"],
)
def test_another_object_is_not_believed(
    source: FakeSource, make_library: MakeLibrary, stored: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for run_id in (1, 2):
        source.add(run_id, Result(CONTENT, has_length=False, stored=stored))
    gate = stalls_at(source, 5000)
    library = make_library()
    stat = in_thread(lambda: size_of(library, 1))
    gate.wait_for_arrivals()
    with caplog.at_level(logging.WARNING):
        eventually(lambda: context_of(library).store.trust.distrusted)
    assert library.info(RunId(1)) is None
    gate.open()
    assert stat.result(LIMIT_S) == SIZE
    assert read_all(library, 1) == CONTENT
    asked = source.count("stored")

    assert size_of(library, 2) == SIZE
    assert source.count("stored") == asked
    assert "it is not used any more" in caplog.text


def test_a_result_that_changes_between_two_opens_is_no_fault_of_storage(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    library = make_library(limit_bytes=100)  # nothing is kept
    _prove_storage(source, library)
    for has_length in (True, False):
        for content in (CONTENT, some_flac(SIZE + 7), some_flac(SIZE - 7)):
            source.add(1, Result(content, has_length=has_length))
            context_of(library).store.forget(RunId(1))
            if len(content) < SIZE:  # a size was shown, and no read ends before it in silence
                with pytest.raises(ResultChanged):
                    read_all(library, 1)
            assert read_all(library, 1) == content
            eventually(no_threads)

    assert not context_of(library).store.trust.distrusted


def test_an_empty_object_is_not_believed(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    source.piece_bytes = 1000
    source.add(1, Result(CONTENT, has_length=False, stored=b""))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    library = make_library()
    stat = in_thread(lambda: size_of(library, 1))
    gate.wait_for_arrivals()
    eventually(lambda: source.count("stored", 1) and not any(name.startswith("size") for name in our_threads()))

    assert library.info(RunId(1)) is None
    gate.open()
    assert stat.result(LIMIT_S) == SIZE


def test_another_length_than_the_header_says_is_not_believed(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT, stored=CONTENT + b"more"))
    gate = stalls_at(source, 5000)
    library = make_library()
    _prove_storage(source, library)
    stat = in_thread(lambda: size_of(library, 1))
    gate.open()
    stat.result(LIMIT_S)

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE


def test_a_size_that_storage_told_is_corrected_by_the_stream(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.add(1, Result(CONTENT, has_length=False, stored=some_bytes(SIZE + 500, seed=1)))
    size_of(library, 1)

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    assert library.was_reported(RunId(1))


def test_what_is_no_flac_is_not_believed_without_comparing(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    content = some_bytes(SIZE, head=b"RIFF")
    source.add(1, Result(content, has_length=False))

    assert size_of(library, 1) == SIZE
    assert source.count("stream", 1) == 1


# A storage without sizes.


@pytest.mark.parametrize(
    "manner",
    [StorageManner.NO_LENGTH, StorageManner.UNREACHABLE, StorageManner.REFUSING, StorageManner.BUSY],
)
def test_a_storage_that_tells_nothing_costs_only_the_stream(
    source: FakeSource, make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch, manner: StorageManner
) -> None:
    monkeypatch.setattr(storage_module, "_PROBE_AGAIN_FOR_S", 0.02)
    source.storage = manner
    for run_id in (1, 2):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id), has_length=False))
    library = make_library()

    assert size_of(library, 1) == SIZE
    assert read_all(library, 2) == some_flac(SIZE, seed=2)
    assert size_of(library, 2) == SIZE
    assert source.count("stream") == 2


def test_a_storage_that_could_not_be_reached_is_left_alone_a_while(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.storage = StorageManner.UNREACHABLE
    for run_id in (1, 2, 3):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id), has_length=False))
    library = make_library()
    for run_id in (1, 2, 3):
        assert size_of(library, run_id) == SIZE
        eventually(lambda: not our_threads())

    assert source.count("stored") == 4, "for the head and the end, and once more each"


def test_a_storage_that_sends_less_than_it_says(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    source.plan_always("stored", 1, Plan(break_after=100))

    assert size_of(make_library(), 1) == SIZE


def test_an_expired_url_is_renewed_once_for_all(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.add(1, Result(CONTENT, has_length=False))
    library.signature(RunId(1), deadline())
    source.expire_signatures()
    gate = Gate()
    source.plan("stored", 1, Plan(gate=gate))
    stats = [in_thread(lambda: size_of(library, 1)) for _ in range(4)]
    gate.wait_for_arrivals()
    gate.open()

    assert {stat.result(LIMIT_S) for stat in stats} == {SIZE}
    assert (source.count("sign", 1), source.count("stream", 1)) == (2, 0)
    assert source.count("stored", 1) in (3, 4), "the one for the end may come with the new URL"


# An API without sizes.


def test_an_api_that_cannot_sign_is_asked_for_the_stream(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    source.plan_always("sign", 1, Plan(error=UnknownRun("run 1: the API says 404", 404)))
    library = make_library()

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE


@pytest.mark.parametrize("error", [UnknownRun("no", 404), KeyRefused("no", 401)])
def test_a_refusal_of_both_is_the_answer(
    source: FakeSource, make_library: MakeLibrary, error: UnknownRun | KeyRefused
) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.plan("sign", 1, Plan(error=error))
    source.plan("stream", 1, Plan(error=error))

    with pytest.raises(type(error)):
        size_of(library, 1)


def test_an_unknown_run_is_remembered_for_a_short_time(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library(unknown_for_s=LIMIT_S)
    _prove_storage(source, library)
    with pytest.raises(UnknownRun):
        size_of(library, 1)
    asked = source.requests
    for ask in (size_of, read_all):
        with pytest.raises(UnknownRun):
            ask(library, 1)
    with pytest.raises(UnknownRun):
        library.signature(RunId(1), deadline())
    assert source.requests == asked

    other = make_library(unknown_for_s=0.01)
    _prove_storage(source, other)
    with pytest.raises(UnknownRun):
        size_of(other, 1)
    source.add(1, Result(CONTENT))
    eventually(lambda: _is_known(other))


def _is_known(library: Library) -> bool:
    try:
        return size_of(library, 1) == SIZE
    except UnknownRun:
        return False


def test_a_failure_is_shared_and_the_next_asks_anew(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    source.add(1, Result(CONTENT, has_length=False))
    gate = Gate()
    source.plan("sign", 1, Plan(error=KeyRefused("no", 401)))
    source.plan("stream", 1, Plan(error=KeyRefused("no", 401), gate=gate))
    callers = [Watched() for _ in range(6)]
    stats = [in_thread(lambda caller=caller: library.wait_for_info(RunId(1), caller)) for caller in callers]  # type: ignore[misc]
    for caller in callers:
        caller.await_waiting()
    gate.open()
    for stat in stats:
        with pytest.raises(KeyRefused):
            stat.result(LIMIT_S)
    assert source.count("sign", 1) == 1

    assert size_of(library, 1) == SIZE
    assert source.count("sign", 1) == 2


# From the cache.


def test_from_the_cache_with_the_api_down(source: FakeSource, make_library: MakeLibrary, tmp_path: Path) -> None:
    source.add(1, Result(CONTENT))
    library = make_library(Cache(Disk(tmp_path), 1 << 20))
    assert read_all(library, 1) == CONTENT
    info = library.info(RunId(1))
    library.close()
    asked = source.requests
    for kind in ("stream", "sign", "stored"):
        source.plan_always(kind, 1, Plan(error=Unreachable("gone")))
    library = make_library(Cache(Disk(tmp_path), 1 << 20))

    assert library.info(RunId(1)) == info
    assert size_of(library, 1) == SIZE
    assert read_all(library, 1) == CONTENT
    assert source.requests == asked


def test_the_time_of_a_file_does_not_change(source: FakeSource, make_library: MakeLibrary, tmp_path: Path) -> None:
    source.add(1, Result(CONTENT, has_length=False, modified_s=None))
    library = make_library(Cache(Disk(tmp_path), 1 << 20))
    _prove_storage(source, library)
    times = {library.wait_for_info(RunId(1), deadline()).mtime_ns}
    read_all(library, 1)
    times.add(library.wait_for_info(RunId(1), deadline()).mtime_ns)
    library.close()
    library = make_library(Cache(Disk(tmp_path), 1 << 20))
    times.add(library.wait_for_info(RunId(1), deadline()).mtime_ns)

    assert len(times) == 1


def test_temporary_failures_are_repeated(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("sign", 1, Plan(error=ServerError("down", 503)))
    source.plan("stored", 1, Plan(error=ServerError("down", 503)))
    source.plan("stream", 1, Plan(error=ServerError("down", 503)))

    assert size_of(make_library(), 1) == SIZE


def test_a_size_beyond_the_limit_is_refused_whoever_tells_it(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library(max_result_bytes=SIZE)
    _prove_storage(source, library)
    source.add(1, Result(CONTENT, has_length=False))
    source.add(2, Result(CONTENT + b"x", has_length=False))
    assert size_of(library, 1) == SIZE
    with pytest.raises(TooLarge, match="run 2: the result is larger than 20000 bytes"):
        size_of(library, 2)


def test_sizes_that_were_only_believed_fall_with_storage(source: FakeSource, make_library: MakeLibrary) -> None:
    library = make_library()
    _prove_storage(source, library)
    for run_id in (1, 2):
        source.add(run_id, Result(CONTENT, has_length=False, stored=some_flac(SIZE + 4, seed=4)))
    assert size_of(library, 1) == SIZE + 4, "it is whole, and storage was right before"

    gate = Gate()
    source.plan("stored", 2, Plan(gate=gate))
    assert read_all(library, 2) == CONTENT
    gate.open()
    eventually(lambda: library.info(RunId(1)) is None)
    assert library.was_reported(RunId(1))
    assert size_of(library, 1) == SIZE
