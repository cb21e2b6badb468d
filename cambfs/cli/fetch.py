"""`cambfs fetch`: downloads results into the cache, and copies them out of it, with a progress bar on a terminal.

The workers of `cambfs.bulk_fetch` call `_Report` from their threads; `_lock` guards its counts and output.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cambfs.errors import CambfsError, ConfigError, SettingError, UnknownRun, UnknownTask
from cambfs.names import RunId, TaskId, parse_task_id
from cambfs.settings.config import Settings
from cambfs.settings.options import DIRECTORY, FOR_FETCH, with_settings
from cambfs.settings.setting import PathValue
from cambfs.text import shown_size, visible

if TYPE_CHECKING:
    from rich.progress import Progress

_SHOWN_FAILURES = 5


@click.command()
@click.argument("items", metavar="[RUN|TASK|-]...", nargs=-1)
@click.option("--runs-file", type=PathValue("FILE"), metavar="FILE", help="Also fetch the runs in FILE.")
@click.option(
    "-o",
    "--output",
    type=DIRECTORY,
    metavar="DIR",
    help="Also copy each result to DIR/RUN.flac. Creates DIR. A copy with the right content is left alone.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say for each run why it could not be fetched.")
@with_settings(FOR_FETCH)
def fetch(
    settings: Settings, items: tuple[str, ...], runs_file: Path | None, output: Path | None, verbose: bool
) -> None:
    """Download results into the cache, several at a time.

    RUN is a run id or a range: 1-100,205 and 1-100 205 mean the same. TASK is the id of a task: cambfs waits for its
    run, at most for --task-wait. "-" reads runs and tasks from standard input.

    Results that are in the cache are not downloaded again. After Ctrl-C, the same command goes on where it was. The
    exit code is 1 when a run is unknown or fails.
    """
    wanted, tasks = _parse(items, runs_file)
    fetch_into_cache(settings, wanted, output, tasks=tasks, verbose=verbose)


def fetch_into_cache(
    settings: Settings,
    wanted: tuple[RunId, ...],
    output: Path | None = None,
    *,
    tasks: tuple[TaskId, ...] = (),
    verbose: bool = False,
    anew: bool = False,
) -> None:
    """Fetches the runs, then those of the tasks, and prints a summary. With `anew` the cached results are removed
    first, if the API responds. Exits with 1 when a run is missing in the end."""
    from cambfs.system import limits
    from cambfs.system.signals import ending_on_signals

    if settings.no_disk_cache and output is None:
        raise SettingError("without a disk cache there is nowhere to fetch to; name a directory with -o")
    _make(output)
    limits.forbid_core_dumps()
    settings = expecting_retries(settings)
    with ending_on_signals():
        if anew:
            settings = _drop(settings, wanted)
        is_complete, wanted = _fetch(settings, wanted, tasks, output, verbose)
    if not is_complete or (output is None and not _have_stayed(settings, wanted)):
        sys.exit(1)


def expecting_retries(settings: Settings) -> Settings:
    """The settings of a command that goes on after failures: they are logged only if the user says so."""
    if click.get_current_context().get_parameter_source("log_level") is ParameterSource.DEFAULT:
        return replace(settings, log_level="warning")
    return settings


def _drop(settings: Settings, wanted: tuple[RunId, ...]) -> Settings:
    """Removes the results here and from the shared cache. Returns settings with which they come from the API."""
    from cambfs.account import account_directory, open_client
    from cambfs.disk.disk import Disk
    from cambfs.wiring import drop_shared

    with open_client(settings) as client:
        client.check_key()
    # First, because it fails without its libraries, and then the results here stay.
    problem = drop_shared(settings, wanted) if settings.shared_cache else ""
    disk = Disk(account_directory(settings))
    for run_id in wanted:
        disk.remove(run_id)
    if not problem:
        return settings
    again = "refresh them again when that is mended"
    click.echo(f"cambfs: warning: the results stay in the shared cache: {problem}; {again}", err=True)
    return replace(settings, shared_cache="")


def _parse(items: tuple[str, ...], runs_file: Path | None) -> tuple[tuple[RunId, ...], tuple[TaskId, ...]]:
    from cambfs.run_list import DeclaredRuns, expand, parse_runs

    if not items and runs_file is None:
        raise click.UsageError("no runs; name them, a file of them (--runs-file), or - for standard input")
    declared = DeclaredRuns("", runs_file)
    parted = [_parted(text) for item in items for text in _texts(item)]
    tasks = tuple(dict.fromkeys([*(task_id for _, some in parted for task_id in some), *declared.tasks()]))
    try:
        named = [runs for text, _ in parted for runs in parse_runs(text)]
        wanted = expand([*named, *(range(run_id, run_id + 1) for run_id in declared())])
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None
    if not wanted and not tasks:
        raise ConfigError(f"no runs in {runs_file or 'standard input'}; it should have one run or range per line")
    return wanted, tasks


def _parted(text: str) -> tuple[str, list[TaskId]]:
    """A list without the tasks in it, and these."""
    parts = {part: parse_task_id(part.strip().lower()) for part in text.split(",")}
    runs = ",".join(part for part in text.split(",") if parts[part] is None)
    return runs, [task_id for task_id in parts.values() if task_id is not None]


def _texts(item: str) -> Iterator[str]:
    if item != "-":
        yield item
        return
    for line in sys.stdin:
        yield from line.partition("#")[0].replace(",", " ").split()


def _make(output: Path | None) -> None:
    try:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror}; name another directory") from None


def _fetch(
    settings: Settings, wanted: tuple[RunId, ...], tasks: tuple[TaskId, ...], output: Path | None, verbose: bool
) -> tuple[bool, tuple[RunId, ...]]:
    """Whether all are there now, and the runs, with those of the tasks."""
    from cambfs.bulk_fetch import Fetch
    from cambfs.wiring import open_library

    report = _Report(verbose)
    try:
        with ExitStack() as stack:
            if sys.stderr.isatty():
                report.bar = stack.enter_context(_bar(len(wanted) + len(tasks)))
            open_log(settings)  # once the bar has begun, because it prints log lines above itself
            library = stack.enter_context(open_library(settings, tuple))
            made: list[RunId] = []
            if wanted:
                Fetch(library, output, report).run(wanted, min(settings.max_transfers, len(wanted)))
            if tasks and (made := _wait_for(settings, tasks, report)):
                Fetch(library, output, report).run(made, min(settings.max_transfers, len(made)))
    except KeyboardInterrupt:
        click.echo(f"cambfs: interrupted; {report.summary()}; the same command goes on from here", err=True)
        sys.exit(128 + signal.SIGINT)  # click would add an empty line
    click.echo(f"cambfs: {report.summary()}", err=True)
    return not report.unknown + report.failures, (*wanted, *made)


def _wait_for(settings: Settings, tasks: tuple[TaskId, ...], report: _Report) -> list[RunId]:
    from cambfs.bulk_wait import Wait
    from cambfs.wiring import open_tasks

    with open_tasks(settings, settings.task_wait) as found:
        return Wait(found, settings.task_wait, report).run(tasks)


def open_log(settings: Settings) -> None:
    from cambfs.system import logs

    if settings.log_file is None:
        logs.to_stderr(settings.log_level)
    else:
        logs.to_file(settings.log_file, settings.log_level)


def _have_stayed(settings: Settings, wanted: tuple[RunId, ...]) -> bool:
    """Whether all are in the cache now; says so when it was too small."""
    from cambfs.account import account_directory
    from cambfs.disk.disk import Disk

    here = {stored.run_id for stored in Disk(account_directory(settings)).scan()}
    if lost := len(set(wanted) - here):
        size = shown_size(settings.cache_size)
        click.echo(
            f"cambfs: {lost} of {len(wanted)} results did not fit into the cache of {size}; raise --cache-size",
            err=True,
        )
    return not lost


def _bar(count: int) -> Progress:
    """The bar of runs, with the downloaded bytes and the speed beside it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = "{task.completed}/{task.total} runs", "{task.fields[bytes]}"
    bar = Progress(TextColumn(columns[0]), BarColumn(), TextColumn(columns[1]), console=Console(stderr=True))
    bar.add_task("", total=count, bytes=shown_size(0))
    return bar


def say(bar: Progress | None, line: str) -> None:
    """Prints a line on standard error, above the bar if there is one."""
    if bar is None:
        click.echo(line, err=True)
    else:
        bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Report:
    """Counts the outcome of each run. Shows a bar on a terminal; otherwise prints a line per result on standard output,
    for a program that reads it."""

    def __init__(self, verbose: bool) -> None:
        self.bar: Progress | None = None
        self.unknown = self.failures = 0
        self._verbose = verbose
        self._lock = Lock()
        self._fetched = self._there = self._bytes = 0

    def advanced(self, count: int) -> None:
        with self._lock:
            self._bytes += count
            self._show()

    def done(self, run_id: RunId, size: int, *, was_there: bool) -> None:
        with self._lock:
            self._there += was_there
            self._fetched += not was_there
            if self.bar is None:
                click.echo(f"{run_id}.flac: {size} bytes")
            self._show()

    def failed(self, run_id: RunId, error: CambfsError) -> None:
        self._note_failure(_line(run_id, error), isinstance(error, UnknownRun))

    def task_succeeded(self, task_id: TaskId, run_id: RunId) -> None:
        pass  # its run is fetched, and counted then

    def task_failed(self, _task_id: TaskId, error: CambfsError) -> None:
        self._note_failure(f"cambfs: {visible(str(error))}", isinstance(error, UnknownTask))

    def _note_failure(self, line: str, is_unknown: bool) -> None:
        with self._lock:
            self.unknown += is_unknown
            self.failures += not is_unknown
            if self._verbose or (not is_unknown and self.failures <= _SHOWN_FAILURES):
                say(self.bar, line)
            self._show()

    def _show(self) -> None:
        if self.bar is None:
            return
        task = self.bar.tasks[0]
        speed = self._bytes / max(task.elapsed or 0.0, 0.1)
        done = self._fetched + self._there + self.unknown + self.failures
        self.bar.update(task.id, completed=done, bytes=f"{shown_size(self._bytes)}, {shown_size(round(speed))}/s")

    def summary(self) -> str:
        parts = [f"{self._fetched} fetched"]
        parts += [f"{self._there} already there"] if self._there else []
        parts += [f"{self.unknown} unknown"] if self.unknown else []
        parts += [f"{self.failures} failed"] if self.failures else []
        hidden = self.unknown + max(0, self.failures - _SHOWN_FAILURES)
        return ", ".join(parts) + ("; -v shows why" if hidden and not self._verbose else "")


def _line(run_id: RunId, error: CambfsError) -> str:
    text = visible(str(error))
    return f"cambfs: {text}" if text.startswith(f"run {run_id}") else f"cambfs: run {run_id}: {text}"
