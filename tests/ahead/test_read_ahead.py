"""`cambfs.ahead.read_ahead`: results that are fetched before they are opened, and that nothing else waits for them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from threading import Event

import pytest

from cambfs.ahead import read_ahead
from cambfs.cache.cache import Cache
from cambfs.deadline import Deadline
from cambfs.disk.disk import Disk
from cambfs.errors import BrokenBody, RateLimited, ServerError, UnknownRun
from cambfs.names import RunId
from cambfs.remote.source import SignedUrl
from cambfs.runs import library as library_module
from cambfs.runs.library import Library
from cambfs.transfers.transfer import Transfer
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, some_flac
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

SIZE = 5000
COUNT = 12
OTHER = 99


def content_of(run_id: int) -> bytes:
    return some_flac(SIZE + run_id, seed=run_id)


@pytest.fixture
def make(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> Callable[..., Library]:
    """Libraries with twelve declared runs, and another one, which read four ahead."""
    source.piece_bytes = 500
    for run_id in (*range(1, COUNT + 1), OTHER):
        source.add(run_id, Result(content_of(run_id)))

    def make(cache_bytes: int = 1 << 20, **options: object) -> Library:
        settings = {"read_ahead": 4, "declared": range(1, COUNT + 1), "nearly_bytes": 0, **options}
        return make_library(Cache(disk, cache_bytes), **settings)

    return make


@pytest.fixture
def library(make: Callable[..., Library]) -> Library:
    return make()


def _read(library: Library, *run_ids: int) -> None:
    for run_id in run_ids:
        assert read_all(library, run_id) == content_of(run_id)


def _runs(*run_ids: int) -> list[RunId]:
    return [RunId(run_id) for run_id in run_ids]


def _streamed(source: FakeSource) -> list[int]:
    return [run_id for run_id in range(1, COUNT + 1) if source.count("stream", run_id)]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each transfer has looked whether callers go first. One that looks a second time either pauses or has
    made its request."""
    found: Counter[str] = Counter()
    is_dispensable = Transfer.is_dispensable.fget  # type: ignore[attr-defined]

    def noted(transfer: Transfer) -> bool:
        found[transfer.name] += 1
        return bool(is_dispensable(transfer))

    monkeypatch.setattr(Transfer, "is_dispensable", property(noted))
    return found


def _await_looks(looks: Counter[str], *run_ids: int) -> None:
    eventually(lambda: all(looks[f"stream-{run_id}"] > 1 for run_id in run_ids))


def _hold(source: FakeSource, *run_ids: int) -> Gate:
    """Their streams wait in the middle."""
    gate = Gate()
    for run_id in run_ids:
        source.plan("stream", run_id, Plan(stall_at=SIZE // 2, stall_gate=gate))
    return gate


def _prove_storage(library: Library, source: FakeSource) -> None:
    source.results[OTHER].has_length = False
    assert size_of(library, OTHER) == SIZE + OTHER
    eventually(no_threads)


def _await_followed() -> None:
    eventually(lambda: "ahead" not in our_threads())


def _is_streaming(*run_ids: int) -> bool:
    return {f"stream-{run_id}" for run_id in run_ids} <= {*our_threads()}


def test_two_opens_in_order_fetch_the_next_four(library: Library, source: FakeSource) -> None:
    _read(library, 3, 4)
    eventually(no_threads)

    assert {*cached(library)} == {3, 4, 5, 6, 7, 8}
    assert _streamed(source) == [3, 4, 5, 6, 7, 8]
    asked = source.requests
    _read(library, 5)
    assert source.count("stream", 5) == 1
    eventually(no_threads)
    assert {*cached(library)} == {3, 4, 5, 6, 7, 8, 9}
    assert source.requests - asked <= 3  # of run 9


def _skim(library: Library, *run_ids: int) -> None:
    for run_id in run_ids:
        with library.open(RunId(run_id), Deadline(LIMIT_S)) as handle:
            assert handle.size(Deadline(LIMIT_S))
            assert handle.read(0, 100, Deadline(LIMIT_S)) == content_of(run_id)[:100]
        eventually(no_threads)


def test_readers_of_beginnings_end_a_sequence(library: Library, source: FakeSource) -> None:
    _skim(library, *range(1, COUNT - 1))
    assert set(_streamed(source)) <= {*range(1, COUNT - 1)}
    assert library.read_ahead_counts().results <= 4

    _read(library, 1)
    _skim(library, 2)  # one alone is left out
    _read(library, 3)
    eventually(no_threads)
    assert {4, 5, 6, 7} <= {*cached(library)}


@pytest.mark.parametrize(
    ("opened", "ahead"),
    [
        ((9, 2), {5, 12, 1, 7}),
        ((4, 3), {2, 1}),
        ((9, 2, 5, 4, 3), {2, 1, 12, 7}),
        ((5, 12, 1), {7, 3, 10, 6}),
        ((9, 5), set()),
    ],
)
def test_a_listing_may_have_several_orders(
    opened: tuple[int, ...], ahead: set[int], library: Library, source: FakeSource
) -> None:
    library.expect(_runs(9, 2, 5, 12, 1, 7, 3, 10, 6, 8, 4, 11), _runs(*range(COUNT, 0, -1)))
    for run_id in opened:
        _read(library, run_id)
        eventually(no_threads)

    assert {*_streamed(source)} >= ahead
    if not ahead:
        assert {*_streamed(source)} == {*opened}


def test_all_in_order_are_fetched_once(library: Library, source: FakeSource) -> None:
    _read(library, *range(1, COUNT + 1))
    eventually(no_threads)

    assert [source.count("stream", run_id) for run_id in range(1, COUNT + 1)] == [1] * COUNT
    counts = library.read_ahead_counts()
    assert (counts.unopened_results, counts.unopened_bytes) == (0, 0)


def test_several_readers_of_one_sequence(library: Library, source: FakeSource) -> None:
    _read(library, 3, 4, 6, 5, 7)
    eventually(no_threads)

    assert _streamed(source) == [*range(3, 12)]


@pytest.mark.parametrize("run_ids", [(3,), (3, 3), (3, 5), (4, 3), (3, 9, 4), (3, OTHER, 4)])
def test_other_opens_fetch_nothing(run_ids: tuple[int, ...], library: Library, source: FakeSource) -> None:
    _read(library, *run_ids)
    eventually(no_threads)

    assert {*_streamed(source)} == {*run_ids} - {OTHER}


def test_listings_and_stats_fetch_nothing(library: Library, source: FakeSource) -> None:
    _prove_storage(library, source)
    listed = library.begin_listing()
    for run_id in listed:
        assert size_of(library, run_id)
    eventually(no_threads)

    assert _streamed(source) == []


def test_none_when_it_is_turned_off(make: Callable[..., Library], source: FakeSource) -> None:
    _read(make(read_ahead=0), 3, 4, 5)
    eventually(no_threads)

    assert _streamed(source) == [3, 4, 5]


def test_the_listing_may_change(source: FakeSource, make: Callable[..., Library]) -> None:
    library = make(declared=())
    _read(library, 3, 4, 5, 6)
    library.begin_listing()
    _read(library, 3, 4)
    eventually(no_threads)

    assert _streamed(source) == [3, 4, 5, 6]


def test_urls_are_signed_in_bulk(library: Library, source: FakeSource) -> None:
    for run_id in range(1, COUNT + 1):
        source.results[run_id].has_length = False
    _read(library, 3)
    eventually(no_threads)
    signed = source.calls("sign")
    _read(library, 4)
    eventually(no_threads)

    assert source.calls("sign") == signed + 1  # of run 4
    assert source.calls("bulk") == 1


def test_no_more_urls_are_requested_while_those_of_the_next_ones_are_under_way(
    library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run_id in range(1, COUNT + 1):
        source.results[run_id].has_length = False
    asked, may_go_on, sign_many = list[int](), Event(), source.sign_many

    def slowly(run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        asked.extend(run_ids)
        assert may_go_on.wait(LIMIT_S)
        return sign_many(run_ids)

    monkeypatch.setattr(source, "sign_many", slowly)
    _read(library, 1, 2)
    eventually(lambda: asked == [3, 4, 5, 6, 7])
    _read(library, 3)
    _await_followed()
    may_go_on.set()
    eventually(no_threads)

    assert asked == [3, 4, 5, 6, 7]
    _read(library, 4)
    eventually(no_threads)
    assert asked == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


# What was fetched in vain.


def _break_sequence(library: Library, source: FakeSource) -> None:
    """Two results of 3 to 6 are half fetched when a reader of 1 and 2 goes on with 11."""
    gate = _hold(source, 3, 4, 5, 6)
    _read(library, 1, 2)
    gate.wait_for_arrivals(2)
    _read(library, 11)
    _await_followed()
    gate.open()
    eventually(no_threads)


def test_a_sequence_that_breaks_ends_them(library: Library, source: FakeSource) -> None:
    _break_sequence(library, source)

    assert {*cached(library)} == {1, 2, 11}
    assert library.arrived(RunId(3)) is None
    counts = library.read_ahead_counts()
    assert (counts.results, counts.unopened_results) == (2, 2)
    assert counts.bytes == counts.unopened_bytes > 2 * SIZE // 2 - 1
    begun = set(_streamed(source)) - {1, 2, 11}
    assert len(begun) == 2
    _read(library, 8, OTHER, 10)  # so the next one does not continue it
    _read(library, begun.pop())
    assert library.read_ahead_counts().unopened_results == 1


@pytest.mark.tuning(linger_s=10 * LIMIT_S)
def test_they_do_not_wait_for_a_reader_after_the_end_of_the_sequence(library: Library, source: FakeSource) -> None:
    _break_sequence(library, source)


def test_two_neighbours_that_are_opened_by_chance(
    library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "_NEXT_OPEN_S", 10 * LIMIT_S)
    _read(library, 1, 2)
    events = library._read_ahead._events
    eventually(lambda: not any(event.tells_more for event in events))  # the second open is followed
    _read(library, 11)
    eventually(no_threads)
    assert _streamed(source) == [1, 2, 11]

    _read(library, 7, 8, 9)
    eventually(no_threads)
    assert _streamed(source) == [1, 2, 7, 8, 9, 10, 11, 12]


def test_a_program_may_open_each_one_twice(
    library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second open is not that of another result."""
    monkeypatch.setattr(read_ahead, "_NEXT_OPEN_S", 0.5)
    _read(library, 1, 1, 2, 2)
    eventually(no_threads)
    assert _streamed(source) == [1, 2, 3, 4, 5, 6]


def test_one_that_was_skipped_ends_too(library: Library, source: FakeSource) -> None:
    gate = _hold(source, 3)
    _read(library, 1, 2)
    gate.wait_for_arrivals()
    eventually(lambda: {4, 5, 6} <= {*cached(library)})
    _read(library, 5)
    _await_followed()
    gate.open()
    eventually(no_threads)

    assert {*cached(library)} == {1, 2, *range(4, 10)}


def test_the_bytes_that_were_there_are_kept(library: Library, source: FakeSource) -> None:
    gate = _hold(source, 3)
    handle = library.open(RunId(3), deadline())
    assert handle.read(0, 1000, deadline()) == content_of(3)[:1000]
    handle.close()
    gate.open()
    eventually(no_threads)
    before = library.arrived(RunId(3))
    gate = _hold(source, 3)
    _read(library, 1, 2)
    gate.wait_for_arrivals()
    _read(library, 11)
    _await_followed()
    gate.open()
    eventually(no_threads)

    assert before is not None
    assert library.arrived(RunId(3)) is not None


def test_one_that_is_closed_soon_is_not_fetched_on(library: Library, source: FakeSource) -> None:
    gate = _hold(source, 3)
    _read(library, 1, 2)
    gate.wait_for_arrivals()
    library.open(RunId(3), deadline()).close()
    _await_followed()
    gate.open()
    eventually(no_threads)

    assert {*cached(library)} == {1, 2, 4, 5, 6, 7}


def test_one_that_fails_is_not_repeated(library: Library, source: FakeSource) -> None:
    source.plan("stream", 3, Plan(break_after=1000, break_error=BrokenBody("cut")))
    source.plan("stream", 4, Plan(error=UnknownRun("no", 404)))
    _read(library, 1, 2)
    eventually(no_threads)

    assert [source.count("stream", run_id) for run_id in (3, 4, 5)] == [1, 1, 1]
    assert library.arrived(RunId(3)) is None
    _read(library, 3)


@pytest.mark.parametrize("error", [RateLimited("later", 429, 0.01), ServerError("busy", 503)])
def test_a_busy_api_ends_all_speculation(error: Exception, library: Library, source: FakeSource) -> None:
    source.plan("stream", 3, Plan(error=error))
    _read(library, 1, 2)
    eventually(no_threads)
    _read(library, 3, 4)
    eventually(no_threads)

    assert source.count("stream", 3) == 2
    assert {*_streamed(source)} <= {1, 2, 3, 4, 5, 6}
    context_of(library).speculation._not_before = 0.0
    _read(library, 5)
    eventually(no_threads)
    assert 9 in _streamed(source)


def test_a_busy_api_is_not_asked_for_urls_ahead(library: Library, source: FakeSource) -> None:
    _prove_storage(library, source)
    for run_id in range(1, COUNT + 1):
        source.results[run_id].has_length = False
    context_of(library).speculation._not_before = math.inf
    _read(library, 3, 4)
    eventually(no_threads)

    assert source.calls("bulk") == 0
    assert [source.count("sign", run_id) for run_id in range(3, 9)] == [1, 1, 0, 0, 0, 0]


def test_what_is_ahead_already_is_not_fetched_again(library: Library, source: FakeSource) -> None:
    gate = _hold(source, *range(4, 8))
    ahead = []
    for run_ids in ((1, 2), (3,)):
        _read(library, *run_ids)
        _await_followed()
        ahead.append([sequence.ahead for sequence in library._read_ahead._sequences.in_order()])
    gate.open()

    assert ahead == [[_runs(3, 4, 5, 6)], [_runs(4, 5, 6, 7)]]


# How much.


def test_no_more_than_half_of_the_cache(make: Callable[..., Library], source: FakeSource) -> None:
    library = make(cache_bytes=4 * (SIZE + COUNT))
    for run_id in range(1, COUNT + 1):
        assert size_of(library, run_id)
    eventually(no_threads)
    streamed = source.count("stream")
    for run_id in range(3, COUNT + 1):
        _read(library, run_id)
        eventually(no_threads)

    assert source.count("stream") - streamed == COUNT - 2
    assert library.read_ahead_counts().unopened_results == 0


@pytest.mark.parametrize("is_known", [True, False], ids=["size known", "size unknown"])
def test_a_result_that_is_too_large_is_left_alone(
    is_known: bool, library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_module, "MOST_BYTES", SIZE)
    if is_known:
        _prove_storage(library, source)
        size_of(library, 5)
    gate = _hold(source, 5)
    _read(library, 3, 4)
    gate.open()
    eventually(no_threads)

    assert 5 not in cached(library)
    assert library.arrived(RunId(5)) is None


def test_a_sequence_that_is_at_its_end_leaves_its_share(
    library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a program does that copies one folder after the other."""
    monkeypatch.setattr(library_module, "MOST_BYTES", 4 * (SIZE + COUNT))
    _prove_storage(library, source)
    for run_id in range(1, COUNT + 1):
        assert size_of(library, run_id)
    library.expect(_runs(10, 11, 12))
    _read(library, 10, 11, 12)
    _await_followed()
    library.expect(_runs(*range(1, 10)))
    _read(library, 1, 2, 3)
    _await_followed()

    assert [sequence.ahead for sequence in library._read_ahead._sequences.in_order()] == [[], _runs(4, 5, 6, 7)]


def test_two_sequences_share_the_bytes(library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library_module, "MOST_BYTES", 4 * (SIZE + COUNT))
    _prove_storage(library, source)
    for run_id in range(1, COUNT + 1):
        assert size_of(library, run_id)
    eventually(no_threads)
    library.begin_listing()
    gate = _hold(source, *range(4, 8), *range(10, 13))
    _read(library, 1, 2, 3)
    _await_followed()
    sequences = library._read_ahead._sequences
    assert [sequence.ahead for sequence in sequences.in_order()] == [_runs(4, 5, 6, 7)]
    _read(library, 8, 9)
    _await_followed()
    assert [sequence.ahead for sequence in sequences.in_order()] == [_runs(4, 5), _runs(10, 11)]
    eventually(lambda: not _is_streaming(6) and not _is_streaming(7))
    gate.open()


# Behind everything that callers wait for.


def test_they_pause_while_a_caller_waits(library: Library, source: FakeSource, looks: Counter[str]) -> None:
    gate, waits = _make_pause(library, source, looks)

    assert _streamed(source) == [1, 2]
    _read(library, 3)  # one that is wanted does not pause
    assert _streamed(source) == [1, 2, 3]
    gate.open()
    assert waits.result(LIMIT_S) == SIZE + OTHER
    eventually(no_threads)
    assert {*range(1, 8)} <= {*cached(library)}


def test_they_make_no_request_after_a_pause_in_which_the_api_became_busy(
    library: Library, source: FakeSource, looks: Counter[str]
) -> None:
    gate, waits = _make_pause(library, source, looks)
    context_of(library).speculation._not_before = math.inf
    gate.open()
    assert waits.result(LIMIT_S) == SIZE + OTHER
    eventually(no_threads)

    assert _streamed(source) == [1, 2]
    _read(library, 3)


def test_they_end_while_they_pause(library: Library, source: FakeSource, looks: Counter[str]) -> None:
    gate, waits = _make_pause(library, source, looks)
    _read(library, 11)
    eventually(lambda: not any(_is_streaming(run_id) for run_id in (3, 4, 5, 6)))

    assert not waits.done()
    assert _streamed(source) == [1, 2, 11]
    gate.open()
    assert waits.result(LIMIT_S) == SIZE + OTHER


def _make_pause(library: Library, source: FakeSource, looks: Counter[str]) -> tuple[Gate, Future[int]]:
    """Runs 3 to 6 are to be fetched ahead, and a caller waits for the size of another one until the gate opens."""
    gate = Gate()
    source.plan_always("sign", OTHER, Plan(gate=gate))
    source.plan("stream", OTHER, Plan(gate=gate))
    _read(library, 1)
    waits = in_thread(lambda: size_of(library, OTHER))
    gate.wait_for_arrivals()
    _read(library, 2)
    # One at a time beside the one that is waited for.
    eventually(lambda: sum(looks[f"stream-{run_id}"] > 1 for run_id in (3, 4, 5, 6)) == 1)
    eventually(lambda: context_of(library).slots.waiting == 3)
    return gate, waits


@pytest.mark.tuning(beside_s=100 * LIMIT_S)
@pytest.mark.parametrize("run_id", [2, 3], ids=["the second", "one that was fetched ahead"])
def test_they_go_on_beside_a_small_one_of_their_sequence(run_id: int, library: Library, source: FakeSource) -> None:
    gate = _hold(source, run_id)
    _read(library, *range(1, run_id))
    reading = in_thread(lambda: read_all(library, run_id))
    gate.wait_for_arrivals()
    eventually(lambda: {*range(run_id + 1, run_id + 5)} <= {*cached(library)})

    assert not reading.done()
    gate.open()
    assert reading.result(LIMIT_S) == content_of(run_id)


@pytest.mark.tuning(beside_bytes=SIZE // 4)
def test_they_pause_beside_a_large_one_of_their_sequence(
    library: Library, source: FakeSource, looks: Counter[str]
) -> None:
    _check_pause(library, source, looks)


def test_they_pause_beside_one_that_takes_the_link_for_long(
    library: Library, source: FakeSource, looks: Counter[str]
) -> None:
    _check_pause(library, source, looks, bytes_per_s=SIZE / 10)


def _check_pause(library: Library, source: FakeSource, looks: Counter[str], bytes_per_s: float = 0.0) -> None:
    gate = _hold(source, 3)
    _read(library, 1, 2)
    eventually(lambda: 6 in cached(library))
    context_of(library).slots.link.bytes_per_s = bytes_per_s
    reading = in_thread(lambda: read_all(library, 3))
    _await_looks(looks, 7)

    assert 7 not in _streamed(source)
    gate.open()
    assert reading.result(LIMIT_S) == content_of(3)
    eventually(no_threads)
    assert 7 in cached(library)


@pytest.mark.tuning(stalled_after_s=LIMIT_S)
def test_their_sizes_are_known_before_they_begin(
    library: Library, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transfer, "left_s", math.inf)
    _prove_storage(library, source)
    for run_id in range(1, COUNT + 1):
        source.results[run_id].has_length = False
    gate = _hold(source, 3)
    _read(library, 1, 2)
    gate.wait_for_arrivals()
    eventually(lambda: all(source.count("stored", run_id) for run_id in (3, 4, 5, 6)))

    assert 6 not in _streamed(source)
    gate.open()
    eventually(no_threads)
    assert {1, 2, 3, 4, 5, 6} <= {*cached(library)}


@pytest.mark.tuning(stalled_after_s=LIMIT_S, header_takes_s=LIMIT_S / 2)
def test_a_look_at_one_that_has_queued_for_long_waits_for_its_headers(
    make: Callable[..., Library], source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transfer, "left_s", math.inf)
    library = make(timeout_s=2 * LIMIT_S)
    gate = _hold(source, 3)
    _read(library, 1, 2)
    gate.wait_for_arrivals()
    eventually(lambda: context_of(library).slots.waiting == 3)
    shift = LIMIT_S
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + shift)
    asked = source.count("sign", 4)

    assert size_of(library, 4) == SIZE + 4
    assert source.count("sign", 4) == asked
    gate.open()
    eventually(no_threads)


@pytest.mark.tuning(stalled_after_s=LIMIT_S)
@pytest.mark.parametrize(
    ("left_s", "count"),
    [pytest.param(math.inf, 1, id="one takes long"), pytest.param(0.0, 2, id="one is about to end")],
)
def test_how_many_are_fetched_at_a_time(
    library: Library, source: FakeSource, left_s: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transfer, "left_s", left_s)
    gate = _hold(source, 3, 4, 5, 6)
    _read(library, 1, 2)
    gate.wait_for_arrivals(count)
    eventually(lambda: _is_streaming(3, 4, 5, 6) and context_of(library).slots.waiting == 4 - count)

    assert _streamed(source) == [1, 2, 3, 4][: 2 + count]
    gate.open()
    eventually(no_threads)
    assert _streamed(source) == [1, 2, 3, 4, 5, 6]


@pytest.mark.tuning(stalled_after_s=LIMIT_S)
def test_they_take_no_turn_from_another(make: Callable[..., Library], source: FakeSource) -> None:
    library = make(max_transfers=1)
    gate = _hold(source, 3, 4, 5, 6)  # any of their threads may be the first
    _read(library, 1, 2)
    gate.wait_for_arrivals()
    eventually(lambda: _is_streaming(3, 4, 5, 6))

    assert len(_streamed(source)) == 3  # one at a time
    _read(library, OTHER)
    gate.open()
    eventually(no_threads)


def test_a_killed_reader_and_the_end_of_the_mount(library: Library, source: FakeSource) -> None:
    gate = _hold(source, 3, 4, 5, 6)
    _read(library, 1, 2)
    gate.wait_for_arrivals(2)
    library.close()

    eventually(no_threads)
    assert library.arrived(RunId(3)) is None
