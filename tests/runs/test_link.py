"""A connection that is far slower than the link: the rest comes over another one, where ranges are proven."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from cambfs.intake.intake import Intake
from cambfs.runs.library import Library
from cambfs.spans.beside import Beside
from cambfs.transfers import link as link_module
from cambfs.transfers import transfer as transfer_module
from cambfs.transfers.link import Link, Pace
from cambfs.transfers.slots import Slots
from cambfs.transfers.transfer import Transfer
from tests.fakes import LIMIT_S, FakeBody, FakeSource, Result, StorageManner
from tests.runs.results import CONTENT, stalls_at
from tests.waiting import context_of, eventually, in_thread, our_threads, read_all


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


class _Steady:
    """A body that brings so much in each window, and whose reads take one."""

    def __init__(self, clock: _Clock, *rates: int) -> None:
        self._clock = clock
        self._rates = deque(rates)

    def read(self, limit: int) -> bytes:  # noqa: ARG002
        self._clock.now += 0.25
        return bytes(self._rates.popleft() // 4)


@pytest.fixture
def _slow_read(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A window passes in each."""
    read = FakeBody.read

    def slowly(body: FakeBody, limit: int) -> bytes:
        clock.now += 0.25
        return read(body, limit)

    monkeypatch.setattr(FakeBody, "read", slowly)


def _pace(clock: _Clock, *rates: int) -> Pace:
    pace, body = Pace(), _Steady(clock, *rates)
    for _ in rates:
        pace.read(body, 1 << 20)
    return pace


def _run(clock: _Clock, link: Link, *rates: int) -> None:
    for rate in rates:
        clock.now += 0.25
        link.received(rate // 4)


def test_the_rate_of_the_link_is_the_best_of_late(clock: _Clock) -> None:
    link = Link()
    _run(clock, link, 1000, 8000, 2000)
    assert link.bytes_per_s == 8000
    _run(clock, link, *[2000] * 16)
    assert link.bytes_per_s == 2000
    for _ in range(16):
        clock.now += 60
        link.received(4000)
    assert link.bytes_per_s == 2000, "nothing was transferred for a minute each"


@pytest.mark.parametrize(
    ("rates", "transfers", "is_slow"),
    [
        pytest.param([100], 1, False, id="too young to tell"),
        pytest.param([100, 120], 1, True, id="slow"),
        pytest.param([100, 200], 1, False, id="grows like a young connection"),
        pytest.param([3000, 3000], 1, False, id="not so slow"),
        pytest.param([500, 500], 5, False, id="its share beside others"),
        pytest.param([300, 300], 5, True, id="less than its share beside others"),
    ],
)
def test_what_is_slow(clock: _Clock, rates: list[int], transfers: int, is_slow: bool) -> None:
    link = Link()
    _run(clock, link, 10_000)

    assert link.outpaces(_pace(clock, *rates), transfers) is is_slow


@pytest.mark.parametrize("has_ranges", [True, False])
def test_the_rest_comes_in_another_response_where_there_are_ranges(
    has_ranges: bool, source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.piece_bytes, source.storage = 10_000, StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag='"a"' if has_ranges else None, ranges=has_ranges))
    context_of(library).api.gives_ranges = True
    monkeypatch.setattr(context_of(library).slots.link, "outpaces", lambda *_: True)

    assert read_all(library, 1) == CONTENT
    starts = source.starts("stream", 1)
    assert starts == ([0, 10_000, 20_000, 30_000, 40_000] if has_ranges else [0]), "not more than four times"


def test_a_stream_is_not_left_once_ranges_have_run_beside_it(
    source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count for the link, so a stream that its server limits looks slow beside them."""
    source.piece_bytes, source.storage = 10_000, StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    context_of(library).api.gives_ranges = True
    monkeypatch.setattr(context_of(library).slots.link, "outpaces", lambda *_: True)
    monkeypatch.setattr(Beside, "has_begun", True)

    assert read_all(library, 1) == CONTENT
    assert source.starts("stream", 1) == [0]


def test_storage_is_asked_for_the_rest_once(
    source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.piece_bytes = 10_000
    source.add(1, Result(CONTENT))
    monkeypatch.setattr(context_of(library).slots.link, "outpaces", lambda *_: True)
    gate = stalls_at(source, 20_000)
    content = in_thread(lambda: read_all(library, 1))
    eventually(lambda: source.count("stored", 1) >= 2)
    eventually(lambda: not any(name.startswith("size-") for name in our_threads()))
    gate.open()  # the stream waits there, unless its connection was left before

    assert content.result(LIMIT_S) == CONTENT
    assert source.starts("stream", 1) == [0]
    assert source.count("stored", 1) == 3, "its head and its end, and the rest from where the connection was left"


@pytest.mark.usefixtures("_slow_read")
def test_a_transfer_that_pauses_has_no_slow_connection(
    source: FakeSource, library: Library, clock: _Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = Intake.receive

    def slowly(intake: Intake, transfer: Transfer, position: int, data: bytes) -> bool:
        clock.now += 3.0 if position == 30_000 else 0.0
        return receive(intake, transfer, position, data)

    monkeypatch.setattr(Intake, "receive", slowly)
    source.piece_bytes, source.storage = 10_000, StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))

    assert read_all(library, 1) == CONTENT
    assert context_of(library).slots.link.bytes_per_s == 40_000
    assert source.starts("stream", 1) == [0]


def test_how_soon_the_quickest_response_begins_counts(clock: _Clock) -> None:  # noqa: ARG001
    link = Link()
    assert link.begins_s == 0
    for after_s in (3.0, 1.0, 2.0):
        link.began(after_s)
    assert link.begins_s == 1
    for _ in range(16):
        link.began(4.0)
    assert link.begins_s == 4


@pytest.mark.parametrize(
    ("size", "age_s", "link_bytes_per_s", "left_s"),
    [
        (None, 10.0, 50.0, math.inf),
        (1000, None, 0.0, math.inf),
        (1000, None, 50.0, 12.0),
        (1000, 0.01, 50.0, 12.0),
        (1000, 10.0, 50.0, 15.0),
        (300, 10.0, 50.0, math.inf),
    ],
    ids=["no size", "no rate", "not begun", "young", "its own rate", "more than the size"],
)
def test_how_long_a_transfer_takes_until_its_end(
    size: int | None, age_s: float | None, link_bytes_per_s: float, left_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer_module, "time", SimpleNamespace(monotonic=lambda: 100.0))
    slots = Slots(1)
    slots.link.bytes_per_s = link_bytes_per_s
    owner: Any = SimpleNamespace(expected_bytes=size)
    open_at: Any = None
    transfer = Transfer("stream-1", owner, open_at, slots, LIMIT_S)
    transfer.position = 400
    transfer.begin_at = None if age_s is None else 100.0 - age_s

    assert transfer.left_s == left_s
