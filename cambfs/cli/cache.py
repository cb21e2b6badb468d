"""`cambfs cache`: what is on the disk, for all accounts of this user; without a mount, the network or a key."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cambfs.cli.options import FOR_CACHE, with_settings
from cambfs.config import Settings
from cambfs.errors import CacheDamaged, ConfigError
from cambfs.text import shown_size

if TYPE_CHECKING:
    from cambfs.cache.disk import Disk, Stored


@click.group()
def cache() -> None:
    """List, check or clear the cache. Needs no mount, no network and no key."""


@cache.command("list")
@with_settings(FOR_CACHE)
def list_(settings: Settings) -> None:
    """List the cached results: run, size and time of last use."""
    found = sorted((stored for _, stored in _results(settings)), key=lambda stored: stored.run_id)
    if found:
        click.echo(f"{'RUN':<19}  {'SIZE':>10}  LAST USED")
    for stored in found:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(stored.used_ns / 1e9))
        click.echo(f"{stored.run_id:<19}  {shown_size(stored.size):>10}  {used}")
    click.echo(f"{_summary(found)} in {settings.cache_dir}")


@cache.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_settings(FOR_CACHE)
def clear(settings: Settings, yes: bool) -> None:
    """Remove all cached results. Files that are open stay readable."""
    found = list(_results(settings))
    summary = _summary([stored for _, stored in found])
    if found and not yes and not _confirmed(f"Remove {summary} in {settings.cache_dir}?"):
        sys.exit(1)
    for disk, stored in found:
        disk.remove(stored.run_id)
    click.echo(f"removed {summary}")


@cache.command()
@with_settings(FOR_CACHE)
def verify(settings: Settings) -> None:
    """Check that every cached result matches its checksum and is complete audio.

    Damaged results are removed, so that they are downloaded again. The exit code is then 1.
    """
    found = list(_results(settings))
    right = [stored for disk, stored in found if _is_right(disk, stored)]
    damaged = len(found) - len(right)
    verdict = f"{len(right)} right" + (f", {damaged} damaged and removed" if damaged else "")
    click.echo(f"{verdict}; {_summary(right)} in {settings.cache_dir}")
    if damaged:
        sys.exit(1)


def _results(settings: Settings) -> Iterator[tuple[Disk, Stored]]:
    from cambfs.cache.disk import Disk
    from cambfs.wiring import account_directories

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
            click.echo(err=True)  # the question has no end of line
            raise
        raise ConfigError("not confirmed, so nothing was removed; --yes skips the question") from None


def _summary(found: list[Stored]) -> str:
    return f"{len(found)} result{'' if len(found) == 1 else 's'}, {shown_size(sum(stored.size for stored in found))}"
