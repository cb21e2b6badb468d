"""Which transfers beside a stream are begun and ended."""

from __future__ import annotations

import pytest

from cambfs.disk.ranges import RangeSet
from cambfs.errors import CambfsError
from cambfs.spans import beside as module
from cambfs.spans import lanes
from cambfs.spans.beside import Beside

MB = 1 << 20
SIZE = 150 * MB


class Transfer:
    def __init__(self, start: int, stop: int | None) -> None:
        self.name = f"beside-1-{start}"
        self.first_position, self.stop_position = start, stop
        self.stopping = False

    def stop(self) -> None:
        self.stopping = True


class Clock:
    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def beside(clock: Clock) -> Beside[Transfer]:
    """No transfer yet."""
    return with_two_lanes(Beside(Transfer), clock)


def with_two_lanes(found: Beside[Transfer], clock: Clock) -> Beside[Transfer]:
    for came in (0, MB, 3 * MB):
        clock.now_s += lanes._WINDOW_S
        found.consider(came, SIZE - came)
    return found


def fill(found: Beside[Transfer], *brought: tuple[int, int]) -> list[Transfer]:
    found.fill(3 * MB, SIZE, RangeSet((0, 3 * MB), *brought))
    return list(found)


def test_one_that_cannot_be_started_is_no_error_of_the_reader(clock: Clock) -> None:
    attempts = []

    def start(start: int, stop: int | None) -> Transfer:
        attempts.append((start, stop))
        raise CambfsError("cannot start another thread on this machine")

    found = with_two_lanes(Beside(start), clock)
    assert fill(found) == fill(found) == []
    assert len(attempts) == 1
    assert not found.is_open
    assert not found.has_begun


def test_there_are_as_many_as_there_should_be(beside: Beside[Transfer]) -> None:
    assert not beside.has_begun
    first, second = fill(beside)

    assert beside.has_begun
    assert first.stop_position is None, "the end of its response may prove that of the result"
    assert second.stop_position == first.first_position
    assert fill(beside) == [first, second]
    beside.forget(first, None)
    third = fill(beside, (first.first_position, SIZE))[-1]
    assert third.stop_position == second.first_position


def test_it_knows_where_they_are_at_work(beside: Beside[Transfer]) -> None:
    last, before = fill(beside)
    assert not beside.is_at_work_at(before.first_position - 1)
    assert beside.is_at_work_at(before.first_position)
    assert beside.is_at_work_at(SIZE - 1)
    beside.forget(last, None)
    assert not beside.is_at_work_at(last.first_position)


def test_others_that_need_the_link_let_them_end(beside: Beside[Transfer]) -> None:
    running = fill(beside)
    beside.hold()

    assert [one.stopping for one in running] == [False, False]
    beside.forget(running[0], None)
    assert fill(beside) == running[1:]
    assert not beside.is_open


def test_a_seek_ends_them_and_is_no_failure(beside: Beside[Transfer], clock: Clock) -> None:
    running = fill(beside)
    beside.clear()
    assert [one.stopping for one in running] == [True, True]
    for one in running:
        beside.forget(one, ConnectionError("stopped"))

    clock.now_s += lanes._HOLD_S
    for came in (10 * MB, 11 * MB):
        clock.now_s += lanes._WINDOW_S
        beside.consider(came, SIZE - came)
    assert len(fill(beside)) == 1


def test_a_failure_is_the_last(beside: Beside[Transfer]) -> None:
    first, second = fill(beside)
    beside.forget(first, ConnectionError("reset"))

    assert not beside.is_open
    assert fill(beside) == [second]
