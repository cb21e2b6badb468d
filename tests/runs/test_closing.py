"""The end of a mount, in the middle of transfers."""

from __future__ import annotations

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import (
    CambfsError,
    Closing,
)
from cambfs.intake.intake import Intake
from cambfs.runs.library import Library
from cambfs.transfers.transfer import Transfer
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result
from tests.runs.results import (
    CONTENT,
    RUN,
    SIZE,
    UNCOUNTED,
    leave_at,
    open_run,
    read_at,
    stalls_at,
)
from tests.waiting import (
    SHORT_DISTANCES,
    deadline,
    eventually,
    in_thread,
    library_of,
    no_threads,
    our_threads,
    pieces,
    raises,
    read_all,
    size_of,
)


def test_close_ends_all_threads_and_all_waiting(source: FakeSource, library: Library) -> None:
    gate = Gate()
    for run_id in (1, 2, 3):
        source.add(run_id, Result(CONTENT, has_length=False, etag='"a"', ranges=True))
        source.plan("stream", run_id, Plan(stall_at=5000, stall_gate=gate))
    handles = [open_run(library, run_id) for run_id in (1, 2, 3)]
    reads = [in_thread(lambda handle=handle: read_at(handle, 6000, 1000)) for handle in handles]  # type: ignore[misc]
    gate.wait_for_arrivals(3)
    library.close()

    assert no_threads()
    for read in reads:
        with pytest.raises(Closing):
            read.result(LIMIT_S)
    for ask in (open_run, read_all):
        with pytest.raises(Closing):
            ask(library, 1)
    with pytest.raises(Closing):
        read_at(handles[0], 0, 10)
    for handle in handles:
        handle.close()


@pytest.mark.parametrize("has_length", [True, False])
def test_what_came_whole_is_kept_though_all_ends_at_that_moment(
    source: FakeSource, library: Library, disk: Disk, has_length: bool
) -> None:
    source.add(1, Result(CONTENT, has_length=has_length))
    gate = stalls_at(source, SIZE)
    handle = open_run(library)
    assert b"".join(pieces(handle)) == CONTENT
    gate.wait_for_arrivals()
    closed = in_thread(library.close)
    eventually(lambda: raises(Closing, lambda: read_at(handle, 0, 1)))
    handle.close()
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
    source.add(1, Result(CONTENT))
    leave_at(source, library, 5000)
    eventually(lambda: source.sent("stream", 1) == 6000)
    library.close()

    assert no_threads()


def _let_the_woken_look_before_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst order of events: a waiter is woken and sees no reason to end, and then its transfer is stopped."""
    looks: list[bool] = []
    is_wanted, stop_run, stop_transfer = Intake.is_wanted, Intake.stop, Transfer.stop
    looks_before = [0]

    def look(self: Intake) -> bool:
        looks.append(True)
        return is_wanted(self)

    def stop(self: Intake, error: CambfsError) -> None:
        looks_before[0] = len(looks)
        stop_run(self, error)

    def stop_late(self: Transfer) -> None:
        eventually(lambda: len(looks) > looks_before[0])
        stop_transfer(self)

    monkeypatch.setattr(Intake, "is_wanted", look)
    monkeypatch.setattr(Intake, "stop", stop)
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
