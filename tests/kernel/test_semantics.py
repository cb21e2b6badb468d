"""Runs the examples of docs/semantics.md on a mount of the demo's results, and compares the output."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import fuse

from cambfs.demo import samples
from cambfs.fuse import errnos, operations
from tests.api.server import Server
from tests.kernel.harness import KEY, Mount, run

_PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXAMPLE = re.compile(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def _examples() -> Iterator[tuple[str, str]]:
    """Each command with its output."""
    for block in _BLOCK.findall(_PAGE.read_text()):
        yield from _EXAMPLE.findall(block)


def test_the_examples_show_what_the_page_says(tmp_path: Path) -> None:
    examples = list(_examples())
    wrong = []
    with (
        Server(samples(), key=KEY) as server,
        Mount(server, tmp_path, "--runs", ",".join(map(str, samples())), name="camb") as camb,
    ):
        for command, shown in examples:
            done = run(f"exec 2>&1; {command}", cwd=camb.home, on_hang=camb.kill)
            pattern = re.escape(shown).replace("…", ".*")
            if not re.fullmatch(pattern, done.out.decode()):
                wrong.append(f"$ {command}\n{done.out.decode()}where the page says\n{shown}")
    assert not wrong, "\n".join(wrong)
    assert len(examples) > 30


def test_every_operation_and_errno_has_its_place() -> None:
    """So that no new operation lacks a description."""
    text = _PAGE.read_text()
    known = {name for name in vars(fuse.Operations) if not name.startswith("_")} - {"init", "destroy"}
    named = known & set(vars(operations.Operations))
    said_as = {"getattr": "stat", "release": "close"}
    numbers = {errno.errorcode[number] for _, number in errnos._ERRNOS} | {"EIO", "ECONNREFUSED"}
    words = {said_as.get(name, name) for name in named} | numbers
    assert len(words) > 15
    assert {word for word in words if not re.search(rf"\b{word}\b", text)} == set()
