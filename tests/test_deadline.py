"""`cambfs.deadline`: waits for a future."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from threading import Barrier

from cambfs.deadline import CROWD, SLICE_S, Deadline
from tests.fakes import LIMIT_S


class Slices(Future[int]):
    """Notes the slices of so many callers. It is done at the second look, and each look begins when all are there."""

    def __init__(self, callers: int) -> None:
        super().__init__()
        self.found: list[float] = []
        self._callers = callers
        self._all = Barrier(callers)

    def result(self, timeout: float | None = None) -> int:
        assert timeout is not None
        self._all.wait(LIMIT_S)
        is_first = len(self.found) < self._callers
        self.found.append(timeout)
        self._all.wait(LIMIT_S)
        if is_first:
            raise FutureTimeout
        return 7


def _slices(callers: int) -> list[float]:
    future = Slices(callers)
    with ThreadPoolExecutor(callers) as pool:
        waits = [pool.submit(Deadline(LIMIT_S).result, future) for _ in range(callers)]
        assert {wait.result() for wait in waits} == {7}
    return future.found[callers:]


def test_a_crowd_looks_less_often() -> None:
    assert _slices(2) == [SLICE_S] * 2
    assert _slices(2 * CROWD) == [2 * SLICE_S] * 2 * CROWD
    assert _slices(1) == [SLICE_S]
