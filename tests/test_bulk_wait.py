"""`cambfs.bulk_wait`: outcomes of many tasks, and when it gives up."""

from __future__ import annotations

from threading import Event, Lock
from typing import Any

import pytest

from cambfs.bulk_wait import MAX_WORKERS, Wait
from cambfs.errors import CambfsError, KeyRefused, TaskFailed, TaskPending, UnknownTask
from cambfs.names import RunId, TaskId
from cambfs.remote.source import PENDING, TaskKind, TaskReport
from cambfs.remote.tasks import Tasks
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S, FakeSource, Gate

_IDS = [TaskId(f"3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7{number:03}") for number in range(2 * MAX_WORKERS)]


class Outcomes:
    """What it was told."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.found: dict[TaskId, Any] = {}

    def task_succeeded(self, task_id: TaskId, run_id: RunId) -> None:
        with self._lock:
            self.found[task_id] = run_id

    def task_failed(self, task_id: TaskId, error: CambfsError) -> None:
        with self._lock:
            self.found[task_id] = type(error)


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def tasks(source: FakeSource, closing: Event) -> Tasks:
    return Tasks(source, Workers(), closing, timeout_s=LIMIT_S, wait_s=LIMIT_S)


def say(source: FakeSource, task_id: TaskId, *said: TaskReport | Exception) -> None:
    source.tasks[task_id, TaskKind.SPEECH] = [*said]


def test_more_tasks_than_workers_in_their_order(source: FakeSource, tasks: Tasks, outcomes: Outcomes) -> None:
    for number, task_id in enumerate(_IDS):
        say(source, task_id, PENDING, TaskReport(RunId(1000 - number)))
    assert Wait(tasks, LIMIT_S, outcomes).run(_IDS) == [1000 - number for number in range(len(_IDS))]
    assert outcomes.found == {task_id: 1000 - number for number, task_id in enumerate(_IDS)}


def test_a_failure_costs_its_task_only(source: FakeSource, tasks: Tasks, outcomes: Outcomes) -> None:
    done, failed, unknown = _IDS[:3]
    say(source, done, TaskReport(RunId(7)))
    say(source, failed, TaskReport(failure="ERROR"))
    assert Wait(tasks, LIMIT_S, outcomes).run([failed, unknown, done]) == [7]
    assert outcomes.found == {done: 7, failed: TaskFailed, unknown: UnknownTask}


def test_the_time_is_for_all_tasks_together(source: FakeSource, tasks: Tasks, outcomes: Outcomes) -> None:
    for task_id in _IDS:
        say(source, task_id, PENDING)
    assert Wait(tasks, 0.2, outcomes).run(_IDS) == []
    assert outcomes.found == dict.fromkeys(_IDS, TaskPending)
    assert {task_id for task_id, _ in source.asked} == {*_IDS[:MAX_WORKERS]}


def test_tasks_that_stay_pending_do_not_hide_the_others(source: FakeSource, tasks: Tasks) -> None:
    done, gate = _IDS[MAX_WORKERS], Gate()

    class Opening(Outcomes):
        def task_succeeded(self, task_id: TaskId, run_id: RunId) -> None:
            super().task_succeeded(task_id, run_id)
            gate.open()

    for task_id in _IDS[:MAX_WORKERS]:
        source.tasks[task_id, TaskKind.SPEECH] = [gate, TaskReport(failure="ERROR")]
    say(source, done, TaskReport(RunId(7)))

    outcomes = Opening()
    assert Wait(tasks, LIMIT_S, outcomes).run([*_IDS[:MAX_WORKERS], done]) == [7]
    assert [*outcomes.found.values()].count(TaskFailed) == MAX_WORKERS


def test_a_refused_key_ends_the_wait(source: FakeSource, tasks: Tasks, outcomes: Outcomes) -> None:
    say(source, _IDS[0], PENDING)
    say(source, _IDS[1], KeyRefused("no", 401))
    with pytest.raises(KeyRefused):
        Wait(tasks, LIMIT_S, outcomes).run(_IDS[:2])
    assert outcomes.found == {}


def test_no_tasks_take_no_time(tasks: Tasks, outcomes: Outcomes) -> None:
    assert Wait(tasks, LIMIT_S, outcomes).run([]) == []
