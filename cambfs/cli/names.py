"""`cambfs names check`: what is wrong with a runs file, without mounting."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cambfs.errors import ConfigError
from cambfs.settings.setting import PathValue
from cambfs.text import visible

if TYPE_CHECKING:
    from cambfs.run_list.content import Content


@click.group()
def names() -> None:
    """Look at the names in a runs file.

    A line is "1477 Book/01 The harbour": a run id (or a task id), a blank, and a path of folders and a title. A table
    from a spreadsheet (.csv) has the columns run_id and name. A mount shows the names as links under DIR/by-name.
    """


@names.command()
@click.argument("file", metavar="FILE", type=PathValue("FILE"))
def check(file: Path) -> None:
    """Check the lines of FILE.

    Prints errors, which keep FILE from being mounted, and warnings about names that may surprise. The exit code is 1
    when there are errors.
    """
    from cambfs.run_list.declared import read_content, reason

    try:
        content = read_content(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: {reason(error)}") from None
    problems = [(number, f"error: {text}") for number, text in content.errors]
    problems += [(number, f"warning: {text}") for number, text in content.warnings]
    for number, text in sorted(problems):
        click.echo(visible(f"{file}:{number}: {text}"))
    click.echo(_summary(content))
    sys.exit(1 if content.errors else 0)


def _summary(content: Content) -> str:
    counts = {
        "runs": sum(runs.stop - runs.start for runs in content.ranges),
        "tasks": len(content.tasks),
        "names": len(content.root.all_titles),
        "folders": content.root.count_folders(),
        "errors": len(content.errors),
        "warnings": len(content.warnings),
    }
    return ", ".join(f"{count} {what[:-1] if count == 1 else what}" for what, count in counts.items())
