"""docs/commands.md shows what the commands say of themselves. No threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_docs_commands_shows_the_help_of_every_command() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "update-help"), "--check"]
    done = subprocess.run(command, timeout=60, check=False)
    assert done.returncode == 0, "docs/commands.md is behind: run scripts/update-help"
