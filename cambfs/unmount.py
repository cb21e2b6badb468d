"""Unmounting, of a dead mount as well.

Only what is cambfs's: foreign mounts are left alone. No threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cambfs.errors import ConfigError
from cambfs.mountpoint import FSTYPE, mounted_at

# From <sys/mount.h>.
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_GONE_TIMEOUT_S = 10.0
_POLL_S = 0.02
_NAMED_USERS = 3


def unmount(directory: Path, *, lazy: bool = False) -> None:
    """Returns when the mount at `directory` is gone. `lazy`: from the tree at once, really when nobody uses it.

    Raises ConfigError when it is none of cambfs's, or in use.
    """
    mounted = mounted_at(directory)
    if mounted is None:
        raise ConfigError(f"{directory}: nothing is mounted there")
    if mounted.fstype != FSTYPE:
        raise ConfigError(f"{directory}: the mount there is not cambfs's ({mounted.fstype}); it was left alone")
    if not _unmount_as_root(mounted.directory, lazy=lazy):
        _unmount_as_user(mounted.directory, lazy=lazy)
    _await_gone(mounted.directory, mounted.device)


def _unmount_as_root(directory: Path, *, lazy: bool) -> bool:
    """False when this process may not unmount by itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) == 0:
        return True
    number = ctypes.get_errno()
    if number == errno.EPERM:
        return False
    if number == errno.EBUSY:
        raise ConfigError(_busy(directory))
    raise ConfigError(f"{directory}: could not be unmounted: {os.strerror(number)}")


def _unmount_as_user(directory: Path, *, lazy: bool) -> None:
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise ConfigError("fusermount is missing, only root can do without; on Debian and Ubuntu: apt install fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        words = " ".join(done.stderr.split())
        raise ConfigError(_busy(directory) if "busy" in words else f"{directory}: could not be unmounted: {words}")


def _await_gone(directory: Path, device: str) -> None:
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while (mounted := mounted_at(directory)) is not None and mounted.device == device:
        if time.monotonic() > deadline:
            raise ConfigError(f"{directory}: is still mounted after {_GONE_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def _busy(directory: Path) -> str:
    users = list(_users(directory))
    more = [f"{len(users) - _NAMED_USERS} more"] if len(users) > _NAMED_USERS else []
    by = f" by {', '.join(users[:_NAMED_USERS] + more)}" if users else ""
    return f"{directory}: is in use{by}; end that first, or: cambfs unmount --lazy {directory}"


def _users(directory: Path) -> Iterator[str]:
    """Who has something in the mount open, of the processes that this user may look at. Only links are read, for to
    look into the mount itself might hang."""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and any(_is_inside(path, directory) for path in _paths(process)):
            with suppress(OSError):
                yield f"{(process / 'comm').read_text().strip()} (pid {process.name})"


def _paths(process: Path) -> Iterator[str]:
    links = [process / "cwd", process / "root"]
    with suppress(OSError):
        links += (process / "fd").iterdir()
    for link in links:
        with suppress(OSError):
            yield str(link.readlink())


def _is_inside(path: str, directory: Path) -> bool:
    return path == str(directory) or path.startswith(f"{directory}/")
