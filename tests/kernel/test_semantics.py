"""Runs the examples of docs/semantics.md on a mount of the demo's results, and compares the output."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import fuse

from cambfs.demo import TASK_ID, samples
from cambfs.demo.store import Task
from cambfs.fuse import errnos, operations
from tests.api.server import Server
from tests.kernel.harness import KEY, Mount
from tests.kernel.pages import DOCS, examples, wrong_examples

_PAGE = DOCS / "semantics.md"


def test_the_examples_show_what_the_page_says(tmp_path: Path) -> None:
    page = _PAGE.read_text()
    with (
        Server(samples(), key=KEY) as server,
        Mount(server, tmp_path, "--runs", ",".join(map(str, samples())), name="camb") as camb,
    ):
        server.tasks[TASK_ID] = Task("tts", 106, samples()[101], takes_s=0)
        wrong = wrong_examples(page, camb)
    assert not wrong, "\n".join(wrong)
    assert len(examples(page)) > 30


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
