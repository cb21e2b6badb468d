"""Reads files that a user wrote for cambfs: without waiting, up to a limit, and with a check that others cannot change
them.

`config` and `run_list` interpret the content. No threads.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cambfs.system.private_files import check_way, is_private_group

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read(path: Path, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """The content of a regular file, and its status when it was opened.

    Raises OSError, and ValueError with a few words when it is no regular file or has more than `max_bytes`.
    """
    # Without O_NONBLOCK a FIFO would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"is longer than {max_bytes:,} bytes")
    return content, status


def check_nobody_else_writes(path: Path, status: os.stat_result) -> None:
    """Raises ValueError with a remedy when a user other than root could change the file, or replace it."""
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError(f"{path} belongs to another user, who can change what it says; use a file of your own")
    if status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and not is_private_group(str(path), status)):
        raise ValueError(f"others can change {path}; run: chmod go-w {path}")
    try:
        check_way(path)
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None


def check_nobody_else_reads(path: Path, status: os.stat_result, what: str) -> None:
    """Raises ValueError with a remedy when users other than the owner have any access to the file."""
    if status.st_mode & _OTHERS:
        raise ValueError(f"others can read {what} in it; run: chmod 600 {path}")
