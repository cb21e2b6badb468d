"""A connection that is far slower than the link: the rest comes over another one, where ranges are proven."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cambfs.runs.library import Library
from cambfs.transfers import link as link_module
from cambfs.transfers.link import Link, Pace
from tests.fakes import FakeSource, Result, StorageManner
from tests.runs.results import CONTENT
from tests.waiting import context_of, read_all


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    return _Clock(monkeypatch)


def _run(clock: _Clock, pace: Pace, link: Link, *rates: int) -> None:
    for rate in rates:
        clock.now += 0.25
        pace.received(rate // 4)
        link.received(rate // 4)


def test_the_rate_of_the_link_is_the_best_of_late(clock: _Clock) -> None:
    link, pace = Link(), Pace()
    _run(clock, pace, link, 1000, 8000, 2000)
    assert link.bytes_per_s == 8000
    _run(clock, pace, link, *[2000] * 16)
    assert link.bytes_per_s == 2000
    clock.now += 60
    link.received(4000)
    assert link.bytes_per_s == 2000, "nothing was transferred for a minute"


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
    _run(clock, Pace(), link, 10_000)
    pace = Pace()
    for rate in rates:
        clock.now += 0.25
        pace.received(rate // 4)

    assert link.outpaces(pace, transfers) is is_slow


@pytest.mark.parametrize("has_ranges", [True, False])
def test_the_rest_comes_in_another_response_where_there_are_ranges(
    has_ranges: bool, source: FakeSource, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.piece_bytes, source.storage = 10_000, StorageManner.UNREACHABLE
    source.add(1, Result(CONTENT, etag='"a"' if has_ranges else None, ranges=has_ranges))
    monkeypatch.setattr(context_of(library).slots.link, "outpaces", lambda *_: True)

    assert read_all(library, 1) == CONTENT
    starts = source.starts("stream", 1)
    assert starts == ([0, 10_000, 20_000, 30_000, 40_000] if has_ranges else [0]), "not more than four times"
