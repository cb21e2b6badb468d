"""`cambfs.remote.tasks`: outcomes, what is asked and how often, and who waits for how long."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Any, Protocol

import pytest

from cambfs.deadline import Deadline
from cambfs.errors import (
    BadResponse,
    Cancelled,
    Closing,
    KeyRefused,
    RateLimited,
    ServerError,
    TaskFailed,
    TaskPending,
    TimedOut,
    UnknownTask,
    Unreachable,
)
from cambfs.names import RunId, TaskId
from cambfs.remote import tasks as module
from cambfs.remote.source import PENDING, TaskKind, TaskReport
from cambfs.remote.tasks import Tasks
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S, FakeSource, Gate
from tests.waiting import asleep, deadline, eventually, in_thread, our_threads

TASK = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10")
OTHER = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a11")
SPEECH, TRANSLATED = TaskKind.SPEECH, TaskKind.TRANSLATED
DONE = TaskReport(run_id=RunId(1477))
FAILED = TaskReport(failure="ERROR: no such voice")
WAIT_S = 0.2


class MakeTasks(Protocol):
    def __call__(self, wait_s: float = LIMIT_S, declared: Sequence[TaskId] = (), **options: Any) -> Tasks: ...


@pytest.fixture
def make_tasks(source: FakeSource, closing: Event) -> MakeTasks:
    def make(wait_s: float = LIMIT_S, declared: Sequence[TaskId] = (), **options: Any) -> Tasks:
        options = {"timeout_s": LIMIT_S, **options}
        return Tasks(source, Workers(), closing, wait_s=wait_s, declared=dict.fromkeys(declared).keys, **options)

    return make


def test_a_success_is_asked_for_once_in_the_life_of_the_mount(
    source: FakeSource, make_tasks: MakeTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.tasks[TASK, SPEECH] = [DONE]
    tasks = make_tasks()
    assert tasks.run_id(TASK) is None
    assert tasks.wait(TASK, deadline()) == 1477
    asleep(monkeypatch, 100_000)
    assert tasks.wait(TASK, deadline()) == tasks.run_id(TASK) == 1477
    assert source.asked == [(TASK, SPEECH)]


def test_a_pending_task_is_asked_for_again_until_it_is_over(source: FakeSource, make_tasks: MakeTasks) -> None:
    source.tasks[TASK, SPEECH] = [PENDING, PENDING, DONE]
    assert make_tasks().wait(TASK, deadline()) == 1477
    assert source.calls("task") == 3


def test_translated_speech_is_asked_for_where_it_is_known(source: FakeSource, make_tasks: MakeTasks) -> None:
    source.tasks[TASK, TRANSLATED] = [PENDING, DONE]
    assert make_tasks().wait(TASK, deadline()) == 1477
    assert source.asked == [(TASK, SPEECH), (TASK, TRANSLATED), (TASK, TRANSLATED)]


def test_many_who_wait_share_one_poll(source: FakeSource, make_tasks: MakeTasks) -> None:
    gate = Gate()
    source.tasks[TASK, SPEECH] = [gate, DONE]
    tasks = make_tasks()
    waiting = [in_thread(lambda: tasks.wait(TASK, deadline())) for _ in range(20)]
    gate.wait_for_arrivals()
    eventually(lambda: tasks._polls[TASK].waiters == 20)
    assert our_threads() == [f"task-{TASK}"]
    assert tasks.awaited() == 1
    gate.open()
    assert {one.result(LIMIT_S) for one in waiting} == {1477}
    assert source.calls("task") == 1
    assert tasks.awaited() == 0


def test_one_task_does_not_hold_another_up(source: FakeSource, make_tasks: MakeTasks) -> None:
    gate = Gate()
    source.tasks[TASK, SPEECH], source.tasks[OTHER, SPEECH] = [gate, DONE], [DONE]
    tasks = make_tasks()
    held_up = in_thread(lambda: tasks.wait(TASK, deadline()))
    gate.wait_for_arrivals()
    assert tasks.wait(OTHER, deadline()) == 1477
    assert not held_up.done()
    gate.open()
    assert held_up.result(LIMIT_S) == 1477


def test_a_task_that_stays_pending_is_given_up_in_time_and_no_longer_asked_for(
    source: FakeSource, make_tasks: MakeTasks
) -> None:
    source.tasks[TASK, SPEECH] = [PENDING]
    tasks = make_tasks(WAIT_S)
    with pytest.raises(TaskPending, match=f"task {TASK}: still pending after 0.2 s"):
        tasks.wait(TASK, deadline())
    eventually(lambda: not our_threads())
    assert tasks.reports() == {TASK: PENDING}
    source.tasks[TASK, SPEECH] = [DONE]
    assert tasks.wait(TASK, deadline()) == 1477


def test_the_timeout_of_an_operation_does_not_count(source: FakeSource, make_tasks: MakeTasks) -> None:
    gate, looks = Gate(), [0]

    def is_cancelled() -> bool:
        looks[0] += 1
        return False

    source.tasks[TASK, SPEECH] = [gate, DONE]
    tasks = make_tasks()
    waiting = in_thread(lambda: tasks.wait(TASK, Deadline(0.0, is_cancelled)))
    eventually(lambda: looks[0] > 2)
    gate.open()
    assert waiting.result(LIMIT_S) == 1477


def test_a_caller_that_is_killed_leaves_and_the_others_go_on(source: FakeSource, make_tasks: MakeTasks) -> None:
    source.tasks[TASK, SPEECH] = [PENDING]
    tasks, killed = make_tasks(), Event()
    leaving = in_thread(lambda: tasks.wait(TASK, Deadline(LIMIT_S, killed.is_set)))
    staying = in_thread(lambda: tasks.wait(TASK, deadline()))
    eventually(lambda: TASK in tasks._polls and tasks._polls[TASK].waiters == 2)
    killed.set()
    with pytest.raises(Cancelled):
        leaving.result(LIMIT_S)
    source.tasks[TASK, SPEECH] = [DONE]
    assert staying.result(LIMIT_S) == 1477


def test_the_end_of_the_mount_ends_every_wait_and_thread(
    source: FakeSource, make_tasks: MakeTasks, closing: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 1000.0)
    source.tasks[TASK, SPEECH] = [PENDING]
    tasks = make_tasks()
    waiting = in_thread(lambda: tasks.wait(TASK, deadline()))
    eventually(lambda: source.calls("task"))
    closing.set()
    with pytest.raises(Closing):
        waiting.result(LIMIT_S)
    eventually(lambda: not our_threads())
    with pytest.raises(Closing):
        tasks.wait(OTHER, deadline())
    assert source.calls("task") == 1


def test_a_failure_is_told_with_its_reason_and_asked_for_again_later(
    source: FakeSource, make_tasks: MakeTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.tasks[TASK, SPEECH] = [FAILED]
    tasks = make_tasks()
    for _ in range(2):
        with pytest.raises(TaskFailed, match=f"^task {TASK}: ERROR: no such voice$"):
            tasks.wait(TASK, deadline())
    assert tasks.run_id(TASK) is None
    assert source.calls("task") == 1
    assert tasks.reports() == {TASK: tasks.report(TASK)} == {TASK: FAILED}
    asleep(monkeypatch, 6.0)
    source.tasks[TASK, SPEECH] = [DONE]
    assert tasks.wait(TASK, deadline()) == 1477


def test_an_unknown_task_is_asked_for_again_later(
    source: FakeSource, make_tasks: MakeTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = make_tasks(declared=[TASK])
    for _ in range(2):
        with pytest.raises(UnknownTask, match=f"task {TASK}: the API says 404"):
            tasks.wait(TASK, deadline())
    assert source.asked == [(TASK, SPEECH), (TASK, TRANSLATED)]
    assert tasks.reports() == {}
    assert tasks.report(TASK) is None
    asleep(monkeypatch, 6.0)
    source.tasks[TASK, SPEECH] = [DONE]
    assert tasks.wait(TASK, deadline()) == 1477
    assert tasks.reports() == {TASK: DONE}


@pytest.mark.parametrize("error", [KeyRefused("no", 401), BadResponse("no run_id", 200)])
def test_a_final_error_is_told_at_once_and_not_remembered(
    source: FakeSource, make_tasks: MakeTasks, error: Exception
) -> None:
    source.tasks[TASK, SPEECH] = [error, DONE]
    tasks = make_tasks()
    with pytest.raises(type(error)):
        tasks.wait(TASK, deadline())
    assert tasks.wait(TASK, deadline()) == 1477


@pytest.mark.parametrize(
    "error",
    [ServerError("busy", 503), RateLimited("busy", 429, retry_after_s=0.01), TimedOut("slow"), Unreachable("gone")],
)
def test_a_temporary_error_does_not_end_the_wait(source: FakeSource, make_tasks: MakeTasks, error: Exception) -> None:
    source.tasks[TASK, SPEECH] = [error, PENDING, error, DONE]
    assert make_tasks().wait(TASK, deadline()) == 1477
    assert source.calls("task") == 4


def test_what_the_api_asks_for_is_kept(source: FakeSource, make_tasks: MakeTasks) -> None:
    source.tasks[TASK, SPEECH] = [RateLimited("busy", 429, retry_after_s=1000.0), DONE]
    with pytest.raises(RateLimited):  # the wait would end before that
        make_tasks().wait(TASK, deadline())
    assert source.calls("task") == 1

    source.tasks[OTHER, SPEECH] = [RateLimited("busy", 429, retry_after_s=100.0), DONE]
    tasks = make_tasks(wait_s=200.0)
    killed = Event()
    waiting = in_thread(lambda: tasks.wait(OTHER, Deadline(LIMIT_S, killed.is_set)))
    eventually(lambda: source.calls("task") == 2)
    killed.set()
    with pytest.raises(Cancelled):
        waiting.result(LIMIT_S)
    assert source.calls("task") == 2


def test_an_api_that_does_not_answer_is_given_up_after_the_timeout(source: FakeSource, make_tasks: MakeTasks) -> None:
    source.tasks[TASK, SPEECH] = [PENDING, Unreachable("gone")]
    with pytest.raises(Unreachable):
        make_tasks(timeout_s=0.1).wait(TASK, deadline())


def test_an_api_that_is_down_is_given_up_at_once_unless_that_is_to_be_outlasted(
    source: FakeSource, make_tasks: MakeTasks
) -> None:
    down = Unreachable("down")
    down.down_for_s = 5.0
    source.tasks[TASK, SPEECH], source.tasks[OTHER, SPEECH] = [down, DONE], [down, DONE]
    with pytest.raises(Unreachable):
        make_tasks().wait(TASK, deadline())
    assert make_tasks(outlast_outage=True).wait(OTHER, deadline()) == 1477


def test_a_listing_asks_for_some_tasks_and_waits_for_none(
    source: FakeSource, make_tasks: MakeTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REFRESHED", 2)
    monkeypatch.setattr(module, "_REFRESH_S", 0.0)
    named = [TaskId(f"{TASK[:-1]}{digit}") for digit in range(1, 6)]
    source.tasks.update({(task_id, SPEECH): [PENDING] for task_id in named})
    tasks = make_tasks(declared=named)
    assert tasks.reports() == dict.fromkeys(named, PENDING)
    assert tasks.report(named[0]) == PENDING
    assert tasks.report(TASK) is None
    assert source.calls("task") == 0
    for _ in range(2):
        tasks.refresh()
        eventually(lambda: not our_threads())
    assert source.calls("task") == 4
    assert {task_id for task_id, _ in source.asked} == {*named[:4]}
    source.tasks[named[4], SPEECH] = [DONE]
    tasks.refresh()
    eventually(lambda: tasks.run_id(named[4]) == 1477)


def test_a_listing_asks_for_the_same_task_rarely(source: FakeSource, make_tasks: MakeTasks) -> None:
    source.tasks[TASK, SPEECH] = [PENDING]
    tasks = make_tasks(declared=[TASK])
    for _ in range(5):
        tasks.refresh()
        eventually(lambda: not our_threads())
    assert source.calls("task") == 1


def test_a_caller_joins_a_poll_that_a_listing_began(source: FakeSource, make_tasks: MakeTasks) -> None:
    gate = Gate()
    source.tasks[TASK, SPEECH] = [gate, PENDING, DONE]
    tasks = make_tasks(declared=[TASK])
    tasks.refresh()
    gate.wait_for_arrivals()
    waiting = in_thread(lambda: tasks.wait(TASK, deadline()))
    eventually(tasks.awaited)
    gate.open()
    assert waiting.result(LIMIT_S) == 1477
    assert source.calls("task") == 2


def test_a_bug_fails_the_wait_and_ends_the_poll(
    source: FakeSource, make_tasks: MakeTasks, caplog: pytest.LogCaptureFixture
) -> None:
    source.tasks[TASK, SPEECH] = [ZeroDivisionError("a bug"), DONE]
    tasks = make_tasks()
    with pytest.raises(Exception, match="internal error: ZeroDivisionError"):
        tasks.wait(TASK, deadline())
    assert "unexpected error while asking for it" in caplog.text
    assert tasks.wait(TASK, deadline()) == 1477
