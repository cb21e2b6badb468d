"""Where the log goes: standard error in the foreground, a file of the user's otherwise.

Only cambfs's own loggers and the binding's are shown: urllib3's would print signed URLs. No threads.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

import platformdirs

from cambfs.errors import ConfigError

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_MAX_FILE_BYTES = 2 * 2**20
_OLD_FILES = 3


class _PrivateFile(RotatingFileHandler):
    """Its files are the user's alone: a log tells what somebody listens to."""

    def _open(self) -> io.TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace", opener=opener)


def default_file(directory: Path) -> Path:
    """The log of the mount at `directory`: each has its own, for they rotate."""
    name = re.sub(r"[^A-Za-z0-9._]+", "-", str(directory)).strip("-") or "root"
    return Path(platformdirs.user_state_dir("cambfs")).absolute() / f"{name[-100:]}.log"


def to_stderr(level: str) -> None:
    _install(logging.StreamHandler(sys.stderr), level)


def to_file(file: Path, level: str) -> None:
    """Raises ConfigError when the file cannot be written."""
    try:
        if file.parent == Path(platformdirs.user_state_dir("cambfs")).absolute():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = _PrivateFile(file, maxBytes=_MAX_FILE_BYTES, backupCount=_OLD_FILES)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; name another log with --log-file") from None
    _install(handler, level)


def _install(handler: logging.Handler, level: str) -> None:
    handler.setFormatter(logging.Formatter(_FORMAT, "%Y-%m-%d %H:%M:%S"))
    for name in ("cambfs", "fuse"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level.upper())
