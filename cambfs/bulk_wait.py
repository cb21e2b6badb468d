"""Waits for tasks, several at a time, and reports their outcomes as they come.

`cli` shows the progress. Threads: a few workers, which take the next task from one queue and report from their own
threads. The caller's thread waits, so that it receives Ctrl-C.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import Protocol

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Cancelled, Closing, KeyRefused, TaskPending
from cambfs.names import RunId, TaskId
from cambfs.remote.tasks import Tasks

MAX_WORKERS = 32  # each asks every few seconds
_SLICE_S = 0.2
# While there are more tasks than workers, the tasks take turns. Otherwise a few that stay pending would hide all others
# until the time is over. The first turn is long enough for one response.
_FIRST_TURN_S, _LONGEST_TURN_S = 1.0, 10.0


class Progress(Protocol):
    """Called from the workers' threads."""

    def task_succeeded(self, task_id: TaskId, run_id: RunId) -> None: ...

    def task_failed(self, task_id: TaskId, error: CambfsError) -> None:
        """TaskPending: the time is over."""


class Wait:
    """Waits for at most `timeout_s` from now on, for all tasks together."""

    def __init__(self, tasks: Tasks, timeout_s: float, progress: Progress) -> None:
        self._tasks = tasks
        self._give_up_at = time.monotonic() + timeout_s
        self._progress = progress
        self._stop = Event()
        # Each worker only takes from, or adds to, these.
        self._queue: deque[tuple[TaskId, float]] = deque()  # with the length of the task's next turn
        self._found: dict[TaskId, RunId] = {}

    def run(self, task_ids: Sequence[TaskId]) -> list[RunId]:
        """The runs of the tasks that succeed, in the order of the tasks. A failure costs only its task, but a refused
        key ends the wait, with KeyRefused."""
        self._queue.extend((task_id, _FIRST_TURN_S) for task_id in task_ids)
        workers = min(len(task_ids), MAX_WORKERS) or 1
        with ThreadPoolExecutor(workers, "cambfs-wait") as pool:
            try:
                under_way = {pool.submit(self._work) for _ in range(workers)}
                while under_way:
                    # In slices: a signal that another thread was chosen for does not end a longer wait.
                    done, under_way = wait(under_way, timeout=_SLICE_S)
                    for one in done:
                        one.result()
            finally:
                self._stop.set()
        return [self._found[task_id] for task_id in task_ids if task_id in self._found]

    def _work(self) -> None:
        """Until no task is left. A worker that finds none may end: each of the others has one task at most."""
        while not self._stop.is_set():
            try:
                task_id, turn_s = self._queue.popleft()
            except IndexError:
                return
            try:
                self._look(task_id, turn_s)
            except (Cancelled, Closing):  # the command ends
                return
            except CambfsError as error:
                if isinstance(error, KeyRefused) and error.is_for_all:
                    self._stop.set()
                    raise
                self._progress.task_failed(task_id, error)

    def _look(self, task_id: TaskId, turn_s: float) -> None:
        """Waits for a task until its turn or all the time is over. Its next turn is longer."""
        left_s = self._give_up_at - time.monotonic()
        if left_s <= 0:
            raise TaskPending(f"task {task_id}: not asked for, the time is over")
        wait_s = min(left_s, turn_s) if self._queue else left_s
        try:
            run_id = self._tasks.wait(task_id, Deadline(wait_s, self._stop.is_set), wait_s=wait_s)
        except TaskPending:
            if wait_s == left_s:
                raise
            self._queue.append((task_id, min(2 * turn_s, _LONGEST_TURN_S)))
        else:
            self._found[task_id] = run_id
            self._progress.task_succeeded(task_id, run_id)
