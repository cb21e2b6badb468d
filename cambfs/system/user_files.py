"""Files that a user wrote for cambfs: read without waiting, up to a limit, and checked for who else could write there.

What is in them is the business of `config` and `run_list`. No threads.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
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
    """Raises ValueError with a remedy when another user than root could change the file, or swap it for another."""
    _check(path, status, is_sticky_enough=False)
    for directory in {*path.absolute().parents, *Path(os.path.realpath(path)).parents}:
        # In a sticky directory, such as /tmp, others can only add files.
        _check(directory, directory.stat(), is_sticky_enough=True)


def check_nobody_else_reads(path: Path, status: os.stat_result) -> None:
    """Raises ValueError with a remedy when others than the owner can do anything with the file."""
    if status.st_mode & _OTHERS:
        raise ValueError(f"others can read the key in it; run: chmod 600 {path}")


def _check(path: Path, status: os.stat_result, *, is_sticky_enough: bool) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError(f"{path} belongs to another user, who can change what it says; use a file of your own")
    if is_sticky_enough and status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & _OTHERS_WRITE & ~(stat.S_IWGRP if _is_private_group(status.st_gid) else 0):
        raise ValueError(f"others can change {path}; run: chmod go-w {path}")


def _is_private_group(gid: int) -> bool:
    """Whether that is the group that many systems give to each user, and nobody else is in it: with such groups the
    usual umask lets the group write."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
