"""Which transfers run: those that are wanted no more, and ranges far from the stream."""

from __future__ import annotations

import pytest

from cambfs.deadline import Deadline
from cambfs.errors import BadResponse, CambfsError, TimedOut
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner
from tests.runs.results import (
    CONTENT,
    OVERLAP_BYTES,
    PROBE_BYTES,
    SIZE,
    TAIL_BYTES,
    leave_at,
    open_run,
    read_at,
    stalls_at,
)
from tests.waiting import (
    SHORT_DISTANCES,
    MakeLibrary,
    Watched,
    cached,
    context_of,
    eventually,
    in_thread,
    no_threads,
    our_threads,
    pieces,
    read_all,
)

# After the last reader has left.


@pytest.mark.tuning(**SHORT_DISTANCES)
@pytest.mark.parametrize("etag", ['"a"', None])
def test_a_far_end_is_not_waited_for_and_what_came_serves_the_next_open(
    source: FakeSource, library: Library, etag: str | None
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag=etag, ranges=etag is not None))
    leave_at(source, library, 5000)
    eventually(no_threads)
    came = source.sent("stream", 1)
    assert came < SIZE // 2
    source.plan("stream", 1, Plan(gate=(second := Gate())))
    handle = open_run(library)

    assert read_at(handle, 0, 5000) == CONTENT[:5000]
    second.open()
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()
    assert source.starts("stream", 1) == ([0, came] if etag else [0, 0])
    assert source.sent("stream", 1) == (SIZE if etag else SIZE + came)


@pytest.mark.tuning(**SHORT_DISTANCES, linger_s=LIMIT_S)
def test_somebody_who_comes_back_in_time_has_it_go_on(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    leave_at(source, library, 5000)
    eventually(lambda: source.sent("stream", 1) == 6000)

    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1


def test_one_that_is_nearly_finished_is_finished(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT))
    leave_at(source, library, SIZE - 5000)
    eventually(no_threads)

    assert cached(library) == [1]
    assert source.sent("stream", 1) == SIZE
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1


# Far from the stream.


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_the_last_bytes_come_in_one_range_with_those_that_prove_the_end(source: FakeSource, library: Library) -> None:
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, has_length=True, etag='"a"', ranges=True))
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    gate.wait_for_arrivals()

    assert read_at(handle, SIZE - 128, 128) == CONTENT[-128:]
    assert len(source.starts("stream", 1)) == 2, "the stream, and one range"
    gate.open()
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
@pytest.mark.parametrize("etag", ['"a"', None], ids=["ranges of the API", "ranges of storage"])
def test_a_far_place_is_fetched_by_range_and_the_holes_afterwards(
    source: FakeSource, library: Library, etag: str | None
) -> None:
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, has_length=etag is not None, etag=etag, ranges=etag is not None))
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    gate.wait_for_arrivals()

    assert read_at(handle, SIZE - 128, 128) == CONTENT[-128:]
    assert read_at(handle, 60_000, 500) == CONTENT[60_000:60_500]
    eventually(lambda: not any(name.startswith("range") for name in our_threads()))
    gate.open()
    eventually(lambda: cached(library) == [1])
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()
    fetched = source.sent("stream", 1) + source.sent("stored", 1)
    assert fetched <= SIZE + PROBE_BYTES + 2 * OVERLAP_BYTES + TAIL_BYTES + 2 * 500
    assert max(source.starts("stream" if etag else "stored", 1)) >= 60_000


def _read_far_ahead(source: FakeSource, library: Library) -> tuple[Handle, Handle, Gate, Gate]:
    """Two handles, the first of which has read far ahead, and the gates of the stream and that range, which stall."""
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    stream = stalls_at(source, 5000)
    handle, other = open_run(library), open_run(library)
    stream.wait_for_arrivals()
    range_ = stalls_at(source, 1000)
    assert read_at(handle, 60_000, 500) == CONTENT[60_000:60_500]
    range_.wait_for_arrivals()
    return handle, other, stream, range_


@pytest.mark.tuning(**SHORT_DISTANCES, linger_s=LIMIT_S)
def test_a_range_that_stalls_ends_with_the_last_close_and_is_no_failure(source: FakeSource, library: Library) -> None:
    """The stream, which may be of use to the next reader, waits for one."""
    handle, other, stream, _ = _read_far_ahead(source, library)
    handle.close()
    other.close()

    eventually(lambda: not _names("range"))
    assert _names("stream") == ["stream-1"]
    with open_run(library) as again:
        assert read_at(again, 70_000, 500) == CONTENT[70_000:70_500]
        assert source.starts("stream", 1)[-1] == 70_000, "by a range of its own"
        stream.open()


@pytest.mark.tuning(**SHORT_DISTANCES, linger_s=LIMIT_S)
def test_the_next_reader_does_not_wait_for_a_range_that_was_ended_before_its_headers(
    source: FakeSource, library: Library
) -> None:
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    stream, headers = stalls_at(source, 5000), Gate()
    handle = open_run(library)
    stream.wait_for_arrivals()
    source.plan("stream", 1, Plan(gate=headers))
    with pytest.raises(TimedOut):
        handle.read(60_000, 500, Deadline(0.1))
    headers.wait_for_arrivals()
    handle.close()

    with open_run(library) as again:
        assert read_at(again, 60_000, 500) == CONTENT[60_000:60_500]
    headers.open()
    stream.open()


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_a_range_goes_on_while_another_reader_may_want_it(source: FakeSource, library: Library) -> None:
    handle, other, stream, range_ = _read_far_ahead(source, library)
    handle.close()
    read = in_thread(lambda: read_at(other, 60_500, 1000))
    range_.open()

    assert read.result(LIMIT_S) == CONTENT[60_500:61_500]
    assert source.starts("stream", 1) == [0, 60_000]
    stream.open()
    other.close()


def _names(kind: str) -> list[str]:
    return [name for name in our_threads() if name.startswith(kind)]


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_how_fast_the_last_stream_was_says_what_is_far_before_the_next_has_shown_it(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    before, library = make_library(), make_library(rate_after_s=2 * LIMIT_S)
    for run_id in (1, 2):
        source.add(run_id, Result(CONTENT, etag='"a"', ranges=True))
    read_all(before, 2)
    eventually(lambda: context_of(before).api.bytes_per_s)
    context_of(library).api.bytes_per_s = context_of(before).api.bytes_per_s
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    gate.wait_for_arrivals()

    assert read_at(handle, SIZE - 128, 128) == CONTENT[-128:]
    gate.open()
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
@pytest.mark.parametrize("etag", ['"a"', None], ids=["ranges of the API", "ranges of storage"])
def test_a_reader_that_goes_on_from_a_far_place_gets_a_stream_there(
    source: FakeSource, library: Library, etag: str | None
) -> None:
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, has_length=etag is not None, etag=etag, ranges=etag is not None))
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    gate.wait_for_arrivals()
    offset, came = 60_000, b""
    while piece := read_at(handle, offset, 700):
        offset, came = offset + len(piece), came + piece

    assert came == CONTENT[60_000:]
    assert source.count("stream") <= 4
    gate.open()
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_without_ranges_a_far_reader_waits_for_the_stream(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.NO_RANGES
    source.add(1, Result(CONTENT))
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    read = in_thread(lambda: read_at(handle, SIZE - 128, 128))
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
    handle = open_run(library)
    gate.wait_for_arrivals()
    read = in_thread(lambda: read_at(handle, SIZE - 128, 128))
    eventually(lambda: source.count("stream", 1) == 2)
    gate.open()

    assert read.result(LIMIT_S) == CONTENT[-128:]
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_reading_ahead_of_a_slow_stream_is_no_seek(source: FakeSource, library: Library) -> None:
    """As the kernel does it: several blocks at once, the last of them far ahead."""
    source.add(1, Result(CONTENT, has_length=True, etag='"a"', ranges=True))
    gate = stalls_at(source, 5000)
    handle = open_run(library)
    gate.wait_for_arrivals()
    blocks = range(4000, 40_000, 4000)
    readers = {start: Watched() for start in blocks}
    reads = {}
    for start in blocks:
        reads[start] = in_thread(lambda start=start: handle.read(start, 4000, readers[start]))  # type: ignore[misc]
        readers[start].await_waiting()

    assert source.starts("stream", 1) == [0], "no range"
    assert read_at(handle, SIZE - 128, 128) == CONTENT[-128:], "and a seek still gets one"
    gate.open()
    assert [read.result(LIMIT_S) for read in reads.values()] == [CONTENT[start : start + 4000] for start in blocks]
    handle.close()


@pytest.mark.tuning(**{**SHORT_DISTANCES, "far_bytes": 1 << 20})
def test_reads_that_come_slightly_out_of_order_are_no_seek(source: FakeSource, library: Library) -> None:
    source.piece_bytes = 500
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    handle = open_run(library)
    for offset in range(0, SIZE, 2000):
        later = in_thread(lambda offset=offset: read_at(handle, offset + 1000, 1000))  # type: ignore[misc]
        assert read_at(handle, offset, 1000) == CONTENT[offset : offset + 1000]
        assert later.result(LIMIT_S) == CONTENT[offset + 1000 : offset + 2000]
    handle.close()

    assert source.starts("stream", 1) == [0]


@pytest.mark.parametrize("error", [CambfsError("no thread"), MemoryError()], ids=["no thread", "no memory"])
def test_a_transfer_without_a_thread_holds_up_no_other(
    error: Exception, source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.add(1, Result(CONTENT))

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(context_of(library).workers, "start", fail)
        with pytest.raises(type(error)):
            open_run(library)
    assert context_of(library).slots.waiting == 0
    assert read_all(library, 1) == CONTENT
