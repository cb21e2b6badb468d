"""Logging: to standard error in the foreground, otherwise to a file of the user's and the systemd journal.

Only the loggers of cambfs and of the binding are shown: urllib3's would print signed URLs. Every record is one
printable line, whatever its text. No threads.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import re
import sys
import time
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import platformdirs

from cambfs.errors import ConfigError
from cambfs.system import journald, private_files
from cambfs.text import visible

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_MAX_FILE_BYTES = 2 * 2**20
_OLD_FILES = 3
_FILE = re.compile(r".+\.log(\.[0-9]+)?")
# For so long a user may still want the log of a mount that is gone.
_KEPT_S = 30 * 86400.0


class _Lines(logging.Formatter):
    """One line per record. A traceback follows in lines that begin with white space, so that none looks like a
    record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(f"    {visible(line)}" for line in text.split("\n"))


class _PrivateFile(RotatingFileHandler):
    """Its files are readable by the user only, because a log shows which results were read. The current file is locked,
    so that no other mount prunes it."""

    def _open(self) -> io.TextIOWrapper:
        opener = private_files.open_file
        file = open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=opener)  # noqa: SIM115
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return file


def default_file(directory: Path, without_home: Path | None = None) -> Path:
    """The log of the mount at `directory`: each mount has its own, because logs rotate. `without_home` is used when the
    user has no home directory. Raises ConfigError when that is missing, too."""
    place = _state_directory() or without_home
    if place is None:
        raise ConfigError("no home directory is known for the log; name a file with --log-file, or set HOME")
    name = re.sub(r"[^A-Za-z0-9._]+", "-", str(directory)).strip("-") or "root"
    return place / f"{name[-100:]}.log"


def _state_directory() -> Path | None:
    try:
        return Path(platformdirs.user_state_dir("cambfs")).absolute()
    except RuntimeError:
        return None


def to_stderr(level: str) -> None:
    _install(logging.StreamHandler(sys.stderr), level)


def to_file(file: Path, level: str, *more: logging.Handler) -> None:
    """Logs to `file`, and to `more` handlers. Raises ConfigError when the file cannot be written."""
    try:
        if file.parent == _state_directory():
            private_files.make_directory(file.parent)
        handler = _PrivateFile(file, maxBytes=_MAX_FILE_BYTES, backupCount=_OLD_FILES)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name another log with --log-file") from None
    _install(handler, level, *more)


def for_background(file: Path, level: str) -> None:
    """Logs to `file`, and to the journal if there is one; prunes the logs of mounts that are gone. Raises ConfigError
    when the file cannot be written."""
    journal = [journald.JournaldHandler(journald.SOCKET)] if journald.SOCKET.is_socket() else []
    to_file(file, level, *journal)
    with suppress(OSError):
        prune()


def prune() -> None:
    """Removes logs in the default place that are 30 days old and belong to no living mount. Raises OSError when that
    place cannot be listed."""
    place = _state_directory()
    for path in list(place.iterdir()) if place is not None else []:
        if _FILE.fullmatch(path.name):
            with suppress(OSError):  # locked by a mount that lives and logged nothing, or removed meanwhile
                _remove_old(path)


def _remove_old(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(descriptor).st_mtime > _KEPT_S:
            path.unlink()
    finally:
        os.close(descriptor)


def _install(handler: logging.Handler, level: str, *more: logging.Handler) -> None:
    handler.setFormatter(_Lines(_FORMAT, "%Y-%m-%d %H:%M:%S"))
    for other in more:  # which have times and levels of their own
        other.setFormatter(_Lines("%(message)s"))
    for name in ("cambfs", "fuse"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler, *more]
        logger.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    logging.getLogger("cambfs").setLevel(level.upper())
    # At debug it logs a traceback for every errno; cambfs's own lines name the operation and the reason.
    logging.getLogger("fuse").setLevel(max(logging.INFO, logging.getLogger("cambfs").level))
