"""The lock excludes, and goes to whoever has waited longest."""

from __future__ import annotations

import pytest

from cambfs.runs.fairlock import FairLock
from tests.fakes import LIMIT_S
from tests.waiting import eventually, in_thread


def test_it_goes_to_who_has_waited_longest() -> None:
    lock, order = FairLock(), list[int]()

    def take(number: int) -> None:
        with lock:
            order.append(number)

    def waiting(count: int) -> bool:
        return len(lock._waiting) == count

    futures = []
    with lock:
        for number in range(20):
            futures.append(in_thread(lambda number=number: take(number)))  # type: ignore[misc]
            eventually(lambda count=number + 1: waiting(count))  # type: ignore[misc]
        assert order == []
    for future in futures:
        future.result(LIMIT_S)
    assert order == list(range(20))


def test_one_at_a_time_has_it() -> None:
    lock, inside, most = FairLock(), [0], [0]

    def work() -> None:
        for _ in range(300):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                sum(range(200))
                inside[0] -= 1

    for future in [in_thread(work) for _ in range(8)]:
        future.result(LIMIT_S)
    assert most == [1]
    assert inside == [0]


def test_a_failure_gives_it_back() -> None:
    lock = FairLock()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    with lock:
        pass


def test_who_gives_it_up_for_a_while_has_it_again() -> None:
    lock, order = FairLock(), list[str]()

    def take() -> None:
        with lock:
            order.append("another")

    def give_up_and_fail() -> None:
        with lock.given_up():
            other.result(LIMIT_S)
            raise ZeroDivisionError

    with lock:
        other = in_thread(take)
        eventually(lambda: len(lock._waiting) == 1)
        with pytest.raises(ZeroDivisionError):
            give_up_and_fail()
        other = in_thread(take)
        eventually(lambda: len(lock._waiting) == 1)
        order.append("again")
    other.result(LIMIT_S)
    assert order == ["another", "again", "another"]
