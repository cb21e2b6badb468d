"""Unmounting, of a mount that is in use and of a dead one as well.

Only what is cambfs's: foreign mounts are left alone. No threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cambfs.errors import ConfigError
from cambfs.system import private_files
from cambfs.system.mountpoint import FSTYPE, mounted_at

# From <sys/mount.h>.
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_GONE_TIMEOUT_S = 10.0
_POLL_S = 0.02


def unmount(directory: Path, *, lazy: bool = False) -> None:
    """Returns when the mount at `directory` is gone. Whoever has a file of it open gets errors from then on; with
    `lazy` they can go on, and the mount really ends with the last of them.

    Raises ConfigError when it is none of cambfs's, or cannot be unmounted.
    """
    mounted = mounted_at(directory)
    if mounted is None:
        raise ConfigError(f"{directory}: nothing is mounted there")
    if mounted.fstype != FSTYPE:
        raise ConfigError(f"{directory}: the mount there is not cambfs's ({mounted.fstype}); it was left alone")
    if not _detach(mounted.directory, lazy=lazy):
        _end_daemon(mounted.directory)
        _detach(mounted.directory, lazy=True)
    _await_gone(mounted.directory, mounted.device)


def _end_daemon(directory: Path) -> None:
    """Tells the process behind the mount to end, if that is to be found: it ends who waits for bytes, too."""
    with suppress(OSError, ValueError):
        pid = int((directory / ".cambfs" / "pid").read_text())
        # In a container the number may be another process's here.
        if _is_daemon(pid):
            os.kill(pid, signal.SIGTERM)


def _is_daemon(pid: int) -> bool:
    """Whether that may be a process of cambfs's, this user's unless that is root. Raises OSError when it has ended."""
    process = Path(f"/proc/{pid}")
    uid = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Uid:")).split()[1]
    if os.geteuid() not in (0, int(uid)) or b"cambfs" not in (process / "cmdline").read_bytes():
        return False
    try:
        return any(path == "/dev/fuse" for path in _open_files(pid))
    except PermissionError:
        return True  # the mount shows its open files to root only, for it has a key to keep


def _open_files(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            yield str(link.readlink())


def _detach(directory: Path, *, lazy: bool) -> bool:
    """False when it is in use, or gone already."""
    words = _detach_as_root(directory, lazy=lazy)
    if words is None:
        words = _detach_as_user(directory, lazy=lazy)
    if words and "busy" not in words and mounted_at(directory) is not None:
        raise ConfigError(f"{directory}: could not be unmounted: {words}")
    return not words


def _detach_as_root(directory: Path, *, lazy: bool) -> str | None:
    """What went wrong, "" for nothing; None when this process may not unmount by itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) == 0:
        return ""
    number = ctypes.get_errno()
    return None if number == errno.EPERM else os.strerror(number)


def _detach_as_user(directory: Path, *, lazy: bool) -> str:
    program = shutil.which("fusermount3") or shutil.which("fusermount")
    if program is None:
        raise ConfigError("fusermount is missing, only root can do without; on Debian and Ubuntu: apt install fuse3")
    command = [program, "-u", *(["-z"] if lazy else []), "--", str(directory)]
    environ = {**private_files.environment(), "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environ)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())


def _await_gone(directory: Path, device: str) -> None:
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while (mounted := mounted_at(directory)) is not None and mounted.device == device:
        if time.monotonic() > deadline:
            raise ConfigError(f"{directory}: is still mounted after {_GONE_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)
