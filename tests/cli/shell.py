"""Runs commands as a user types them, each in a process and a home of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cambfs.mounts import mount_table, unmount
from tests.api.server import Server

LIMIT_S = 30


KEY = "demo-key"


def until(condition: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Shell:
    """Runs cambfs in a directory and a home of its own."""

    def __init__(self, directory: Path, api: Server) -> None:
        self.directory = directory
        self.mountpoint = directory / "mnt"
        self.mountpoint.mkdir()
        (directory / "tmp").mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),
            "CAMB_BASE_URL": api.base_url,
            "CAMB_API_KEY": api.key,
        }
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: object, given: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cambfs", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            cwd=self.directory,
            env=self.environ | environ,
            input=given,
        )

    def start(self, *arguments: object, awaiting: str, **environ: str) -> subprocess.Popen[str]:
        """Starts a command that stays, and waits until it has said `awaiting`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "cambfs", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
        )
        self.processes.append(process)
        assert process.stdout is not None
        said = ""
        while awaiting not in said:
            line = process.stdout.readline()
            assert line, f"ended, having said: {said}"
            said += line
        return process

    @property
    def log(self) -> Path:
        (found,) = (self.directory / "home/.local/state/cambfs").glob("*.log")
        return found

    def daemon(self) -> int:
        """The process of the last mount in the background."""
        return int(re.findall(r"by process (\d+)", self.log.read_text())[-1])

    def clean(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=LIMIT_S)
        while mount_table.mounted_at(self.mountpoint) is not None:
            unmount.unmount(self.mountpoint, lazy=True)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def complaint(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one plain line with which a command failed."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("cambfs: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("cambfs: ").strip()
