"""`cambfs wait`: waits until tasks have made their runs, with a bar on a terminal.

The workers of `cambfs.bulk_wait` call `_Report` from their threads; `_lock` guards its counts and output.
"""

from __future__ import annotations

import math
import signal
import sys
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING

import click

from cambfs.cli.fetch import expecting_retries, open_log, say
from cambfs.errors import CambfsError, TaskPending
from cambfs.names import RunId, TaskId, parse_task_id
from cambfs.settings.config import Settings
from cambfs.settings.options import FOR_WAIT, with_settings
from cambfs.settings.setting import Value
from cambfs.settings.values import parse_duration
from cambfs.text import quoted, visible

if TYPE_CHECKING:
    from rich.progress import Progress

_TIMED_OUT = 124  # as timeout(1) has it


def _task_id(text: str) -> TaskId:
    task_id = parse_task_id(text.strip().lower())
    if task_id is None:
        raise ValueError(f"{quoted(text)} is not a task id, a UUID as the API gives it")
    return task_id


@click.command()
@click.argument("task_ids", metavar="TASK...", nargs=-1, required=True, type=Value("TASK", _task_id))
@click.option(
    "--timeout",
    "timeout_s",
    type=Value("TIME", parse_duration),
    metavar="TIME",
    default=None,
    help="Give up after this time: 30, 30s, 2m, 1h.  [default: wait as long as it takes]",
)
@with_settings(FOR_WAIT)
def wait(settings: Settings, task_ids: tuple[TaskId, ...], timeout_s: float | None) -> None:
    """Wait until tasks have made their runs.

    TASK is the id of a task for text to speech, or for translated speech. When it has succeeded, cambfs prints a line
    with the task id and the run id.

    The exit code is 0 when all tasks have succeeded, 1 when one has failed or is unknown, and 124 when none has, but
    the time is over.
    """
    from cambfs.system import limits

    limits.forbid_core_dumps()
    report = _Report()
    try:
        limit_s = math.inf if timeout_s is None else timeout_s
        _wait(expecting_retries(settings), list(dict.fromkeys(task_ids)), limit_s, report)
    except KeyboardInterrupt:
        click.echo(f"cambfs: interrupted; {report.summary()}", err=True)
        sys.exit(128 + signal.SIGINT)  # click would add an empty line
    click.echo(f"cambfs: {report.summary()}", err=True)
    if report.failures or report.pending:
        sys.exit(1 if report.failures else _TIMED_OUT)


def _wait(settings: Settings, wanted: list[TaskId], limit_s: float, report: _Report) -> None:
    from cambfs.bulk_wait import Wait
    from cambfs.system.signals import ending_on_signals
    from cambfs.wiring import open_tasks

    with ending_on_signals(), ExitStack() as stack:
        if sys.stderr.isatty():
            report.bar = stack.enter_context(_bar(len(wanted)))
        open_log(settings)  # once the bar has begun, because it prints log lines above itself
        Wait(stack.enter_context(open_tasks(settings, limit_s)), limit_s, report).run(wanted)


def _bar(count: int) -> Progress:
    """The bar of tasks, and the time since the beginning."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.completed}/{task.total} tasks"), BarColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), redirect_stdout=False)
    bar.add_task("", total=count)
    return bar


class _Report:
    """Prints a line for each task, and counts the outcomes."""

    def __init__(self) -> None:
        self.bar: Progress | None = None
        self.failures = self.pending = 0
        self._lock = Lock()
        self._succeeded = 0

    def task_succeeded(self, task_id: TaskId, run_id: RunId) -> None:
        with self._lock:
            self._succeeded += 1
            self._print(f"{task_id} {run_id}")
            self._show()

    def task_failed(self, _task_id: TaskId, error: CambfsError) -> None:
        with self._lock:
            if isinstance(error, TaskPending):
                self.pending += 1
            else:
                self.failures += 1
                say(self.bar, f"cambfs: {visible(str(error))}")
            self._show()

    def _print(self, line: str) -> None:
        """On standard output: above the bar if it is on the same terminal."""
        if self.bar is not None and sys.stdout.isatty():
            say(self.bar, line)
        else:
            click.echo(line)

    def _show(self) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.tasks[0].id, completed=self._succeeded + self.failures)

    def summary(self) -> str:
        parts = [f"{self._succeeded} succeeded"]
        parts += [f"{self.failures} failed"] if self.failures else []
        parts += [f"{self.pending} still pending"] if self.pending else []
        return ", ".join(parts)
