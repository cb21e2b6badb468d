"""Transfers that break, and how they are resumed: by a range, from storage, or from the start."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest

from cambfs.audio import End, end_of
from cambfs.cache.cache import Cache
from cambfs.errors import (
    BrokenBody,
    LinkError,
    NotWhole,
    ResultChanged,
    TimedOut,
)
from cambfs.runs.library import Library
from cambfs.transfers.slots import Slots
from cambfs.transfers.transfer import Transfer
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner
from tests.runs.results import (
    CONTENT,
    OTHER,
    OVERLAP_BYTES,
    SIZE,
    TAIL_BYTES,
    UNCOUNTED,
    breaks_and_is_refused,
    breaks_when_told,
    open_run,
    read_at,
)
from tests.waiting import (
    SHORT_DISTANCES,
    MakeLibrary,
    Watched,
    cached,
    deadline,
    eventually,
    in_thread,
    no_threads,
    pieces,
    read_all,
    size_of,
)


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
    eventually(lambda: cached(library) == [1])


def test_ranges_of_storage_continue_the_stream_once_compared(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = breaks_when_told(source)
    handle = open_run(library)
    assert handle.size(deadline()) == SIZE
    gate.open()

    assert b"".join(pieces(handle)) == CONTENT
    assert source.starts("stream", 1) == [0]
    assert source.starts("stored", 1)[2:] == [30_000 - OVERLAP_BYTES], "behind those for the head and the end"
    handle.close()


def test_ranges_that_were_not_compared_are_not_used(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False, stored=OTHER))
    gate = breaks_when_told(source)
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    eventually(lambda: source.sent("stored", 1))
    gate.open()

    assert read.result(LIMIT_S) == CONTENT
    assert source.starts("stream", 1) == [0, 0]


def test_a_server_that_forgets_its_ranges_is_compared(source: FakeSource, library: Library) -> None:
    result = source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    gate = breaks_when_told(source)
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    result.ranges, result.etag = False, None
    gate.open()

    assert read.result(LIMIT_S) == CONTENT
    assert source.starts("stream", 1) == [0, 0]


def test_a_part_is_continued_at_the_next_open(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    handle = breaks_and_is_refused(source, library)
    handle.close()
    eventually(no_threads)

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0, 30_000]
    assert source.sent("stream", 1) == SIZE


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
    eventually(no_threads)
    assert size_of(library, 1) == SIZE
    assert read_all(library, 1) == whole


@pytest.mark.parametrize("next_has_length", [True, False])
def test_a_size_that_was_told_is_not_lowered_in_silence(
    source: FakeSource, library: Library, next_has_length: bool
) -> None:
    source.storage = StorageManner.UNREACHABLE
    result = source.add(1, Result(CONTENT + bytes(1000)))
    gate = breaks_when_told(source)
    handle = open_run(library)
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
    handle = open_run(library)
    assert read_at(handle, 0, 1000) == CONTENT[:1000]
    handle.close()
    gate.open()
    eventually(no_threads)
    result.content = CONTENT

    with suppress(NotWhole, ResultChanged):  # the reported size is another
        assert read_all(library, 1) == CONTENT
    assert read_all(library, 1) == CONTENT


def test_a_handle_survives_a_failure(source: FakeSource, library: Library) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT))
    handle = breaks_and_is_refused(source, library)

    assert read_at(handle, 0, 30_000) == CONTENT[:30_000]
    assert read_at(handle, 50_000, 1000) == CONTENT[50_000:51_000]
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
    handle = open_run(library)
    reader = Watched()
    read = in_thread(lambda: handle.read(SIZE - 1000, 1000, reader))
    again.wait_for_arrivals()
    before = reader.await_waiting()
    again.open()
    gate.wait_for_arrivals()

    assert (reader.await_waiting() > before) == counts
    gate.open()
    assert read.result(LIMIT_S) == CONTENT[-1000:]
    assert b"".join(pieces(handle)) == CONTENT
    handle.close()
    eventually(lambda: cache.runs() == [1])


@pytest.mark.tuning(**SHORT_DISTANCES)
def test_an_api_that_says_ranges_and_ignores_them_is_asked_once_more(
    source: FakeSource, make_library: MakeLibrary
) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag='"a"', ranges=True, ignores_range=True))
    source.plan("stream", 1, Plan(break_after=10_000))

    assert read_all(make_library(), 1) == CONTENT
    assert source.count("stream", 1) <= 3


class _Clocked:
    """The owner of a transfer, and its body, of four pieces of 100 bytes. A second passes before each, and the first
    response breaks behind two of them."""

    start, stop, total, is_stored, is_shared = 0, None, 400, False, False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.rates, self.came = 1000.0, list[float](), 0
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def open_at(self, position: int) -> _Clocked:
        self.start = position
        return self

    def begin(self, body: object) -> None: ...

    def read(self, _length: int) -> bytes:
        if self.came == 2 and self.start == 0:
            raise BrokenBody("cut")
        self.now += 1
        self.came += 1
        return bytes(100)

    def close(self) -> None: ...

    def receive(self, transfer: Transfer, position: int, data: bytes) -> bool:
        self.rates.append(transfer.bytes_per_s)
        return position + len(data) < self.total

    def is_complete(self) -> bool:
        return False

    def is_repeated(self) -> bool:
        return True

    def pause(self, _transfer: object) -> bool:
        self.now += 50
        return True


def test_the_rate_is_that_of_the_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cambfs.transfers.transfer.Backoff.pause_s", lambda *_, **__: 0.0)
    clocked, slots = _Clocked(monkeypatch), Slots(1)
    transfer = Transfer("a", clocked, clocked.open_at, slots, LIMIT_S)  # type: ignore[arg-type]
    slots.join(transfer)
    transfer.pull()

    assert clocked.rates == [100.0] * 4


def test_the_rate_leaves_pauses_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked, slots = _Clocked(monkeypatch), Slots(1)
    slots.foreground = SimpleNamespace(pause=clocked.pause, look=lambda: None)  # type: ignore[assignment]
    transfer = Transfer("a", clocked, clocked.open_at, slots, LIMIT_S)  # type: ignore[arg-type]
    transfer.note_wanted(False)
    slots.join(transfer)
    transfer.pull()

    assert clocked.rates == [100.0] * 2


@pytest.mark.parametrize("is_shared", [True, False])
def test_how_soon_another_machine_responds_says_nothing_of_the_api(
    is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cambfs.transfers.transfer.Backoff.pause_s", lambda *_, **__: 0.0)
    clocked, slots = _Clocked(monkeypatch), Slots(1)
    clocked.is_shared = is_shared

    def open_at(position: int) -> object:
        clocked.now += 2
        return clocked.open_at(position)

    transfer = Transfer("a", clocked, open_at, slots, LIMIT_S)  # type: ignore[arg-type]
    slots.join(transfer)
    transfer.pull()

    assert slots.link.begins_s == (0 if is_shared else 2)
