"""Waits for tasks, several at a time, and reports their outcomes as they come.

`cli` shows the progress. Threads: a few workers, which take the next task from one iterator and report from their own
threads. The caller's thread waits, so that it receives Ctrl-C.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event
from typing import Protocol

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Cancelled, KeyRefused, TaskPending
from cambfs.names import RunId, TaskId
from cambfs.remote.tasks import Tasks

MAX_WORKERS = 32  # each asks every few seconds
_SLICE_S = 0.2


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

    def run(self, task_ids: Sequence[TaskId]) -> list[RunId]:
        """The runs of the tasks that succeed, in the order of the tasks. A failure costs only its task, but a refused
        key ends the wait, with KeyRefused."""
        with ThreadPoolExecutor(min(len(task_ids), MAX_WORKERS) or 1, "cambfs-wait") as pool:
            try:
                waiting = [pool.submit(self._work, task_id) for task_id in task_ids]
                under_way = {*waiting}
                while under_way:
                    # In slices: a signal that another thread was chosen for does not end a longer wait.
                    done, under_way = wait(under_way, timeout=_SLICE_S)
                    for one in done:
                        one.result()
            finally:
                self._stop.set()
        return [run_id for one in waiting if (run_id := one.result()) is not None]

    def _work(self, task_id: TaskId) -> RunId | None:
        left_s = self._give_up_at - time.monotonic()
        try:
            if left_s <= 0:
                raise TaskPending(f"task {task_id}: not asked for, the time is over")
            run_id = self._tasks.wait(task_id, Deadline(left_s, self._stop.is_set), wait_s=left_s)
        except Cancelled:
            return None
        except CambfsError as error:
            if isinstance(error, KeyRefused) and error.status == 401:
                self._stop.set()
                raise
            self._progress.task_failed(task_id, error)
            return None
        self._progress.task_succeeded(task_id, run_id)
        return run_id
