"""Whole results are put into the cache one after the other."""

from __future__ import annotations

import logging
from threading import Event, current_thread
from unittest.mock import Mock

import pytest

from cambfs.cache.commit_queue import CommitQueue
from cambfs.errors import CambfsError
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S, Gate


def test_one_after_the_other_in_a_thread_of_their_own() -> None:
    workers, gate, order = Workers(), Gate(), list[str]()
    commits = CommitQueue(workers)

    def first() -> None:
        order.append(current_thread().name)
        gate.go_through()

    commits.add(first)
    gate.wait_for_arrivals()
    for name in ("second", "third"):
        commits.add(lambda name=name: order.append(name))  # type: ignore[misc]
    assert order == ["commit"]
    gate.open()

    assert workers.wait_idle(LIMIT_S)
    assert order == ["commit", "second", "third"]
    done = Event()
    commits.add(done.set)
    assert done.wait(LIMIT_S), "the thread of before has ended"


def test_a_failure_costs_its_result_only(caplog: pytest.LogCaptureFixture) -> None:
    workers, done = Workers(), Event()
    commits = CommitQueue(workers)
    commits.add(Mock(side_effect=ZeroDivisionError))
    commits.add(done.set)

    assert done.wait(LIMIT_S)
    assert workers.wait_idle(LIMIT_S)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, done = Workers(), Event()
    monkeypatch.setattr(workers, "start", Mock(side_effect=CambfsError("no more threads")))
    CommitQueue(workers).add(done.set)

    assert done.is_set()
