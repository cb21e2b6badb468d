"""The place of the log, and pruning the logs of mounts that are gone."""

from __future__ import annotations

import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cambfs.system import journald, logs
from tests.api.server import Server
from tests.kernel.harness import environment

DAY_S = 86400.0
LOGGER = logging.getLogger("cambfs.test")


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("cambfs", "fuse")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Stands in for journald. Its path is short, as those of sockets must be."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"{directory}/s")
        sock.settimeout(20)
        monkeypatch.setattr(journald, "SOCKET", Path(directory, "s"))
        yield sock


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return logs.default_file(Path("/mnt/camb")).parent


def fields(entry: bytes) -> Mapping[str, str]:
    """Of one entry, as journald reads it when each value comes with its length."""
    found = {}
    while entry:
        name, _, entry = entry.partition(b"\n")
        (length,) = struct.unpack("<Q", entry[:8])
        found[name.decode()] = entry[8 : 8 + length].decode()
        assert entry[8 + length :].startswith(b"\n")
        entry = entry[9 + length :]
    return found


# The journal


def test_in_the_background_an_entry_goes_to_the_file_and_the_journal(journal: socket.socket, tmp_path: Path) -> None:
    logs.for_background(tmp_path / "log", "debug")
    LOGGER.warning("run %d: \n%s", 5, "\x1b[2J")

    assert fields(journal.recv(65536)) == {
        "MESSAGE": "run 5: \\n\\x1b[2J",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "cambfs",
    }
    assert (tmp_path / "log").read_text().endswith(" WARNING run 5: \\n\\x1b[2J\n")


@pytest.mark.parametrize(("level", "priority"), [("debug", "7"), ("info", "6"), ("error", "3"), ("critical", "2")])
def test_levels_are_priorities(journal: socket.socket, tmp_path: Path, level: str, priority: str) -> None:
    logs.for_background(tmp_path / "log", "debug")
    LOGGER.log(logging.getLevelNamesMapping()[level.upper()], "x")

    assert fields(journal.recv(65536))["PRIORITY"] == priority


def test_a_traceback_is_one_entry_and_a_long_text_is_cut(journal: socket.socket, tmp_path: Path) -> None:
    logs.for_background(tmp_path / "log", "info")
    try:
        raise ValueError("x" * 100_000)
    except ValueError:
        LOGGER.exception("failed")

    message = fields(journal.recv(2**20))["MESSAGE"]
    assert message.startswith("failed\n    Traceback")
    assert len(message) == 32 * 1024


def test_a_journal_that_does_not_read_or_is_gone_holds_up_nobody(journal: socket.socket, tmp_path: Path) -> None:
    logs.for_background(tmp_path / "log", "info")
    for number in range(2000):  # more than the socket has room for
        LOGGER.info("line %d", number)
    journal.close()
    LOGGER.info("the last")

    assert len((tmp_path / "log").read_text().splitlines()) == 2001


def test_without_a_journal_there_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SOCKET", tmp_path / "nowhere")
    logs.for_background(tmp_path / "log", "info")
    LOGGER.info("x")

    assert len(logging.getLogger("cambfs").handlers) == 1
    assert (tmp_path / "log").read_text().endswith(" INFO x\n")


_PROGRAM = """
import sys
from pathlib import Path
from cambfs.system import journald
journald.SOCKET = Path(sys.argv[1])
from cambfs.cli import main
main(sys.argv[2:])
"""


def test_a_mount_in_the_background_is_in_the_journal(journal: socket.socket, tmp_path: Path) -> None:
    mnt = tmp_path / "mnt"
    mnt.mkdir()
    with Server({}, key="a-key-of-the-test") as server:
        env = environment(server, tmp_path, CAMB_API_KEY="a-key-of-the-test")
        program = [sys.executable, "-c", _PROGRAM, str(journald.SOCKET)]
        for command in ("mount", "unmount"):
            subprocess.run([*program, command, str(mnt)], env=env, check=True, timeout=60)

    assert fields(journal.recv(65536))["MESSAGE"].startswith(f"mounted at {mnt} by process ")
    assert fields(journal.recv(65536))["MESSAGE"] == f"unmounted from {mnt}"


# Pruning


def make_old(path: Path, days: float) -> None:
    then_s = time.time() - days * DAY_S
    os.utime(path, (then_s, then_s))


def test_old_logs_of_mounts_that_are_gone_are_removed(place: Path) -> None:
    place.mkdir(parents=True)
    for name, days in {"gone.log": 31, "gone.log.1": 31, "new.log": 29, "new.log.3": 31, "notes.txt": 99}.items():
        (place / name).touch()
        make_old(place / name, days)
    (place / "a-link.log").symlink_to(place / "notes.txt")
    (place / "a-directory.log").mkdir()
    make_old(place / "a-directory.log", 99)
    logs.for_background(place / "own.log", "info")

    left = {"new.log", "notes.txt", "own.log", "a-link.log", "a-directory.log"}
    assert {path.name for path in place.iterdir()} == left


def test_the_log_of_a_mount_that_lives_is_kept_however_old(place: Path) -> None:
    logs.to_file(place / "idle.log", "info")
    LOGGER.info("mounted, and nothing since")
    make_old(place / "idle.log", 99)
    logs.prune()

    assert (place / "idle.log").exists()
    logging.getLogger("cambfs").handlers[0].close()
    logs.prune()
    assert not (place / "idle.log").exists()


def test_a_log_that_has_just_been_turned_over_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_FILE_BYTES", 10)
    logs.to_file(place / "idle.log", "info")
    for _ in range(3):
        LOGGER.info("more than ten bytes")
    make_old(place / "idle.log", 99)
    logs.prune()

    assert (place / "idle.log").exists()
