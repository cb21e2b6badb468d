"""Threads that are used again: each has the name of its work, none is lost, and all of them end."""

from __future__ import annotations

import threading
import time
from threading import Barrier, Event, current_thread

import pytest

from cambfs.errors import CambfsError
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S
from tests.waiting import eventually


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def test_work_runs_under_its_name() -> None:
    names: list[str] = []
    Workers(0.1).start("stream-7", lambda: names.append(current_thread().name))
    eventually(lambda: names == ["stream-7"])


def test_a_free_thread_is_used_again() -> None:
    workers, seen = Workers(LIMIT_S), list[int | None]()
    for number in range(20):
        workers.start(f"work-{number}", lambda: seen.append(current_thread().ident))
        assert workers.wait_idle(LIMIT_S)
    assert len(seen) == 20
    assert len(set(seen)) == 1


def test_all_run_at_once_however_many() -> None:
    workers, together, met = Workers(0.1), Barrier(41), list[int]()

    def meet() -> None:
        met.append(together.wait(LIMIT_S))

    for number in range(40):
        workers.start(f"work-{number}", meet)
    meet()  # raises BrokenBarrierError when one of them did not come
    assert workers.wait_idle(LIMIT_S)
    assert sorted(met) == list(range(41))


def test_threads_end_when_there_is_no_work() -> None:
    before, workers = threads(), Workers(0.05)
    for _ in range(10):
        workers.start("work", lambda: None)
    eventually(lambda: threads() <= before)
    worked = Event()
    workers.start("work", worked.set)
    assert worked.wait(LIMIT_S), "it was given to a thread that has ended"


def test_no_work_is_lost_while_threads_end() -> None:
    """Work comes just when they have had enough of waiting."""
    workers, count, guard = Workers(0.001), [0], threading.Lock()

    def work() -> None:
        with guard:
            count[0] += 1

    for _ in range(1000):
        workers.start("work", work)
        time.sleep(0.001)
    eventually(lambda: count[0] == 1000)


def test_a_machine_without_threads_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers, ran = Workers(0.1), Event()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(CambfsError):
            workers.start("work", ran.set)
    later = Event()
    workers.start("later", later.set)
    assert later.wait(LIMIT_S)
    assert not ran.is_set()
