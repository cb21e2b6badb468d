"""The picture in the README shows the current output of cambfs, and nothing of the machine where it was made."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def test_the_picture_in_the_readme_is_a_session_of_today() -> None:
    command = [sys.executable, str(_ROOT / "scripts" / "picture"), "--print"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert (done.returncode, done.stderr) == (0, "")
    picture = (_ROOT / "docs" / "session.svg").read_text()
    shown = html.unescape(re.sub(r"<[^>]*>", "", picture)).replace("\xa0", " ")
    missing = [line for line in done.stdout.splitlines() if line.strip() not in shown]
    assert not missing, "docs/session.svg is behind: run scripts/picture"


def test_the_picture_loads_nothing_and_shows_no_path_of_a_machine() -> None:
    picture = (_ROOT / "docs" / "session.svg").read_text()
    assert re.findall(r"https?:[^\"')\s]*", picture) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"/(home|root|tmp|usr|work)/", picture)
