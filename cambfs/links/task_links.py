"""The branch `/tasks`: symbolic links from tasks to the files of the runs that they made.

`/tasks/TASK.flac` is a link to `../1477.flac`. Its target is known when the task has succeeded, and reading the link
waits for that. A lookup never waits, so every name with a task id is a link, whether the API knows the task or not.
Programs that list a directory also read the links in it. So a listing has a link only when its target is known.
Otherwise it has a file: `TASK.pending`, or `TASK.failed` with the reason. Threads: any; no state.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.names import RunId, TaskId, inode_of_path, parse_task_id
from cambfs.remote.source import PENDING, TaskReport
from cambfs.remote.tasks import Tasks
from cambfs.vfs.nodes import DIRECTORY_MODE, LINK_MODE, SECRET_MODE, Attributes, Branch, Entry
from cambfs.vfs.open_files import OpenControl, OpenFile

NAME = "tasks"
_ROOT = f"/{NAME}"


class TaskLinks(Branch):
    """`endings` are those of a run's files for which there are links, `listed_endings` those that a listing shows."""

    def __init__(self, tasks: Tasks, endings: Sequence[str], listed_endings: Sequence[str]) -> None:
        self._tasks = tasks
        self._endings = endings
        self._listed_endings = listed_endings
        self._made_ns = time.time_ns()

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:  # noqa: ARG002
        ino = inode_of_path(path)
        if path == _ROOT:
            return Attributes(ino, DIRECTORY_MODE, 2, 0, self._made_ns)
        task_id, ending = _parse(path)
        if ending in self._endings:
            run_id = self._tasks.run_id(task_id)
            # As in /proc, a link has size 0 while its target is unknown.
            size = 0 if run_id is None else len(_target(run_id, ending))
            return Attributes(ino, LINK_MODE, 1, size, self._made_ns)
        return Attributes(ino, SECRET_MODE, 1, len(self._text(task_id, ending)), self._made_ns)

    def open(self, path: str, _deadline: Deadline) -> OpenFile:
        return OpenControl(self._text(*_parse(path)))

    def readlink(self, path: str, deadline: Deadline) -> str:
        task_id, ending = _parse(path)
        if ending not in self._endings:
            raise NoSuchName(f"{path!r} is not a symbolic link")
        return _target(self._tasks.wait(task_id, deadline), ending)

    def names(self, path: str) -> Iterator[Entry]:
        if path != _ROOT:
            raise NoSuchName(f"{path!r} is not a directory")
        self._tasks.refresh()
        return (
            (f"{task_id}.{ending}", inode_of_path(f"{_ROOT}/{task_id}.{ending}"), mode)
            for task_id, report in self._tasks.reports().items()
            for ending, mode in self._listed(report)
        )

    def is_private(self, path: str) -> bool:
        return path != _ROOT  # the kernel opens no links, only the files about tasks

    def listed_mode(self) -> int | None:
        return DIRECTORY_MODE if self._tasks.reports() else None

    def _listed(self, report: TaskReport) -> Iterator[tuple[str, int]]:
        """The endings and modes of the names that show a task in this state."""
        if report.run_id is None:
            yield _state(report), SECRET_MODE
        else:
            yield from ((ending, LINK_MODE) for ending in self._listed_endings)

    def _text(self, task_id: TaskId, ending: str) -> bytes:
        report = self._tasks.report(task_id)
        if report is None or report.run_id is not None or ending != _state(report):
            raise NoSuchName(f"{task_id}.{ending} is not the state of a task")
        return f"{report.failure or 'PENDING'}\n".encode()


def _target(run_id: RunId, ending: str) -> str:
    return f"../{run_id}.{ending}"


def _state(report: TaskReport) -> str:
    return "pending" if report == PENDING else "failed"


def _parse(path: str) -> tuple[TaskId, str]:
    stem, _, ending = path.removeprefix(f"{_ROOT}/").rpartition(".")
    task_id = parse_task_id(stem)
    if task_id is None:
        raise NoSuchName(f"{path!r} is not a task's file")
    return task_id, ending
