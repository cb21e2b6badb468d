"""Completion in the shell, and the manual page: both are made from the commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cambfs.cli.app import cambfs

_ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent
_BASH = """
eval "$(cambfs completion bash)"
COMP_WORDS=(cambfs {words}) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_cambfs_completion cambfs
echo "${{COMPREPLY[@]}}"
"""


def _run(*command: str) -> str:
    environ = os.environ | {"PATH": f"{_BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("unm", "unmount"),
        ("mount --cache-s", "--cache-size"),
        ("mount --log-level de", "debug"),
        ("cache ver", "verify"),
        ("completion f", "fish"),
    ],
)
def test_bash_completes(words: str, completed: str) -> None:
    assert _run("bash", "-c", _BASH.format(words=words)).split() == [completed]


@pytest.mark.parametrize("kind", ["dir", "file"])
def test_paths_are_left_to_the_shell(kind: str) -> None:
    words = {"dir": "cambfs mount ca", "file": "cambfs mount --runs-file ca"}[kind]
    variables = [f"COMP_WORDS={words}", f"COMP_CWORD={words.count(' ')}", "_CAMBFS_COMPLETE=bash_complete"]
    assert _run("env", *variables, "cambfs") == f"{kind},ca\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_asks_cambfs(shell: str) -> None:
    assert f"_CAMBFS_COMPLETE={shell}_complete" in _run("cambfs", "completion", shell)


def _words(group: click.Group) -> set[str]:
    """The names of all commands and options."""
    found = set(group.commands)
    for command in group.commands.values():
        found |= {option for param in command.params if isinstance(param, click.Option) for option in param.opts}
        found |= _words(command) if isinstance(command, click.Group) else set()
    return found


def test_the_manual_page_names_every_command_and_option(tmp_path: Path) -> None:
    page = tmp_path / "cambfs.1"
    page.write_text(_run(sys.executable, str(_ROOT / "scripts" / "man")))
    shown = _run("env", "MANWIDTH=100", "MAN_KEEP_FORMATTING=", "man", "--warnings=w", "--nh", "--nj", "-l", str(page))
    missing = {word for word in _words(cambfs) if word not in shown}
    assert not missing


def test_the_manual_page_shows_no_setting_of_the_user() -> None:
    plain = _run(sys.executable, str(_ROOT / "scripts" / "man"))
    assert _run("env", "CAMBFS_CACHE_DIR=/mine", sys.executable, str(_ROOT / "scripts" / "man")) == plain
