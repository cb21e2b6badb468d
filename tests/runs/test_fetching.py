"""How results are fetched: once for all, resumed when they break, far ones by range: `run`, `fetching`, `content`."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import cambfs.demo
from cambfs.audio import End, end_of, tail_bytes_wanted
from cambfs.cache import checks
from cambfs.cache import disk as disk_module
from cambfs.cache import spool as spool_module
from cambfs.cache.cache import Cache
from cambfs.cache.disk import Disk
from cambfs.cache.sidecar import Sidecar
from cambfs.deadline import Deadline
from cambfs.errors import (
    BadResponse,
    BrokenBody,
    CacheDamaged,
    CambfsError,
    Cancelled,
    Closing,
    KeyRefused,
    LinkError,
    NotWhole,
    RateLimited,
    ResultChanged,
    ServerError,
    TimedOut,
    TooLarge,
    UnknownRun,
    Unreachable,
)
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote import object_store
from cambfs.remote.object_store import Probe
from cambfs.runs import run
from cambfs.runs.library import Handle, Library
from cambfs.runs.transfer import Transfer
from cambfs.system import slots
from tests import waiting
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner, some_flac
from tests.waiting import (
    SHORT_DISTANCES,
    MakeLibrary,
    deadline,
    eventually,
    in_thread,
    library_of,
    our_threads,
    pieces,
    read_all,
    size_of,
)

SIZE = 100_000
CONTENT = some_flac(SIZE)
UNCOUNTED = some_flac(SIZE, counted=False)
TAIL_BYTES = tail_bytes_wanted(CONTENT)
OVERLAP_BYTES = 4096
PROBE_BYTES = object_store.HEAD_BYTES + object_store._TAIL_BYTES
OTHER = some_flac(SIZE, seed=5)
RUN = RunId(1)
_SAMPLE = (Path(cambfs.demo.__file__).parent / "samples" / "101.flac").read_bytes()


def _no_threads() -> bool:
    return not our_threads()


def _open(library: Library, run_id: int = 1) -> Handle:
    return library.open(RunId(run_id), deadline())


def _read(handle: Handle, offset: int, length: int) -> bytes:
    return handle.read(offset, length, deadline())


@pytest.fixture
def cache(disk: Disk) -> Cache:
    return Cache(disk, 10 * SIZE)


@pytest.fixture
def library(make_library: MakeLibrary, cache: Cache) -> Library:
    return make_library(cache)


# Once for all.


@pytest.mark.parametrize("has_length", [True, False])
def test_many_readers_at_random_places_share_one_download(
    source: FakeSource, library: Library, has_length: bool
) -> None:
    source.piece_bytes = 700
    source.add(1, Result(CONTENT, has_length=has_length))

    def reader(seed: int) -> bool:
        handle, dice = _open(library), random.Random(seed)
        places = [dice.randrange(SIZE) for _ in range(20)]
        same = [_read(handle, place, 500) == CONTENT[place : place + 500] for place in places]
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
    eventually(_no_threads)
    asked = source.requests

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    assert source.requests == asked


def test_reads_end_where_the_result_ends(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    handle = _open(library)

    assert _read(handle, SIZE - 10, 100) == CONTENT[-10:]
    assert _read(handle, SIZE, 100) == b""
    assert _read(handle, SIZE + 1000, 100) == b""
    assert _read(handle, 0, 0) == b""
    handle.close()


def test_a_read_waits_until_it_can_be_answered_in_full(source: FakeSource, library: Library) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=4999, stall_gate=gate))
    handle = _open(library)
    assert _read(handle, 0, 4999) == CONTENT[:4999]
    read = in_thread(lambda: _read(handle, 4000, 1000))
    gate.wait_for_arrivals()

    assert not read.done()
    gate.open()
    assert read.result(LIMIT_S) == CONTENT[4000:5000]
    handle.close()


def test_a_read_fills_its_buffer_and_at_the_end_only_a_part_of_it(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    handle = _open(library)
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
        handle = _open(library)
        same.append(handle.same_bytes)
        list(pieces(handle))
        handle.close()
        eventually(_no_threads)

    assert same == [False, True, True]


def test_pages_are_dropped_when_a_result_was_fetched_anew(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT))
    source.add(2, Result(OTHER))
    library = make_library(Cache(None, SIZE))
    for run_id in (1, 2):
        read_all(library, run_id)
        eventually(_no_threads)
    handle = _open(library)

    assert not handle.same_bytes
    handle.close()


# Bodies that break.


def test_a_range_with_a_validator_fetches_no_byte_twice(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    source.plan("stream", 1, Plan(break_after=30_000), Plan(break_after=50_000))

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0, 30_000, 80_000]
    assert source.sent("stream", 1) == SIZE


@pytest.mark.parametrize("has_length", [True, False])
def test_without_ranges_it_begins_anew_and_compares(source: FakeSource, library: Library, has_length: bool) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, has_length=has_length))
    source.plan("stream", 1, Plan(break_after=30_000), Plan(break_after=20_000))

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0, 0, 0]
    eventually(lambda: library._cache.runs() == [1])


def test_ranges_of_storage_continue_the_stream_once_compared(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    handle = _open(library)
    assert handle.size(deadline()) == SIZE
    gate.open()

    assert b"".join(pieces(handle)) == CONTENT
    assert source.starts("stream", 1) == [0]
    assert source.starts("stored", 1)[2:] == [30_000 - OVERLAP_BYTES], "behind those for the head and the end"
    handle.close()


def test_ranges_that_were_not_compared_are_not_used(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False, stored=OTHER))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    eventually(lambda: source.sent("stored", 1))
    gate.open()

    assert read.result(LIMIT_S) == CONTENT
    assert source.starts("stream", 1) == [0, 0]


def test_a_server_that_forgets_its_ranges_is_compared(source: FakeSource, library: Library) -> None:
    result = source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    result.ranges, result.etag = False, None
    gate.open()

    assert read.result(LIMIT_S) == CONTENT
    assert source.starts("stream", 1) == [0, 0]


def test_a_part_is_continued_at_the_next_open(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    handle = _open_one_that_breaks_and_is_refused(source, library)
    handle.close()
    eventually(_no_threads)

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0, 30_000]
    assert source.sent("stream", 1) == SIZE


def _open_one_that_breaks_and_is_refused(source: FakeSource, library: Library) -> Handle:
    """A read of what comes after the break fails."""
    gate = Gate()
    breaks = Plan(break_after=30_000, stall_at=29_999, stall_gate=gate)
    source.plan("stream", 1, breaks, Plan(error=KeyRefused("no", 401)))
    handle = _open(library)
    read = in_thread(lambda: _read(handle, 50_000, 1000))
    eventually(lambda: library._runs[RUN]._waiters)
    gate.open()
    with pytest.raises(KeyRefused):
        read.result(LIMIT_S)
    return handle


def test_a_body_that_breaks_again_and_again_is_an_error_in_the_end(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT))
    source.plan_always("stream", 1, Plan(break_after=5000))
    library = make_library(timeout_s=0.2)

    with pytest.raises(BrokenBody):
        read_all(library, 1)


def test_a_body_that_breaks_again_and_again_is_completed_from_storage(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    source.plan_always("stream", 1, Plan(break_after=30_000))

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0]
    assert source.starts("stored", 1)[-1] == 30_000 - OVERLAP_BYTES


@pytest.mark.parametrize("ends", [[40_000, 60_000] * 50, [10_000 * n for n in range(1, 9)]], ids=["in turns", "on"])
def test_answers_that_end_elsewhere_each_time_are_not_asked_for_for_ever(
    source: FakeSource, library: Library, ends: list[int]
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, *(Plan(end_at=end) for end in ends))

    with pytest.raises(NotWhole):
        read_all(library, 1)
    assert source.count("stream", 1) <= 4


@pytest.mark.parametrize("has_length", [True, False])
def test_storage_alone_proves_nothing(source: FakeSource, library: Library, has_length: bool) -> None:
    """Its object ends in an intact frame, and before the stream does."""
    whole, cut = UNCOUNTED, UNCOUNTED.rindex(b"\xff\xf8\x70\0", 0, SIZE - 2000)
    assert end_of(whole[:4096], whole[cut - TAIL_BYTES : cut], cut) is End.INTACT
    source.add(2, Result(OTHER, has_length=False))
    assert size_of(library, 2) == SIZE
    source.add(1, Result(whole, has_length=has_length, stored=whole[:cut]))
    assert size_of(library, 1) in (cut, SIZE)

    with suppress(NotWhole):
        assert read_all(library, 1) == whole
    eventually(_no_threads)
    assert size_of(library, 1) == SIZE
    assert read_all(library, 1) == whole


@pytest.mark.parametrize("next_has_length", [True, False])
def test_a_size_that_was_told_is_not_lowered_in_silence(
    source: FakeSource, library: Library, next_has_length: bool
) -> None:
    source.storage = StorageManner.UNREACHABLE
    result = source.add(1, Result(CONTENT + bytes(1000)))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    handle = _open(library)
    assert handle.size(deadline()) == SIZE + 1000
    result.content, result.has_length = CONTENT, next_has_length
    gate.open()

    with pytest.raises((NotWhole, ResultChanged)):
        b"".join(pieces(handle))
    handle.close()
    assert read_all(library, 1) == CONTENT


def test_what_a_peer_said_of_a_part_is_no_proof_later(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    result = source.add(1, Result(CONTENT + bytes(1000)))
    source.piece_bytes, gate = 1000, Gate()
    source.plan("stream", 1, Plan(stall_at=30_000, stall_gate=gate))
    handle = _open(library)
    assert _read(handle, 0, 1000) == CONTENT[:1000]
    handle.close()
    gate.open()
    eventually(lambda: not library._runs)
    result.content = CONTENT

    with suppress(NotWhole, ResultChanged):  # the size that was told is another
        assert read_all(library, 1) == CONTENT
    assert read_all(library, 1) == CONTENT


# Bodies that just end with their connection.


def test_a_loose_end_before_storages_end_is_none(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=30_000))

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    eventually(lambda: library._cache.runs() == [1])


def test_a_loose_end_waits_for_what_storage_says(source: FakeSource, library: Library) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=30_000))
    source.plan("stored", 1, Plan(gate=gate))
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    eventually(lambda: source.sent("stream", 1) == 30_000)

    assert library.info(RUN) is None
    gate.open()
    assert read.result(LIMIT_S) == CONTENT


def test_a_loose_end_that_nothing_proves_is_not_kept(source: FakeSource, library: Library) -> None:
    """However often it is opened."""
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(UNCOUNTED, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=30_000))
    for _ in range(3):
        assert read_all(library, 1) == UNCOUNTED
        eventually(_no_threads)
    library.close()

    assert Cache(library._cache._disk, SIZE).runs() == []


def test_a_loose_end_at_storages_end_is_kept(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False, framed=False))

    assert read_all(library, 1) == CONTENT
    eventually(lambda: library._cache.runs() == [1])


def test_a_loose_end_that_the_audio_proves_is_kept(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(_SAMPLE, has_length=False, framed=False))

    assert read_all(library, 1) == _SAMPLE
    eventually(lambda: library._cache.runs() == [1])


@pytest.mark.parametrize("cut_off", [1, 1000])
def test_a_loose_end_that_the_audio_refutes_is_none(
    source: FakeSource, make_library: MakeLibrary, cache: Cache, cut_off: int
) -> None:
    """However often the connection ends there."""
    library = make_library(cache, timeout_s=0.5)
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(_SAMPLE, has_length=False, framed=False))
    source.plan_always("stream", 1, Plan(break_after=len(_SAMPLE) - cut_off))

    with pytest.raises(BrokenBody, match=f"ended at byte {len(_SAMPLE) - cut_off}, and the audio does not"):
        read_all(library, 1)
    eventually(_no_threads)
    assert library._cache.runs() == []


def test_a_loose_end_that_nothing_proves_takes_two(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(UNCOUNTED, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=20_000))

    assert read_all(library, 1) == UNCOUNTED
    assert source.count("stream", 1) == 3
    eventually(_no_threads)
    assert library._cache.runs() == []


# Ends that HTTP marks, and other things contradict.


@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("storage", [StorageManner.RANGES, StorageManner.UNREACHABLE])
def test_a_short_answer_costs_another(
    source: FakeSource, library: Library, has_length: bool, storage: StorageManner
) -> None:
    source.storage = storage
    source.add(1, Result(CONTENT, has_length=has_length))
    source.plan("stream", 1, Plan(end_at=40_000))

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    assert not library._context.store.distrusted
    eventually(lambda: library._cache.runs() == [1])


@pytest.mark.parametrize("has_length", [True, False])
def test_what_stays_short_is_an_error(source: FakeSource, library: Library, has_length: bool) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, has_length=has_length))
    source.plan_always("stream", 1, Plan(end_at=40_000))

    with pytest.raises(NotWhole):
        read_all(library, 1)
    eventually(_no_threads)
    assert library._cache.runs() == []
    assert source.count("stream", 1) == 2


def test_what_stays_short_is_completed_from_storage(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    source.plan_always("stream", 1, Plan(end_at=40_000))

    assert read_all(library, 1) == CONTENT
    assert source.starts("stored", 1)[-1] == 40_000 - OVERLAP_BYTES


@pytest.mark.parametrize("etag", [None, '"a"'], ids=["no ranges", "ranges"])
@pytest.mark.parametrize("has_length", [True, False])
def test_an_end_that_only_the_framing_marks_takes_two_answers(
    source: FakeSource, library: Library, has_length: bool, etag: str | None
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(UNCOUNTED, has_length=has_length, etag=etag, ranges=etag is not None))

    assert read_all(library, 1) == UNCOUNTED
    assert source.starts("stream", 1) == [0, 0]
    eventually(lambda: library._cache.runs() == [1])


def test_an_end_that_storage_confirms_takes_one(source: FakeSource, library: Library) -> None:
    source.add(1, Result(UNCOUNTED, has_length=False))

    assert read_all(library, 1) == UNCOUNTED
    assert source.starts("stream", 1) == [0]
    eventually(lambda: library._cache.runs() == [1])


def test_audio_that_miscounts_is_served_where_two_agree_against_it(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT + b"a tag", has_length=False))

    assert read_all(library, 1) == CONTENT + b"a tag"
    eventually(lambda: library._cache.runs() == [1])


@pytest.mark.parametrize("length", [SIZE // 2, SIZE + 1000])
def test_a_storage_of_another_length_is_not_what_a_size_comes_from(
    source: FakeSource, library: Library, length: int
) -> None:
    """Its head is the stream's, and it was right about another run."""
    source.add(2, Result(OTHER, has_length=False))
    assert size_of(library, 2) == SIZE
    source.add(1, Result(CONTENT, has_length=False, stored=(CONTENT + bytes(1000))[:length]))

    assert size_of(library, 1) == SIZE
    assert read_all(library, 1) == CONTENT
    assert not library._context.store.distrusted


def test_a_size_from_another_runs_object_ends_no_read_early(source: FakeSource, library: Library) -> None:
    """The URLs of two runs were swapped: what was told is withdrawn with an error, not with a short file."""
    short = some_flac(SIZE // 2, seed=7)
    source.add(2, Result(OTHER, has_length=False))
    assert size_of(library, 2) == SIZE
    source.add(1, Result(short, has_length=False, stored=CONTENT))
    assert size_of(library, 1) == SIZE

    with pytest.raises(NotWhole, match="storage said 100000 bytes, and the stream has 50000"):
        read_all(library, 1)
    eventually(_no_threads)
    assert size_of(library, 1) == SIZE // 2
    assert read_all(library, 1) == short


def test_a_part_of_unknown_length_is_gone_on_from(source: FakeSource, library: Library) -> None:
    result = source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    result.part_bytes = 30_000
    source.storage = StorageManner.UNREACHABLE
    source.plan("stream", 1, Plan(break_after=10_000))

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0, 10_000, 40_000, 70_000]


@pytest.mark.parametrize("error", [RateLimited("busy", 429, 60.0), ServerError("down", 503), Unreachable("gone")])
def test_a_storage_that_fails_in_the_middle_costs_another_stream(
    source: FakeSource, library: Library, error: CambfsError
) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    handle = _open(library)
    assert handle.size(deadline()) == SIZE
    source.plan_always("stored", 1, Plan(error=error))
    gate.open()

    assert b"".join(pieces(handle)) == CONTENT
    assert source.starts("stream", 1) == [0, 0]
    handle.close()


def test_a_storage_that_breaks_off_again_costs_another_stream(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    handle = _open(library)
    assert handle.size(deadline()) == SIZE
    source.plan_always("stored", 1, Plan(break_after=100))
    gate.open()

    assert b"".join(pieces(handle)) == CONTENT
    assert source.starts("stream", 1) == [0, 0]
    handle.close()


@pytest.mark.parametrize(
    "error", [ServerError("down", 500), RateLimited("busy", 429, 60.0), BadResponse("null", 200), TimedOut("silent")]
)
@pytest.mark.tuning(probe_takes_s=0.05)
def test_an_api_that_does_not_sign_costs_the_shortcut(
    source: FakeSource, make_library: MakeLibrary, error: CambfsError
) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    source.plan_always("sign", 1, Plan(error=error))
    library = make_library()

    assert size_of(library, 1) == SIZE
    assert read_all(library, 1) == CONTENT


# Results that change.


@pytest.mark.parametrize("etags", [('"a"', '"b"'), (None, None)], ids=["etags", "no etags"])
def test_another_result_is_never_mixed_with_the_first(
    source: FakeSource, library: Library, etags: tuple[str | None, str | None]
) -> None:
    source.add(1, Result(CONTENT, etag=etags[0], ranges=True))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    old = _open(library)
    assert _read(old, 0, 1000) == CONTENT[:1000]
    read = in_thread(lambda: _read(old, SIZE - 1000, 1000))
    gate.wait_for_arrivals()
    source.add(1, Result(OTHER, etag=etags[1], ranges=True))
    gate.open()

    with pytest.raises(ResultChanged):
        read.result(LIMIT_S)
    with pytest.raises(ResultChanged):
        _read(old, 0, 1000)
    assert read_all(library, 1) == OTHER
    old.close()
    assert read_all(library, 1) == OTHER
    assert size_of(library, 1) == SIZE


@pytest.mark.parametrize("ranges", [True, False])
def test_another_validator_is_another_result_though_it_begins_alike(
    source: FakeSource, library: Library, ranges: bool
) -> None:
    other = CONTENT[:60_000] + OTHER[60_000:]
    source.add(1, Result(CONTENT, etag='"a"', ranges=ranges))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    source.add(1, Result(other, etag='"b"', ranges=ranges))
    gate.open()

    with pytest.raises(ResultChanged):
        read.result(LIMIT_S)
    assert read_all(library, 1) == other


@pytest.mark.parametrize("new_size", [SIZE - 10_000, SIZE + 10_000])
def test_another_length_is_another_result(source: FakeSource, library: Library, new_size: int) -> None:
    new = CONTENT[:new_size] if new_size < SIZE else CONTENT + OTHER[: new_size - SIZE]
    source.add(1, Result(CONTENT))
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    source.add(1, Result(new))
    gate.open()

    with pytest.raises(ResultChanged):
        read.result(LIMIT_S)
    assert read_all(library, 1) == new
    assert size_of(library, 1) == new_size


def test_a_cached_file_that_is_cut_off_under_a_reader(
    source: FakeSource, library: Library, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1, Result(CONTENT))
    read_all(library, 1)
    eventually(_no_threads)
    handle = _open(library)
    (disk.directory / "1.flac").write_bytes(CONTENT[:1000])

    with pytest.raises(CacheDamaged):
        _read(handle, 500, 1000)
    assert read_all(library, 1) == CONTENT
    handle.close()
    assert "fetched anew" in caplog.text
    assert source.count("stream") == 2


def test_a_cached_file_that_is_changed_under_a_reader_is_fetched_anew_at_the_next_open(
    source: FakeSource, library: Library, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1, Result(CONTENT))
    read_all(library, 1)
    eventually(_no_threads)
    handle = _open(library)
    assert _read(handle, 0, 10) == CONTENT[:10]
    with (disk.directory / "1.flac").open("r+b") as file:
        file.write(b"x")

    assert read_all(library, 1) == CONTENT
    with pytest.raises(CacheDamaged):
        _read(handle, 500, 1000)
    handle.close()
    assert "changed while it was open" in caplog.text
    eventually(_no_threads)
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 2


def test_a_cached_file_that_is_changed_under_a_reader_is_noticed_by_it(
    source: FakeSource, library: Library, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_LOOK_EVERY_S", 0.0)
    source.add(1, Result(CONTENT))
    read_all(library, 1)
    eventually(_no_threads)
    handle = _open(library)
    (disk.directory / "1.flac").write_bytes(CONTENT[:-1] + b"x")

    with pytest.raises(CacheDamaged):
        _read(handle, 500, 1000)
    handle.close()
    assert read_all(library, 1) == CONTENT


def test_wrong_bytes_end_also_a_stream_that_has_brought_all_of_them(
    source: FakeSource, library: Library, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(stall_at=SIZE, stall_gate=gate))
    handle = _open(library)
    assert _read(handle, 0, SIZE) == CONTENT
    gate.wait_for_arrivals()
    next((disk.directory / "part").iterdir()).write_bytes(CONTENT[:1000])

    with pytest.raises(CacheDamaged):
        _read(handle, 500, 1000)
    monkeypatch.setattr(waiting, "LIMIT_S", LIMIT_S / 4)  # long before the gate lets it go
    eventually(_no_threads)
    handle.close()


@pytest.mark.parametrize("looker", ["probe", "caller"])
def test_whoever_finds_that_bytes_are_gone_ends_it(
    looker: str, source: FakeSource, library: Library, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    stream, probe = Gate(), Gate()
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=stream))
    source.plan("stored", 1, Plan(gate=probe))
    handle, run_in_use = _open(library), library._runs[RUN]
    assert _read(handle, 0, 5000) == CONTENT[:5000]
    probe.wait_for_arrivals()
    next((disk.directory / "part").iterdir()).write_bytes(CONTENT[:1000])
    if looker == "caller":  # it looks at what the probe has brought
        run_in_use._downloader.is_probing = False
        run_in_use._content.sizing.probe = Probe(SIZE, CONTENT[:4096], End.WHOLE, True, None, None)
        with pytest.raises(CacheDamaged):
            handle.size(deadline())
    probe.open()
    eventually(lambda: run_in_use._waiters.final_error, "nothing has ended it")

    for _ in range(3):
        with pytest.raises(CacheDamaged):
            _read(handle, 0, 100)
    eventually(_no_threads)
    handle.close()
    assert read_all(library, 1) == CONTENT
    assert caplog.text.count("fetched anew") == 1


# Failures.


def test_a_failure_is_shared_by_all_who_wait_and_the_next_begins_anew(source: FakeSource, library: Library) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(error=BadResponse("nonsense", 200), gate=gate))
    reads = [in_thread(lambda: read_all(library, 1)) for _ in range(8)]
    eventually(lambda: RUN in library._runs and len(library._runs[RUN]._waiters) == 8)
    gate.open()

    for read in reads:
        with pytest.raises(BadResponse):
            read.result(LIMIT_S)
    assert source.count("stream") == 1
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 2


def test_a_handle_survives_a_failure(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT))
    handle = _open_one_that_breaks_and_is_refused(source, library)

    assert _read(handle, 0, 30_000) == CONTENT[:30_000]
    assert _read(handle, 50_000, 1000) == CONTENT[50_000:51_000]
    handle.close()


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


def test_a_result_that_stalls_does_not_hold_back_another(
    source: FakeSource, make_library: MakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "STALLED_AFTER_S", 0.05)
    monkeypatch.setattr(slots, "_LOOK_EVERY_S", 0.005)
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
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    stays = in_thread(lambda: _read(handle, 5000, 1000))
    gate.wait_for_arrivals()

    with pytest.raises(Cancelled):
        handle.read(5000, 1000, Deadline(LIMIT_S, lambda: True))
    with pytest.raises(Cancelled):
        library.open(RUN, Deadline(LIMIT_S, lambda: True)).read(5000, 1, Deadline(LIMIT_S, lambda: True))
    assert not stays.done()
    gate.open()
    assert stays.result(LIMIT_S) == CONTENT[5000:6000]
    handle.close()


@pytest.mark.parametrize(("error", "counts"), [(TimedOut("silent"), False), (BrokenBody("broken"), True)])
def test_bytes_that_come_again_are_progress_unless_the_server_fell_silent(
    source: FakeSource, library: Library, cache: Cache, error: LinkError, counts: bool
) -> None:
    source.piece_bytes = 5000
    source.storage = StorageManner.UNREACHABLE
    again, gate = Gate(), Gate()
    source.add(1, Result(CONTENT))
    second = Plan(gate=again, stall_at=40_000, stall_gate=gate)
    source.plan("stream", 1, Plan(break_after=50_000, break_error=error), second)
    handle = _open(library)
    stream = library._runs[RUN]._downloader.stream
    assert stream is not None
    again.wait_for_arrivals()
    before = stream.progress_at
    again.open()
    gate.wait_for_arrivals()

    assert (stream.progress_at > before) == counts
    gate.open()
    assert b"".join(pieces(handle)) == CONTENT
    assert stream.progress_at > before
    handle.close()
    eventually(lambda: cache.runs() == [1])


def test_a_read_without_progress_ends(source: FakeSource, make_library: MakeLibrary) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    library = make_library()
    handle = _open(library)
    gate.wait_for_arrivals()

    with pytest.raises(TimedOut):
        handle.read(5000, 1, Deadline(0.05))
    assert _read(handle, 0, 5000) == CONTENT[:5000]
    gate.open()
    assert _read(handle, 5000, 1) == CONTENT[5000:5001]
    handle.close()


# When nobody wants it any more.


@pytest.mark.tuning(**SHORT_DISTANCES)
@pytest.mark.parametrize("etag", ['"a"', None])
def test_a_far_end_is_not_waited_for_and_what_came_serves_the_next_open(
    source: FakeSource, library: Library, etag: str | None
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.piece_bytes = 1000
    gate = Gate()
    source.add(1, Result(CONTENT, etag=etag, ranges=etag is not None))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()
    handle.close()
    gate.open()
    eventually(_no_threads)
    came = source.sent("stream", 1)
    assert came < SIZE // 2
    source.plan("stream", 1, Plan(gate=(second := Gate())))
    handle = _open(library)

    assert _read(handle, 0, 5000) == CONTENT[:5000]
    second.open()
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()
    assert source.starts("stream", 1) == ([0, came] if etag else [0, 0])
    assert source.sent("stream", 1) == (SIZE if etag else SIZE + came)


@pytest.mark.tuning(**SHORT_DISTANCES, linger_s=LIMIT_S)
def test_somebody_who_comes_back_in_time_has_it_go_on(source: FakeSource, library: Library) -> None:
    source.piece_bytes = 1000
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()
    handle.close()
    gate.open()
    eventually(lambda: source.sent("stream", 1) == 6000)

    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1


def test_one_that_is_nearly_finished_is_finished(source: FakeSource, library: Library) -> None:
    source.piece_bytes = 1000
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=SIZE - 5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()
    handle.close()
    gate.open()
    eventually(_no_threads)

    assert library._cache.runs() == [1]
    assert source.sent("stream", 1) == SIZE
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1


# A cached file that nothing vouches for.


@pytest.fixture
def check(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The result is there, and to read it through takes until the gate opens."""
    spool = disk.new_spool(RUN, lambda: False)
    spool.write(0, CONTENT)
    disk.commit(RUN, spool, RunInfo(SIZE, 0), "audio/flac", "frames")
    spool.close()
    (disk.directory / "1.flac").touch()
    gate, sha256 = Gate(), checks.sha256

    def slowly(*arguments: Any) -> str:
        gate.go_through()
        return sha256(*arguments)

    monkeypatch.setattr(disk_module, "sha256", slowly)
    return gate


def test_it_is_read_through_once_for_all_before_anything_is_used(
    source: FakeSource, library: Library, check: Gate
) -> None:
    reads = [in_thread(lambda: read_all(library, 1)) for _ in range(4)]
    check.wait_for_arrivals()
    assert not any(read.done() for read in reads)
    check.open()

    assert [read.result(LIMIT_S) for read in reads] == [CONTENT] * 4
    assert check.arrivals == 1
    assert read_all(library, 1) == CONTENT
    assert check.arrivals == 1
    assert source.count("stream") == 0


def test_who_waits_for_it_can_be_killed(library: Library, check: Gate) -> None:
    is_killed = Event()
    open_ = in_thread(lambda: library.open(RUN, Deadline(LIMIT_S, is_killed.is_set)))
    check.wait_for_arrivals()
    is_killed.set()

    with pytest.raises(Cancelled):
        open_.result(LIMIT_S)
    check.open()


def test_the_end_of_the_mount_ends_it(library: Library, check: Gate, disk: Disk) -> None:
    open_ = in_thread(lambda: library.open(RUN, deadline()))
    check.wait_for_arrivals()
    closing = in_thread(library.close)
    with pytest.raises(Closing):
        open_.result(LIMIT_S)
    check.open()
    closing.result(LIMIT_S)
    eventually(_no_threads)

    assert disk.run_ids() == [1]
    found = disk.open(RUN)
    assert found is not None
    assert not found.is_right, "it was not read to its end"
    found.spool.close()


def test_one_that_is_damaged_is_fetched_again(source: FakeSource, library: Library, check: Gate, disk: Disk) -> None:
    (disk.directory / "1.flac").write_bytes(b"x" + CONTENT[1:])
    source.add(1, Result(CONTENT))
    check.open()

    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1
    eventually(lambda: disk.run_ids() == [1])


# Far from the stream.


@pytest.mark.tuning(**SHORT_DISTANCES)
@pytest.mark.parametrize("etag", ['"a"', None], ids=["ranges of the API", "ranges of storage"])
def test_a_far_place_is_fetched_by_range_and_the_holes_afterwards(
    source: FakeSource, library: Library, etag: str | None
) -> None:
    source.piece_bytes = 500
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=etag is not None, etag=etag, ranges=etag is not None))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()

    assert _read(handle, SIZE - 128, 128) == CONTENT[-128:]
    assert _read(handle, 60_000, 500) == CONTENT[60_000:60_500]
    eventually(lambda: not any(name.startswith("range") for name in our_threads()))
    gate.open()
    eventually(lambda: library._cache.runs() == [1])
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()
    fetched = source.sent("stream", 1) + source.sent("stored", 1)
    assert fetched <= SIZE + PROBE_BYTES + 2 * OVERLAP_BYTES + TAIL_BYTES + 2 * 500
    assert max(source.starts("stream" if etag else "stored", 1)) >= 60_000


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_how_fast_the_last_stream_was_says_what_is_far_before_the_next_has_shown_it(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    before, library = make_library(), make_library(rate_after_s=2 * LIMIT_S)
    for run_id in (1, 2):
        source.add(run_id, Result(CONTENT, etag='"a"', ranges=True))
    read_all(before, 2)
    eventually(lambda: before._context.api.bytes_per_s)
    library._context.api.bytes_per_s = before._context.api.bytes_per_s
    gate = Gate()
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()

    assert _read(handle, SIZE - 128, 128) == CONTENT[-128:]
    gate.open()
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_a_reader_that_goes_on_from_a_far_place_gets_a_stream_there(source: FakeSource, library: Library) -> None:
    source.piece_bytes = 500
    gate = Gate()
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()
    offset, came = 60_000, b""
    while piece := _read(handle, offset, 700):
        offset, came = offset + len(piece), came + piece

    assert came == CONTENT[60_000:]
    assert source.count("stream") <= 4
    gate.open()
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_without_ranges_a_far_reader_waits_for_the_stream(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.NO_RANGES
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    read = in_thread(lambda: _read(handle, SIZE - 128, 128))
    gate.wait_for_arrivals()
    eventually(lambda: source.sent("stored", 1))

    assert not read.done()
    gate.open()
    assert read.result(LIMIT_S) == CONTENT[-128:]
    assert source.sent("stream", 1) == SIZE
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_ranges_that_fail_cost_only_the_wait(source: FakeSource, library: Library) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate), Plan(error=BadResponse("416", 416)))
    handle = _open(library)
    gate.wait_for_arrivals()
    read = in_thread(lambda: _read(handle, SIZE - 128, 128))
    eventually(lambda: source.count("stream", 1) == 2)
    gate.open()

    assert read.result(LIMIT_S) == CONTENT[-128:]
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()


@pytest.mark.tuning(**{**SHORT_DISTANCES, "far_bytes": 1 << 20})
def test_reads_that_come_slightly_out_of_order_are_no_seek(source: FakeSource, library: Library) -> None:
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    handle = _open(library)
    for offset in range(0, SIZE, 2000):
        later = in_thread(lambda offset=offset: _read(handle, offset + 1000, 1000))  # type: ignore[misc]
        assert _read(handle, offset, 1000) == CONTENT[offset : offset + 1000]
        assert later.result(LIMIT_S) == CONTENT[offset + 1000 : offset + 2000]
    handle.close()

    assert source.starts("stream", 1) == [0]


# The cache, and the end.


def test_eviction_does_not_hurt_who_has_it_open(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> None:
    for run_id in range(1, 6):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id)))
    library = make_library(Cache(disk, 2 * SIZE))
    read_all(library, 1)
    handle = _open(library)
    for run_id in (2, 3, 4, 5):
        assert read_all(library, run_id) == some_flac(SIZE, seed=run_id)
        eventually(_no_threads)

    assert b"".join(pieces(handle)) == some_flac(SIZE, seed=1)
    assert len(library._cache.runs()) == 2
    handle.close()


def test_one_larger_than_the_cache_is_served(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> None:
    source.add(1, Result(CONTENT))
    library = make_library(Cache(disk, SIZE // 2))

    assert read_all(library, 1) == CONTENT
    eventually(_no_threads)
    assert read_all(library, 1) == CONTENT
    assert library._cache.runs() == []


def test_close_ends_all_threads_and_all_waiting(source: FakeSource, library: Library) -> None:
    gate = Gate()
    for run_id in (1, 2, 3):
        source.add(run_id, Result(CONTENT, has_length=False, etag='"a"', ranges=True))
        source.plan("stream", run_id, Plan(stall_at=5000, stall_gate=gate))
    handles = [_open(library, run_id) for run_id in (1, 2, 3)]
    reads = [in_thread(lambda handle=handle: _read(handle, 6000, 1000)) for handle in handles]  # type: ignore[misc]
    gate.wait_for_arrivals(3)
    library.close()

    assert _no_threads()
    for read in reads:
        with pytest.raises(Closing):
            read.result(LIMIT_S)
    for ask in (_open, read_all):
        with pytest.raises(Closing):
            ask(library, 1)
    with pytest.raises(Closing):
        _read(handles[0], 0, 10)
    for handle in handles:
        handle.close()


@pytest.mark.parametrize("has_length", [True, False])
def test_what_came_whole_is_kept_though_all_ends_at_that_moment(
    source: FakeSource, library: Library, disk: Disk, has_length: bool
) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=has_length))
    source.plan("stream", 1, Plan(stall_at=SIZE, stall_gate=gate))
    assert read_all(library, 1) == CONTENT
    gate.wait_for_arrivals()
    one = library._runs[RUN]
    closed = in_thread(library.close)
    eventually(lambda: one._waiters.final_error is not None)
    gate.open()
    closed.result(LIMIT_S)

    assert Cache(disk, SIZE).runs() == [1]
    assert read_all(library_of(source, Cache(disk, SIZE)), 1) == CONTENT
    assert source.count("stream") == 1


def test_nothing_is_asked_after_close(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    library.close()

    with pytest.raises(Closing):
        size_of(library, 1)
    with pytest.raises(Closing):
        library.signature(RUN, deadline())
    assert source.requests == 0


@pytest.mark.tuning(**SHORT_DISTANCES, linger_s=LIMIT_S)
def test_close_does_not_wait_for_a_stream_that_lingers(
    source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    _let_the_woken_look_before_they_are_told(monkeypatch)
    source.piece_bytes = 1000
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = _open(library)
    gate.wait_for_arrivals()
    handle.close()
    gate.open()
    eventually(lambda: source.sent("stream", 1) == 6000)
    library.close()

    assert _no_threads()


def _let_the_woken_look_before_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst order of things: who waits is woken, sees no reason to end, and then its transfer is told to stop."""
    looks: list[bool] = []
    is_wanted, stop_run, stop_transfer = run.Run._is_wanted, run.Run.stop, Transfer.stop
    looks_before = [0]

    def look(self: run.Run) -> bool:
        looks.append(True)
        return is_wanted(self)

    def stop(self: run.Run, error: CambfsError) -> None:
        looks_before[0] = len(looks)
        stop_run(self, error)

    def stop_late(self: Transfer) -> None:
        eventually(lambda: len(looks) > looks_before[0])
        stop_transfer(self)

    monkeypatch.setattr(run.Run, "_is_wanted", look)
    monkeypatch.setattr(run.Run, "stop", stop)
    monkeypatch.setattr(Transfer, "stop", stop_late)


@pytest.mark.tuning(close_s=0.05)
def test_a_stream_does_not_wait_for_storage_when_all_ends(source: FakeSource, library: Library) -> None:
    gate = Gate()
    source.add(1, Result(UNCOUNTED, has_length=False, framed=False))
    source.plan("stored", 1, Plan(gate=gate))
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    eventually(lambda: source.sent("stream", 1) == SIZE)
    library.close()

    eventually(lambda: not any(name.startswith("stream") for name in our_threads()))
    gate.open()
    with pytest.raises(Closing):
        read.result(LIMIT_S)


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_an_api_that_says_ranges_and_ignores_them_is_asked_once_more(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag='"a"', ranges=True, ignores_range=True))
    source.plan("stream", 1, Plan(break_after=10_000))

    assert read_all(make_library(), 1) == CONTENT
    assert source.count("stream", 1) <= 3


def test_another_validator_before_any_byte_came_is_no_change(source: FakeSource, make_library: MakeLibrary) -> None:
    result = Result(CONTENT, etag='"a"')
    source.add(1, result)
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=0, stall_at=0, stall_gate=gate), Plan())
    library = make_library()
    handle = library.open(RunId(1), deadline())
    result.etag = '"b"'
    gate.open()

    assert handle.read(0, 4096, deadline()) == CONTENT[:4096]
    handle.close()


def test_a_cached_result_opens_although_the_api_knows_the_run_no_more(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.add(1, Result(CONTENT))
    library = make_library()
    assert read_all(library, 1) == CONTENT
    eventually(lambda: library._cache.runs() == [1])
    source.plan_always("sign", 1, Plan(error=UnknownRun("gone", 404)))
    with pytest.raises(UnknownRun):
        library.signature(RunId(1), deadline())

    assert read_all(library, 1) == CONTENT
    assert library.listed() == [1]


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
