"""The examples of a page of the documentation: commands and their output, run at a mount called `camb`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kernel.harness import CAMBFS, Mount, environment, run

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^\$ (.+\n(?:> .+\n)*)((?:(?!\$ ).*\n)*)", re.MULTILINE)


def examples(page: str) -> list[tuple[str, str]]:
    """Each command, which may go on in lines that begin with `> `, and its output."""
    found = [example for block in _BLOCK.findall(page) for example in _EXAMPLE.findall(block)]
    return [(command.replace("\n> ", "\n").rstrip("\n"), shown) for command, shown in found]


def wrong_examples(page: str, camb: Mount) -> list[str]:
    """Runs all examples in the directory of the mount; returns what did not come out as the page shows it."""
    wrong = []
    env = environment(camb.server, camb.home)
    env["PATH"] = f"{Path(CAMBFS).parent}:{env['PATH']}"
    for command, shown in examples(page):
        # People try the examples of a page in one shell. So none may end in another directory.
        still_here = 'test "$PWD" -ef "$HOME" || echo "the example ends in $PWD"'
        done = run(f"exec 2>&1; {command}\n{still_here}", cwd=camb.home, env=env, on_hang=camb.kill)
        pattern = re.escape(shown).replace("…", ".*")
        if not re.fullmatch(pattern, done.out.decode()):
            wrong.append(f"$ {command}\n{done.out.decode()}where the page says\n{shown}")
    return wrong
