"""Runs the examples and recipes of docs/names.md on a mount of the demo's results, with the page's own runs file."""

from __future__ import annotations

import re
from pathlib import Path

from cambfs.demo import samples
from tests.api.server import Server
from tests.kernel.harness import KEY, Mount
from tests.kernel.pages import DOCS, examples, wrong_examples


def test_the_recipes_do_what_the_page_says(tmp_path: Path) -> None:
    page = (DOCS / "names.md").read_text()
    file = re.search(r"^```text\n(# book\.txt\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert file is not None
    (tmp_path / "book.txt").write_text(file[1])
    with (
        Server(samples(), key=KEY) as server,
        Mount(server, tmp_path, "--runs-file", str(tmp_path / "book.txt"), name="camb") as camb,
    ):
        wrong = wrong_examples(page, camb)
    assert not wrong, "\n".join(wrong)
    assert len(examples(page)) > 12
