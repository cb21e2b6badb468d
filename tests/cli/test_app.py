"""Behaviour of all commands: help, wrong calls, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from cambfs.cli import app, run
from tests.cli.shell import LIMIT_S, Shell, complaint


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands(app.cambfs)]
)
def test_every_command_and_every_option_is_explained(
    path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help
            assert option.hidden or option.opts[0] in shown


def test_help_imports_nothing_that_takes_long() -> None:
    program = (
        "import sys; from cambfs.cli import run; run(['mount', '--help'])\n"
        "print({'requests', 'urllib3', 'fuse', 'rich', 'asyncio', 'uvicorn', 'cachetools'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.endswith("\nset()\n")


def test_the_version_is_told(shell: Shell) -> None:
    assert re.fullmatch(r"cambfs \d+\.\d+\.\d+\n", shell("--version").stdout)
    assert shell("-V").stdout == shell("--version").stdout


def test_h_shows_the_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for path, _ in commands(app.cambfs):
        assert run([*path, "-h"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: cambfs {' '.join(path)} ")


def test_an_unexpected_exception_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom\nbang")

    monkeypatch.setattr(app.cambfs, "main", fail)
    assert run([]) == 1
    assert capsys.readouterr().err == "cambfs: unexpected RuntimeError: boom bang; --log-level debug shows where\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mount"], "Missing argument 'DIR'; see: cambfs mount --help"),
        (["mount", "mnt", "--cache-size", "5GB?"], "'5GB?' is not a size"),
        (["mount", "mnt", "--timeout", "soon"], "'soon' is not a time"),
        (["mount", "mnt", "--max-transfers", "0"], "0 is not in the range 1<=x<=1024"),
        (["mount", "mnt", "--url-style", "xml"], "'xml' is not one of 'json', 'plain', 'shortcut'"),
        (["mount", "mnt", "--api-key", "k"], "No such option"),
        (["mount", ""], "'' is not a path"),
        (["fly"], "No such command 'fly'; see: cambfs --help"),
        (["fetch"], "no runs; name them, a file of them (--runs-file), or - for standard input"),
        (["fetch", "--runs-file", "none"], "none: No such file or directory; it should have one run or range per line"),
        (["fetch", "abc"], "'abc' is not a run id or a range like 1-100; see: cambfs fetch --help"),
        (["fetch", "9-3"], "write 3-9"),
        (["demo", "--rate", "0"], "0 is too little"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(shell: Shell, arguments: list[str], words: str) -> None:
    assert words in complaint(shell(*arguments), 2)


def test_an_unknown_variable_is_a_warning(shell: Shell) -> None:
    done = shell("cache", "list", CAMBFS_CACHESIZE="5GiB")
    assert done.returncode == 0
    wanted = "cambfs: warning: CAMBFS_CACHESIZE in the environment is not a setting; did you mean CAMBFS_CACHE_SIZE?\n"
    assert done.stderr == wanted
