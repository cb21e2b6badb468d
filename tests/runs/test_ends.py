"""Where a result ends: bodies that just stop, and ends that other things contradict."""

from __future__ import annotations

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import (
    BadResponse,
    BrokenBody,
    CambfsError,
    NotWhole,
    RateLimited,
    ServerError,
    TimedOut,
    Unreachable,
)
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner, some_flac
from tests.runs.results import (
    CONTENT,
    OTHER,
    OVERLAP_BYTES,
    RUN,
    SAMPLE,
    SIZE,
    UNCOUNTED,
    breaks_when_told,
    open_run,
)
from tests.waiting import (
    MakeLibrary,
    cached,
    context_of,
    deadline,
    eventually,
    in_thread,
    no_threads,
    pieces,
    read_all,
    size_of,
)

# Bodies that just end with their connection.


def test_a_loose_end_before_storages_end_is_none(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=30_000))

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    eventually(lambda: cached(library) == [1])


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


def test_a_loose_end_that_nothing_proves_is_not_kept(source: FakeSource, library: Library, disk: Disk) -> None:
    """However often it is opened."""
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(UNCOUNTED, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=30_000))
    for _ in range(3):
        assert read_all(library, 1) == UNCOUNTED
        eventually(no_threads)
    library.close()

    assert Cache(disk, SIZE).runs() == []


def test_a_loose_end_at_storages_end_is_kept(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False, framed=False))

    assert read_all(library, 1) == CONTENT
    eventually(lambda: cached(library) == [1])


def test_a_loose_end_that_the_audio_proves_is_kept(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(SAMPLE, has_length=False, framed=False))

    assert read_all(library, 1) == SAMPLE
    eventually(lambda: cached(library) == [1])


@pytest.mark.parametrize("cut_off", [1, 1000])
def test_a_loose_end_that_the_audio_refutes_is_none(
    source: FakeSource, make_library: MakeLibrary, cache: Cache, cut_off: int
) -> None:
    """However often the connection ends there."""
    library = make_library(cache, timeout_s=0.5)
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(SAMPLE, has_length=False, framed=False))
    source.plan_always("stream", 1, Plan(break_after=len(SAMPLE) - cut_off))

    with pytest.raises(BrokenBody, match=f"ended at byte {len(SAMPLE) - cut_off}, and the audio does not"):
        read_all(library, 1)
    eventually(no_threads)
    assert cached(library) == []


def test_a_loose_end_that_nothing_proves_takes_two(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(UNCOUNTED, has_length=False, framed=False))
    source.plan("stream", 1, Plan(break_after=20_000))

    assert read_all(library, 1) == UNCOUNTED
    assert source.count("stream", 1) == 3
    eventually(no_threads)
    assert cached(library) == []


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
    assert not context_of(library).store.trust.distrusted
    eventually(lambda: cached(library) == [1])


@pytest.mark.parametrize("has_length", [True, False])
def test_what_stays_short_is_an_error(source: FakeSource, library: Library, has_length: bool) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, has_length=has_length))
    source.plan_always("stream", 1, Plan(end_at=40_000))

    with pytest.raises(NotWhole):
        read_all(library, 1)
    eventually(no_threads)
    assert cached(library) == []
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
    eventually(lambda: cached(library) == [1])


def test_an_end_that_storage_confirms_takes_one(source: FakeSource, library: Library) -> None:
    source.add(1, Result(UNCOUNTED, has_length=False))

    assert read_all(library, 1) == UNCOUNTED
    assert source.starts("stream", 1) == [0]
    eventually(lambda: cached(library) == [1])


def test_audio_that_miscounts_is_served_where_two_agree_against_it(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT + b"a tag", has_length=False))

    assert read_all(library, 1) == CONTENT + b"a tag"
    eventually(lambda: cached(library) == [1])


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
    assert not context_of(library).store.trust.distrusted


def test_a_size_from_another_runs_object_ends_no_read_early(source: FakeSource, library: Library) -> None:
    """The URLs of two runs were swapped: the reported size is withdrawn with an error, not with a short file."""
    short = some_flac(SIZE // 2, seed=7)
    source.add(2, Result(OTHER, has_length=False))
    assert size_of(library, 2) == SIZE
    source.add(1, Result(short, has_length=False, stored=CONTENT))
    assert size_of(library, 1) == SIZE

    with pytest.raises(NotWhole, match="storage said 100000 bytes, and the stream has 50000"):
        read_all(library, 1)
    eventually(no_threads)
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
    gate = breaks_when_told(source)
    handle = open_run(library)
    assert handle.size(deadline()) == SIZE
    source.plan_always("stored", 1, Plan(error=error))
    gate.open()

    assert b"".join(pieces(handle)) == CONTENT
    assert source.starts("stream", 1) == [0, 0]
    handle.close()


def test_a_storage_that_breaks_off_again_costs_another_stream(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = breaks_when_told(source)
    handle = open_run(library)
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
