"""`cambfs.transfers.parallel`, and large results whose rest comes in several ranges."""

from __future__ import annotations

import math

import pytest

from cambfs.cache.cache import Cache
from cambfs.errors import BadResponse, ServerError
from cambfs.runs.library import Library
from cambfs.transfers import parallel
from cambfs.transfers.downloader import Downloader
from cambfs.transfers.parallel import Parallel, Split, pieces
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner
from tests.runs.results import CONTENT, RUN, SIZE
from tests.waiting import (
    MakeLibrary,
    cached,
    context_of,
    deadline,
    eventually,
    in_thread,
    no_threads,
    our_threads,
    read_all,
    size_of,
)

MB = 1 << 20
STALL = 20_000
_PROBES = 2  # head and tail
OTHER = 99


@pytest.mark.parametrize(("start", "stop"), [(0, 100), (30, 131), (5, 9), (0, 4 * MB + 1)])
def test_pieces_cover_the_rest(start: int, stop: int) -> None:
    found = pieces(start, stop)

    assert len(found) == 3
    assert [end for _, end in found] == [*(first for first, _ in found[1:]), stop]
    assert start < found[0][0]
    assert max(end - first for first, end in found) == found[0][0] - start


@pytest.mark.parametrize(
    ("missing", "bytes_per_s", "is_worth"),
    [(100 * MB, 50 * MB, True), (100 * MB, 200 * MB, False), (MB // 2, 1, False), (100 * MB, 0, False)],
)
def test_what_takes_long_on_one_connection(missing: int, bytes_per_s: float, is_worth: bool) -> None:
    assert Parallel().is_worth(missing, bytes_per_s) is is_worth


def test_small_results_cost_few_requests_more() -> None:
    found, splits = Parallel(), 0
    for _ in range(1000):
        found.earn()
        if found.is_worth(2 * MB, MB):
            found.spend(2 * MB)
            splits += 1

    assert 0 < 3 * splits <= 0.05 * 2 * 1000
    assert found.is_worth(20 * MB, MB)


@pytest.mark.parametrize(("behind", "is_worth"), [(10 * MB, True), (MB // 10, False)])
def test_not_again_where_the_stream_slowed_down(behind: int, is_worth: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found, now = Parallel(), [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    split = Split(5 * MB, MB, now[0])
    now[0] += 1
    found.judge(split, split.position + behind)

    assert found.is_worth(100 * MB, MB) is is_worth
    now[0] += 1000
    assert found.is_worth(100 * MB, MB)


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Library:
    """Storage is proven, and everything is large."""
    monkeypatch.setattr(parallel, "_LEAST_BYTES", 1000)
    monkeypatch.setattr(parallel, "_LEAST_S", 0.0)
    source.piece_bytes = 5000
    source.add(1, Result(CONTENT, has_length=False))
    source.add(OTHER, Result(CONTENT, has_length=False))
    library = make_library(cache)
    assert size_of(library, OTHER) == SIZE
    eventually(no_threads)
    return library


def _stall(source: FakeSource) -> Gate:
    gate = Gate()
    source.plan("stream", 1, Plan(stall_at=STALL, stall_gate=gate))
    return gate


@pytest.mark.tuning(span_bytes=2000)
def test_the_rest_comes_in_ranges(source: FakeSource, library: Library) -> None:
    gate = _stall(source)
    reading = in_thread(lambda: read_all(library, 1))
    eventually(lambda: source.count("stored", 1) >= _PROBES + 3)
    gate.open()

    assert reading.result(LIMIT_S) == CONTENT
    eventually(no_threads)
    assert RUN in cached(library)
    assert source.count("stream", 1) == 1
    assert source.sent("stream", 1) < SIZE // 2
    assert read_all(library, 1) == CONTENT


@pytest.mark.tuning(stalled_after_s=LIMIT_S)
def test_the_stream_ends_where_a_range_brings_more(source: FakeSource, library: Library) -> None:
    gate, storage = _stall(source), Gate()
    size_of(library, 1)
    eventually(no_threads)
    source.plan("stored", 1, *[Plan(stall_at=5000, stall_gate=storage)] * 3)
    reading = in_thread(lambda: read_all(library, 1))
    storage.wait_for_arrivals(3)
    gate.open()
    eventually(lambda: "stream-1" not in our_threads())

    assert source.sent("stream", 1) < SIZE // 2
    storage.open()
    assert reading.result(LIMIT_S) == CONTENT
    eventually(no_threads)
    assert RUN in cached(library)


@pytest.mark.tuning(stalled_after_s=100 * LIMIT_S)
def test_a_connection_that_is_done_shares_the_largest_part(
    source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_SMALL_BYTES", 10_000)
    monkeypatch.setattr(parallel, "_SLOWER", 0.0)  # the stream waits for the gate
    parts: list[tuple[int, int]] = []
    start = Downloader._start_piece

    def noted(self: Downloader, first: int, stop: int) -> None:
        parts.append((first, stop))
        start(self, first, stop)

    monkeypatch.setattr(Downloader, "_start_piece", noted)
    gate, storage = _stall(source), Gate()
    size_of(library, 1)
    eventually(no_threads)
    source.plan("stored", 1, Plan(stall_at=5000, stall_gate=storage))
    reading = in_thread(lambda: read_all(library, 1))
    storage.wait_for_arrivals()
    gate.open()
    eventually(lambda: len(parts) > 3)

    assert parts[0][0] < parts[3][0] < parts[3][1] <= SIZE
    assert parts[3][1] in [stop for _, stop in parts[:3]]
    storage.open()
    assert reading.result(LIMIT_S) == CONTENT
    eventually(no_threads)
    assert RUN in cached(library)


@pytest.mark.tuning(stalled_after_s=0.05)
@pytest.mark.parametrize("kind", ["breaks", "breaks at once", "stalls", "is refused"])
def test_a_range_that_fails_costs_no_more_than_a_moment(kind: str, source: FakeSource, library: Library) -> None:
    storage = Gate()
    faults = {
        "breaks": Plan(break_after=5000),
        "breaks at once": Plan(break_after=0),
        "stalls": Plan(stall_at=5000, stall_gate=storage),
        "is refused": Plan(error=BadResponse("no", 416)),
    }
    gate = _stall(source)
    size_of(library, 1)  # storage was asked: what follows are ranges
    eventually(no_threads)
    source.plan("stored", 1, *[faults[kind]] * 3)
    reading = in_thread(lambda: read_all(library, 1))
    eventually(lambda: source.count("stored", 1) > _PROBES)
    gate.open()

    assert reading.result(LIMIT_S / 2) == CONTENT
    storage.open()
    source.heal(1)
    eventually(no_threads)


@pytest.mark.parametrize("manner", [StorageManner.NO_RANGES, StorageManner.UNREACHABLE])
def test_no_ranges_where_storage_gives_none(manner: StorageManner, source: FakeSource, library: Library) -> None:
    source.storage = manner
    gate = _stall(source)
    reading = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    gate.open()

    assert reading.result(LIMIT_S) == CONTENT
    assert source.sent("stream", 1) == SIZE


def test_no_ranges_where_the_slots_are_taken(source: FakeSource, library: Library) -> None:
    context_of(library).slots._limit = 3
    gate = _stall(source)
    reading = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    gate.open()

    assert reading.result(LIMIT_S) == CONTENT
    assert source.sent("stream", 1) == SIZE
    assert context_of(library).parallel._not_before == -math.inf


@pytest.mark.tuning(stalled_after_s=100 * LIMIT_S, far_bytes=1000, far_s=0.0, rate_after_s=0.0, span_bytes=2000)
@pytest.mark.parametrize("has_ended", [False, True], ids=["beside the stream", "after the stream"])
def test_a_reader_far_ahead_in_a_piece_does_not_wait_for_all_of_it(
    has_ended: bool, source: FakeSource, library: Library
) -> None:
    gate, storage, far = _stall(source), Gate(), SIZE * 9 // 10
    size_of(library, 1)
    eventually(no_threads)
    source.plan("stored", 1, *[Plan(stall_at=100, stall_gate=storage)] * 3)
    with library.open(RUN, deadline()) as handle:
        reading = in_thread(lambda: handle.read(0, SIZE, deadline()))
        storage.wait_for_arrivals(3)
        if has_ended:
            gate.open()
            eventually(lambda: "stream-1" not in our_threads())

        assert handle.read(far, 100, deadline()) == CONTENT[far : far + 100]
        gate.open()
        storage.open()
        assert reading.result(LIMIT_S) == CONTENT


@pytest.mark.tuning(stalled_after_s=100 * LIMIT_S)
def test_the_stream_goes_on_where_ranges_ended(source: FakeSource, library: Library) -> None:
    gate, storage = _stall(source), Gate()
    size_of(library, 1)
    eventually(no_threads)
    stalls = Plan(stall_at=5000, stall_gate=storage)
    source.plan("stored", 1, stalls, stalls, Plan(error=ServerError("busy", 503)))
    reading = in_thread(lambda: read_all(library, 1))
    storage.wait_for_arrivals(2)
    eventually(lambda: len([name for name in our_threads() if name.startswith("range-1")]) == 2)
    gate.open()

    assert reading.result(LIMIT_S) == CONTENT
    storage.open()
    assert source.count("stream", 1) == 1
