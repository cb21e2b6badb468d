"""`cambfs fetch`: results into the cache, and copies out of it, with a progress bar on a terminal.

The workers of `cambfs.bulk_fetch` call what is here from their threads; `_lock` of each class keeps its lines whole.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NoReturn, Self

import click

from cambfs.cli.cache import shown_size
from cambfs.cli.options import DIRECTORY, FOR_FETCH, with_settings
from cambfs.config import Settings
from cambfs.errors import CambfsError, ConfigError, SettingError
from cambfs.names import RunId
from cambfs.text import visible

if TYPE_CHECKING:
    from tqdm import tqdm


@click.command()
@click.argument("items", metavar="RUN...", nargs=-1, required=True)
@click.option(
    "-o", "--output", type=DIRECTORY, metavar="DIR", help="Also copy each result to DIR/RUN.flac. Creates DIR."
)
@with_settings(FOR_FETCH)
def fetch(settings: Settings, items: tuple[str, ...], output: Path | None) -> None:
    """Download results into the cache, several at a time.

    RUN is a run id or a range: 1-100,205 and 1-100 205 mean the same. The exit code is 1 when a run fails.
    """
    from cambfs.system import logs, private_files
    from cambfs.system.daemon import ending_on_signals

    private_files.forbid_core_dumps()
    wanted = _parse(items)
    if settings.no_disk_cache and output is None:
        raise SettingError("without a disk cache there is nowhere to fetch to; name a directory with -o")
    if settings.log_file is None:
        logs.to_stderr(settings.log_level)
    else:
        logs.to_file(settings.log_file, settings.log_level)
    _make(output)
    with ending_on_signals():
        failed = _fetch(settings, wanted, output)
    if failed or (output is None and not _have_stayed(settings, wanted)):
        sys.exit(1)


def _parse(items: tuple[str, ...]) -> tuple[RunId, ...]:
    from cambfs.run_list import expand, parse_runs

    try:
        return expand(parse_runs(",".join(items)))
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None


def _make(output: Path | None) -> None:
    try:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{output}: {error.strerror}; name another directory") from None


def _fetch(settings: Settings, wanted: tuple[RunId, ...], output: Path | None) -> int:
    """Returns how many runs failed."""
    from cambfs.bulk_fetch import Fetch
    from cambfs.wiring import open_library

    with ExitStack() as stack:
        library = stack.enter_context(open_library(settings, tuple))
        shown = stack.enter_context(_Bar(len(wanted)) if sys.stderr.isatty() else _Lines())
        Fetch(library, output, shown).run(wanted, min(settings.max_transfers, len(wanted)))
    return shown.failures


def _have_stayed(settings: Settings, wanted: tuple[RunId, ...]) -> bool:
    """Whether all are in the cache now; says so when it was too small."""
    from cambfs.cache.disk import Disk
    from cambfs.wiring import account_directory

    here = {stored.run_id for stored in Disk(account_directory(settings)).scan()}
    if lost := len(set(wanted) - here):
        size = shown_size(settings.cache_size)
        click.echo(
            f"cambfs: {lost} of {len(wanted)} results did not fit into the cache of {size}; raise --cache-size",
            err=True,
        )
    return not lost


class _Lines(AbstractContextManager["_Lines"]):
    """One line a run, for a file or a pipe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.failures = 0

    def __exit__(self, *_: object) -> None:
        pass

    def advanced(self, run_id: RunId, count: int, size: int | None) -> None:
        pass

    def done(self, run_id: RunId, size: int) -> None:
        with self._lock:
            click.echo(f"{run_id}.flac: {size} bytes")

    def failed(self, run_id: RunId, error: CambfsError) -> None:
        with self._lock:
            self.failures += 1
            self._say(_line(run_id, error))

    def _say(self, line: str) -> None:
        click.echo(line, err=True)


class _Bar(_Lines):
    """A bar of bytes; the sizes that are not known yet join its length when they are."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._finished = 0
        self._sizes: dict[RunId, int] = {}

    def __enter__(self) -> Self:
        from tqdm import tqdm

        self._bar: tqdm[NoReturn] = tqdm(total=0, unit="B", unit_scale=True, unit_divisor=1024, file=sys.stderr)
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def advanced(self, run_id: RunId, count: int, size: int | None) -> None:
        with self._lock:
            if size is not None and run_id not in self._sizes:
                self._sizes[run_id] = size
                self._bar.total = sum(self._sizes.values())
            self._bar.update(count)

    def done(self, run_id: RunId, size: int) -> None:  # noqa: ARG002
        with self._lock:
            self._finished += 1
            self._show()

    def _show(self) -> None:
        self._bar.set_description(f"{self._finished}/{self._count} runs")

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stderr)


def _line(run_id: RunId, error: CambfsError) -> str:
    text = visible(str(error))
    return f"cambfs: {text}" if text.startswith(f"run {run_id}") else f"cambfs: run {run_id}: {text}"
