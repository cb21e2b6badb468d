"""`cambfs status`: shows this user's mounts, for people and for programs. Reads `/.cambfs/status.json`.

No threads.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cambfs.errors import ConfigError
from cambfs.mounts import mount_table
from cambfs.mounts.mount_table import Mounted
from cambfs.settings.options import DIRECTORY
from cambfs.text import visible

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LIMIT_S = 5.0
_EVERY_S = 1.0


@click.command()
@click.argument("directory", metavar="[DIR]", type=DIRECTORY, required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object for DIR, else a list of all mounts.")
def status(directory: Path | None, watch: bool, as_json: bool) -> None:
    """Show what the mount at DIR does, or all mounts of this user.

    Shows the cache, the downloads, the requests, unreachable servers and the last errors. Makes no request itself. The
    exit code is 1 if there is no mount to show.
    """
    if as_json and watch:
        raise click.UsageError("--watch and --json exclude each other")
    if as_json:
        found = _read_all(directory)
        click.echo(json.dumps(found if directory is None else found[0], indent=2))
    elif watch:
        _watch(directory)
    else:
        _print(_console(), _shown(directory))


def _watch(directory: Path | None) -> None:
    console = _console()
    if not console.is_terminal:
        while True:
            _print(console, _shown(directory))
            time.sleep(_EVERY_S)
    from rich.live import Live

    with Live(_shown(directory), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY_S)
            live.update(_shown(directory), refresh=True)


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width, and its readers want whole lines.
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=1000)


def _print(console: Console, shown: RenderableType) -> None:
    if console.is_terminal:
        console.print(shown)
        return
    with console.capture() as capture:
        console.print(shown)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _shown(directory: Path | None) -> RenderableType:
    from cambfs.status.view import view

    return view(_read_all(directory))


def _read_all(directory: Path | None) -> Sequence[dict[str, Any]]:
    """Of at least one mount. Raises ConfigError when there is none. A mount that does not respond is a warning."""
    found, troubles = [], []
    for one in _mounts(directory):
        try:
            found.append(_read(one))
        except ConfigError as error:
            troubles.append(str(error))
    if not found:
        raise ConfigError("; ".join(troubles))
    for trouble in troubles:
        click.echo(f"cambfs: warning: {visible(trouble)}", err=True)
    return found


def _mounts(directory: Path | None) -> Sequence[Mounted]:
    if directory is None:
        if not (found := mount_table.own_mounts()):
            raise ConfigError("you have no mount; to make one: cambfs mount DIR")
        return found
    mounted = mount_table.mounted_at(directory)
    if mounted is None or mounted.fstype != mount_table.FSTYPE:
        raise ConfigError(f"{directory}: no cambfs mount is there; to make one: cambfs mount {directory}")
    return [mounted]


def _read(mounted: Mounted) -> dict[str, Any]:
    """Raises ConfigError."""
    directory = mounted.directory
    try:
        found = json.loads(mount_table.read_inside(mounted, "status.json", _LIMIT_S))
    except TimeoutError as error:
        raise ConfigError(f"{directory}: {error.strerror}; to end it: cambfs unmount {directory}") from None
    except OSError as error:
        raise ConfigError(f"{directory}: {_reason(error, directory)}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{directory}: its status is not readable by this version of cambfs")
    return found


def _reason(error: OSError, directory: Path) -> str:
    if error.strerror == os.strerror(errno.ENOTCONN):
        return f"the process of the mount has died; to remove what is left: cambfs unmount {directory}"
    return error.strerror or "its status is empty"
