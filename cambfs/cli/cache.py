"""`cambfs cache`: the results on disk, for all accounts of this user. Works without a mount. No threads."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cambfs.errors import CacheDamaged, ConfigError
from cambfs.settings.config import Settings
from cambfs.settings.options import FOR_CACHE, FOR_FETCH, with_settings
from cambfs.text import shown_size

if TYPE_CHECKING:
    from cambfs.disk.disk import Disk, Stored
    from cambfs.names import RunId


@click.group()
def cache() -> None:
    """List, check, clear or refresh the cache. Needs no mount; only refresh needs the network and a key."""


@cache.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, with exact sizes in bytes and times in UTC.")
@with_settings(FOR_CACHE)
def list_(settings: Settings, as_json: bool) -> None:
    """List the cached results: run, size, time of last use and account.

    The account is a digest of API key and base URL: results that were downloaded with the same key have the same one.
    """
    found = sorted(_results(settings), key=lambda result: (result[1].run_id, result[0].directory))
    if as_json:
        click.echo(json.dumps([_as_json(disk, stored) for disk, stored in found], indent=2))
        return
    if found:
        click.echo(f"{'RUN':<19}  {'SIZE':>10}  {'LAST USED':<16}  ACCOUNT")
    for disk, stored in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.used_ns / 1e9))
        click.echo(f"{stored.run_id:<19}  {shown_size(stored.size):>10}  {used:<16}  {_account(disk)}")
    click.echo(f"{_summary([stored for _, stored in found])} in {settings.cache_dir}")


def _account(disk: Disk) -> str:
    return disk.directory.name[:8]


def _as_json(disk: Disk, stored: Stored) -> dict[str, Any]:
    used = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(stored.used_ns / 1e9))
    return {"run": stored.run_id, "size": stored.size, "last_used": used, "account": _account(disk)}


@cache.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_settings(FOR_CACHE)
def clear(settings: Settings, runs: tuple[str, ...], yes: bool) -> None:
    """Remove the results of the runs, or all results, from the cache.

    RUN is a run id or a range, and means the results of all accounts. Without RUN, it asks before it removes. A file
    that is open in a mount stays readable; the mount downloads the run again at the next open.
    """
    wanted = parsed_runs(runs) if runs else None
    found = [(disk, stored) for disk, stored in _results(settings) if wanted is None or stored.run_id in wanted]
    summary = _summary([stored for _, stored in found])
    if found and not (yes or runs) and not _confirmed(f"Remove {summary} in {settings.cache_dir}?"):
        sys.exit(1)
    for disk, stored in found:
        disk.remove(stored.run_id)
    absent = len(wanted - {stored.run_id for _, stored in found}) if wanted else 0
    click.echo(f"removed {summary}" + (f"; {absent} not in the cache" if absent else ""))


@cache.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@with_settings(FOR_FETCH)
def refresh(settings: Settings, runs: tuple[str, ...]) -> None:
    """Download runs again, in place of their results in the cache.

    If the API cannot be reached or refuses the key, nothing is removed. Mounts read the new results from the next open
    on. The results are also removed from a shared cache.
    """
    from cambfs.cli.fetch import fetch_into_cache

    wanted = parsed_runs(runs)
    fetch_into_cache(settings, tuple(sorted(wanted)), anew=True)


def parsed_runs(items: tuple[str, ...]) -> set[RunId]:
    """The runs that the arguments name. Raises UsageError."""
    from cambfs.run_list import expand, parse_runs

    try:
        return set(expand([runs for item in items for runs in parse_runs(item)]))
    except ValueError as error:
        raise click.UsageError(str(error), click.get_current_context()) from None


@cache.command()
@with_settings(FOR_CACHE)
def verify(settings: Settings) -> None:
    """Check that every cached result is intact.

    It must match its checksum and be complete audio. Damaged results are removed, so that they are downloaded again.
    The exit code is then 1.
    """
    found = list(_results(settings))
    right = [stored for disk, stored in found if _is_right(disk, stored)]
    damaged = len(found) - len(right)
    verdict = f"{len(right)} right" + (f", {damaged} damaged and removed" if damaged else "")
    click.echo(f"{verdict}; {_summary(right)} in {settings.cache_dir}")
    if damaged:
        sys.exit(1)


def _results(settings: Settings) -> Iterator[tuple[Disk, Stored]]:
    from cambfs.account import account_directories
    from cambfs.disk.disk import Disk

    for directory in account_directories(settings.cache_dir):
        disk = Disk(directory)
        for stored in disk.scan():
            yield disk, stored


def _is_right(disk: Disk, stored: Stored) -> bool:
    try:
        disk.verify(stored.run_id)
    except CacheDamaged as error:
        disk.remove(stored.run_id)
        click.echo(f"{error}; removed")
        return False
    return True


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question)
    except click.Abort:
        if sys.stdin.isatty():
            click.echo(err=True)  # the prompt has no end of line
            raise
        raise ConfigError("nothing was removed: there is no terminal to ask on; --yes skips the question") from None


def _summary(found: list[Stored]) -> str:
    return f"{len(found)} result{'' if len(found) == 1 else 's'}, {shown_size(sum(stored.size for stored in found))}"
