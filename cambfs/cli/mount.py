"""`cambfs mount` and `cambfs unmount`. The mount runs in a child unless it stays in the foreground."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cambfs.errors import CambfsError
from cambfs.mounts import libfuse, mount_table, mountpoint
from cambfs.settings.config import Settings
from cambfs.settings.mount_options import settle_options
from cambfs.settings.options import DIRECTORY, FOR_MOUNT, RereadableCommand, rereading, with_settings
from cambfs.text import visible

if TYPE_CHECKING:
    from cambfs.run_list import DeclaredRuns
    from cambfs.system import daemon

_log = logging.getLogger(__name__)

# As many names that may surprise as a terminal has room for; `cambfs names check` shows all.
_SHOWN_WARNINGS = 5

_HINTS = """\
mounted at {directory}. Every run opens by its id. For example:
    cp {directory}/RUN.flac .
    mpv {directory}/RUN.flac
    cat {directory}/RUN.url
Ctrl-C unmounts."""


@click.command(cls=RereadableCommand)
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option(
    "-f", "--foreground", is_flag=True, help="Stay in the foreground, log to standard error, unmount on Ctrl-C."
)
@click.option("--mkdir", is_flag=True, help="Create DIR if it is missing. In the foreground, remove it at the end.")
@click.option("-v", "--verbose", is_flag=True, help="Print where the log is.")
@with_settings(FOR_MOUNT)
def mount(settings: Settings, directory: Path, foreground: bool, mkdir: bool, verbose: bool) -> None:
    """Mount the results at DIR, an empty directory.

    Returns when the files are available. If mounting fails, one line says why.
    """
    from cambfs import account
    from cambfs.system.daemon import has_terminal
    from cambfs.system.signals import ending_on_signals

    settings, reread = settle_options(settings), rereading(click.get_current_context())
    account.open_client(settings).close()
    with ExitStack() as stack:
        stack.enter_context(ending_on_signals())
        if mkdir:
            stack.enter_context(mountpoint.made(directory, keep=not foreground))
        stack.enter_context(claimed(directory))
        declared = check(settings, directory)
        for line in declared.warnings()[:_SHOWN_WARNINGS]:
            _warn(line)
        next_step = _next_step(settings, directory, declared)
        if foreground:
            words = "\n".join(filter(None, (_HINTS.format(directory=directory), next_step)))
            stay(settings, directory, declared, words, None if has_terminal() else reread)
        else:
            log_file = _go(settings, directory, declared, reread)
            lines = [f"mounted at {directory}; the log is {log_file}" if verbose else "", next_step]
            _say("".join(f"{line}\n" for line in lines if line))


def _next_step(settings: Settings, directory: Path, declared: DeclaredRuns) -> str:
    """Advice for a mount that lists nothing; empty when it lists something, or is not on a terminal."""
    from cambfs.account import has_cached_results

    if not sys.stdout.isatty() or declared() or has_cached_results(settings):
        return ""
    return f"No runs are listed yet; open one by its number: {directory}/NUMBER.flac. --runs lists runs."


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Keeps other mounts away from `directory`, and removes a dead mount there. Raises ConfigError when it cannot
    become a mount point."""
    if mountpoint.is_dead(directory):
        _leave_no_dead_mount(directory)
        if mount_table.mounted_at(directory) is None:
            _warn(f"{directory}: removed the dead mount that a crash left there")
    with mountpoint.claimed(directory):
        yield


def check(settings: Settings, directory: Path) -> DeclaredRuns:
    """Checks everything else that can be checked before mounting. Raises ConfigError."""
    from cambfs.account import prepare_cache
    from cambfs.run_list import DeclaredRuns

    libfuse.check(settings.fuse)
    if settings.allow_other or "allow_root" in settings.options:
        mountpoint.check_allow_other()
    if not settings.no_disk_cache:
        mountpoint.check_outside(directory, settings.cache_dir, "--cache-dir")
    if settings.log_file is not None:
        mountpoint.check_outside(directory, settings.log_file, "--log-file")
    prepare_cache(settings)
    return DeclaredRuns(settings.runs, settings.runs_file)


def stay(
    settings: Settings,
    directory: Path,
    declared: DeclaredRuns,
    words: str,
    reread: Callable[[], Settings] | None = None,
) -> None:
    """Mounts in the foreground until a signal or an unmount ends it; prints `words` when the files are there. Exits
    with 130 after Ctrl-C, as a shell expects. SIGHUP reads the settings again with `reread`; without it, SIGHUP
    unmounts."""
    from cambfs import account, wiring
    from cambfs.system import daemon, logs

    if settings.no_url_files:
        words = "\n".join(line for line in words.splitlines() if ".url" not in line)

    def on_ready() -> None:
        daemon.notify_service_manager("READY=1")
        _say(f"{words}\n")

    if settings.log_file is None:
        logs.to_stderr(settings.log_level)
    else:
        logs.to_file(settings.log_file, settings.log_level)
    if (warning := account.check_key(settings)) is not None:
        _warn(warning)
    warn = (lambda _: None) if settings.log_file is None else _warn  # without a file, the log is shown already
    if wiring.serve(settings, directory, declared, on_ready, reread, warn) == signal.SIGINT:
        sys.exit(128 + signal.SIGINT)


def _go(settings: Settings, directory: Path, declared: DeclaredRuns, reread: Callable[[], Settings]) -> Path:
    """Mounts in the background; returns when the tree responds. Prints where its log is."""
    from cambfs.system import daemon, logs

    without_home = None if settings.no_disk_cache else settings.cache_dir
    log_file = settings.log_file or logs.default_file(directory, without_home)
    mountpoint.check_outside(directory, log_file, "--log-file")
    work = partial(_work, settings, directory, declared, log_file, reread)
    try:
        daemon.start(work, lambda: _is_mounted(directory), _warn, log_file)
    except BaseException:
        _leave_no_dead_mount(directory)
        raise
    return log_file


def _work(
    settings: Settings,
    directory: Path,
    declared: DeclaredRuns,
    log_file: Path,
    reread: Callable[[], Settings],
    report: daemon.Report,
) -> None:
    from cambfs import account, wiring
    from cambfs.system import logs

    logs.for_background(log_file, settings.log_level)
    if (warning := account.check_key(settings)) is not None:
        _log.warning("%s", warning)
        report.warn(warning)

    def on_ready() -> None:
        _log.info("mounted at %s by process %d", directory, os.getpid())
        report.ready()

    wiring.serve(settings, directory, declared, on_ready, reread, report.warn)
    _log.info("unmounted from %s", directory)


def _is_mounted(directory: Path) -> bool:
    mounted = mount_table.mounted_at(directory)
    return mounted is not None and mounted.fstype == mount_table.FSTYPE and os.statvfs(directory) is not None


def _leave_no_dead_mount(directory: Path) -> None:
    from cambfs.mounts.unmount import unmount

    if mountpoint.is_dead(directory):
        with suppress(CambfsError):
            unmount(directory, lazy=True)


def _say(text: str) -> None:
    """On standard output. The files are there also when its reader is gone."""
    try:
        click.echo(text, nl=False)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.stdout.fileno())  # what is still in the buffer goes there
        os.close(null)


def _warn(text: str) -> None:
    click.echo(f"cambfs: warning: {visible(text)}", err=True)


@click.command()
@click.argument("directory", metavar="DIR", type=DIRECTORY)
@click.option("-z", "--lazy", is_flag=True, help="Keep open files usable. The mount ends when the last one is closed.")
def unmount(directory: Path, lazy: bool) -> None:
    """Unmount the cambfs mount at DIR.

    Works while files are open: reading them fails from then on. (fusermount -u refuses in that case.) Also removes the
    dead mount that a crash leaves, where every access fails with "Transport endpoint is not connected".
    """
    from cambfs.mounts import unmount as unmounting

    unmounting.unmount(directory, lazy=lazy)
