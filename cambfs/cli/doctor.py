"""`cambfs doctor`: prints one line per check, with the problem and its remedy. The checks are in `cambfs.doctor`."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cambfs import __version__
from cambfs.names import RunId, parse_run_id
from cambfs.settings.config import Settings, unknown_variables
from cambfs.settings.options import DIRECTORY, FOR_DOCTOR, known_variables, with_settings
from cambfs.settings.setting import TolerantCommand, mistakes_in_settings
from cambfs.system import limits, private_files
from cambfs.text import quoted

if TYPE_CHECKING:
    from cambfs.doctor.report import Censor, Check, Finding
    from cambfs.doctor.setup import Setup

# For all checks but --run, as the help says.
_TOTAL_S = 25.0
_COLOURS = {"ok": "green", "warning": "yellow", "broken": "red"}


@click.command(cls=TolerantCommand)
@click.argument("directory", metavar="[DIR]", type=DIRECTORY, required=False)
@click.option("--run", "run", metavar="ID", help="Also download this run once, and show how the API responds for it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, at the end.")
@with_settings(FOR_DOCTOR)
def doctor(settings: Settings, directory: Path | None, run: str | None, as_json: bool) -> int:
    """Find out why cambfs does not work.

    Checks this machine, the settings, the network, the cache and the mounts. Prints one line per check: ok, warning or
    broken, what was found, and what mends it. With DIR, also checks the mount there. The exit code is 1 when something
    is broken. All checks together take at most 25 seconds, --run excepted.

    The output has no secrets: no key, no signed URL, no password of a proxy. Send it along with a bug report.
    """
    limits.forbid_core_dumps()
    logging.getLogger("cambfs").addHandler(logging.NullHandler())  # the findings say it all
    run_id = _run_id(run)
    found = []
    for finding in _findings(setup_of(click.get_current_context(), settings), directory, run_id):
        found.append(finding)
        if not as_json:
            _show(finding, is_first=len(found) == 1 or found[-2].group != finding.group)
    counts = Counter(str(finding.state) for finding in found)
    summary = {state: counts[state] for state in _COLOURS}
    if as_json:
        click.echo(json.dumps({"version": __version__, **summary, "checks": list(map(_as_json, found))}, indent=2))
    else:
        click.echo("\n" + ", ".join(f"{count} {state}" for state, count in summary.items()))
    return 1 if summary["broken"] else 0


def setup_of(ctx: click.Context, settings: Settings) -> Setup:
    """The settings in force, as far as they can be read. If one is wrong none are used: the key could go to a wrong
    URL."""
    from cambfs.doctor.setup import Setup

    found = {mistake.setting: mistake.error for mistake in mistakes_in_settings(ctx) or ()}
    key_trouble, password_trouble = found.pop("key", None), found.pop("shared_cache_password", None)
    troubles, unknown = tuple(found.values()), unknown_variables(known_variables())
    return Setup(None if troubles else settings, troubles, key_trouble, unknown, password_trouble)


def _run_id(text: str | None) -> RunId | None:
    run_id = None if text is None else parse_run_id(text)
    if text is not None and run_id is None:
        raise click.UsageError(f"{quoted(text)} is not a run id, such as 12345", click.get_current_context())
    return run_id


def _findings(setup: Setup, directory: Path | None, run_id: RunId | None) -> Iterator[Finding]:
    from cambfs.doctor import trial
    from cambfs.doctor.report import examine

    censor = _censor(setup)
    yield from examine(_checks(setup, directory), censor, _TOTAL_S)
    if run_id is not None:
        yield from examine(trial.checks(setup, run_id), censor, trial.LIMIT_S)


def _checks(setup: Setup, directory: Path | None) -> Iterator[Check]:
    from cambfs.doctor import machine, network, places, sharing
    from cambfs.doctor.setup import checks

    yield from machine.checks(setup.settings)
    yield from checks(setup)
    yield from places.checks(setup.settings, directory)
    yield from sharing.checks(setup)
    if setup.settings is not None:
        yield from network.checks(setup.settings)  # last, because it may use up the time


def _censor(setup: Setup) -> Censor:
    """Hides a key or a password that is not in use, too."""
    from cambfs.doctor.report import Censor
    from cambfs.redaction.masking import Key

    keys = {os.environ.get(name, "").strip() for name in private_files.SECRET_VARIABLES}
    if setup.settings is not None:
        secrets = setup.settings.key, setup.settings.shared_cache_password
        keys |= {secret.reveal() for secret in secrets if secret is not None}
    home = os.environ.get("HOME")
    return Censor(tuple(Key(key) for key in keys if key), Path(home) if home else None)


def _show(finding: Finding, *, is_first: bool) -> None:
    """click leaves the colours out unless the output is a terminal."""
    if is_first:
        click.secho(finding.group, bold=True)
    state = click.style(f"{finding.state:<8}", fg=_COLOURS[finding.state])
    remedy = f" → {finding.remedy}" if finding.remedy else ""
    click.echo(f"  {state} {finding.check:<17} {finding.found}{remedy}")


def _as_json(finding: Finding) -> dict[str, str]:
    """As `asdict`, in the order of a line."""
    return {
        "group": finding.group,
        "check": finding.check,
        "state": str(finding.state),
        "found": finding.found,
        "remedy": finding.remedy,
    }
