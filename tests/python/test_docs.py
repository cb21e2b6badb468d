"""The examples of `docs/python.md`, run in a program of their own against the embedded API."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cambfs
from cambfs.demo import samples
from tests.api.server import Server
from tests.kernel.harness import detach, environment, mounts_below

_PAGE = Path(cambfs.__file__).parent.parent / "docs" / "python.md"
_KEY = "demo-key"


def test_the_examples(tmp_path: Path) -> None:
    blocks = re.findall(r"^```pycon\n(.*?)^```$", _PAGE.read_text(), re.DOTALL | re.MULTILINE)
    page = tmp_path / "page.txt"
    page.write_text("\n".join(blocks))
    with Server({1477: samples()[101]}, key=_KEY) as server:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "error", "-m", "doctest", str(page)],
                env=environment(server, tmp_path / "home", CAMB_API_KEY=_KEY, TMPDIR=str(tmp_path)),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=100,
            )
        finally:
            for left in mounts_below(tmp_path):
                detach(left)
    assert len(blocks) > 5
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
