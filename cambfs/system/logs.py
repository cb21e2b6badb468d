"""Where the log goes: standard error in the foreground, a file of the user's otherwise.

Only cambfs's own loggers and the binding's are shown: urllib3's would print signed URLs. Whatever a line holds, it is
one line, and shows as it is written. No threads.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import platformdirs

from cambfs.errors import ConfigError
from cambfs.system import private_files
from cambfs.text import visible

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_MAX_FILE_BYTES = 2 * 2**20
_OLD_FILES = 3


class _Lines(logging.Formatter):
    """One line a record. A traceback follows in lines that begin with white space, so that none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


def _indented(text: str) -> str:
    return "\n".join(f"    {visible(line)}" for line in text.split("\n"))


class _PrivateFile(RotatingFileHandler):
    """Its files are the user's alone: a log tells what somebody listens to."""

    def _open(self) -> io.TextIOWrapper:
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=private_files.open_file)


def default_file(directory: Path, without_home: Path | None = None) -> Path:
    """The log of the mount at `directory`: each has its own, for they rotate. `without_home` is where it goes when the
    user has no home directory. Raises ConfigError when there is no such place either."""
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


def to_file(file: Path, level: str) -> None:
    """Raises ConfigError when the file cannot be written."""
    try:
        if file.parent == _state_directory():
            private_files.make_directory(file.parent)
        handler = _PrivateFile(file, maxBytes=_MAX_FILE_BYTES, backupCount=_OLD_FILES)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name another log with --log-file") from None
    _install(handler, level)


def _install(handler: logging.Handler, level: str) -> None:
    handler.setFormatter(_Lines(_FORMAT, "%Y-%m-%d %H:%M:%S"))
    for name in ("cambfs", "fuse"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    set_level(level)


def set_level(level: str) -> None:
    logging.getLogger("cambfs").setLevel(level.upper())
    # Its debugging is a traceback for every errno; ours says which operation got it, and why.
    logging.getLogger("fuse").setLevel(max(logging.INFO, logging.getLogger("cambfs").level))
