"""One result, as most tests of runs use it, and reads of it."""

from __future__ import annotations

import pytest

import cambfs.demo
from cambfs.audio import tail_bytes_wanted
from cambfs.errors import (
    KeyRefused,
)
from cambfs.names import RunId
from cambfs.remote import object_store
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, some_flac
from tests.waiting import (
    Watched,
    deadline,
    in_thread,
)

SIZE = 100_000
CONTENT = some_flac(SIZE)
UNCOUNTED = some_flac(SIZE, counted=False)
OTHER = some_flac(SIZE, seed=5)
SAMPLE = cambfs.demo.samples()[101].read_bytes()
TAIL_BYTES = tail_bytes_wanted(CONTENT)
OVERLAP_BYTES = 4096
PROBE_BYTES = object_store.HEAD_BYTES + object_store._TAIL_BYTES
RUN = RunId(1)


def open_run(library: Library, run_id: int = 1) -> Handle:
    return library.open(RunId(run_id), deadline())


def read_at(handle: Handle, offset: int, length: int) -> bytes:
    return handle.read(offset, length, deadline())


def stalls_at(source: FakeSource, count: int) -> Gate:
    """Run 1's next stream waits with so many bytes sent until the gate opens."""
    gate = Gate()
    source.plan("stream", 1, Plan(stall_at=count, stall_gate=gate))
    return gate


def leave_at(source: FakeSource, library: Library, count: int) -> None:
    """Opens run 1 and closes it when `count` bytes of its stream have come; the stream goes on by 1,000 at a time."""
    source.piece_bytes = 1000
    gate = stalls_at(source, count)
    handle = open_run(library)
    gate.wait_for_arrivals()
    handle.close()
    gate.open()


def breaks_when_told(source: FakeSource) -> Gate:
    """Run 1's next stream breaks after 30,000 bytes; the last of them waits until the gate opens."""
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=30_000, stall_at=29_999, stall_gate=gate))
    return gate


def breaks_and_is_refused(source: FakeSource, library: Library) -> Handle:
    """A handle of a run whose stream breaks: a read behind the break fails."""
    gate = breaks_when_told(source)
    source.plan("stream", 1, Plan(error=KeyRefused("no", 401)))
    handle = open_run(library)
    reader = Watched()
    read = in_thread(lambda: handle.read(50_000, 1000, reader))
    reader.await_waiting()
    gate.open()
    with pytest.raises(KeyRefused):
        read.result(LIMIT_S)
    return handle
