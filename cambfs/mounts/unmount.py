"""Unmounting, also of dead mounts and of mounts in use, and ending the process behind them.

Acts on cambfs mounts only. No threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cambfs.errors import ConfigError
from cambfs.mounts.mount_table import FSTYPE, Mounted, mounted_at, read_inside
from cambfs.system import private_files

# From <sys/mount.h>.
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_RESPONSE_TIMEOUT_S = 5.0
_GONE_TIMEOUT_S = 10.0
_ENDS_BY_ITSELF_S = 1.0
_ENDS_AFTER_SIGNAL_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True)
class _Daemon:
    """The process behind a mount. `handle` is a pidfd, so that no later process with the same number is meant."""

    pid: int
    handle: int

    def terminate(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.handle, signal.SIGTERM)

    def has_ended(self, timeout_s: float) -> bool:
        """Waits for it."""
        poll = select.poll()
        poll.register(self.handle, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))


def unmount(directory: Path, *, lazy: bool = False) -> None:
    """Returns when the mount at `directory` is gone, and also the process behind it if it can be found. Reading open
    files fails from then on. With `lazy` they stay usable, and the process ends when the last one is closed.

    Raises ConfigError when it is not a cambfs mount, or cannot be unmounted, or its process does not end.
    """
    mounted = mounted_at(directory)
    if mounted is None:
        raise ConfigError(f"{directory}: nothing is mounted there")
    if mounted.fstype != FSTYPE:
        raise ConfigError(f"{directory}: this is not a cambfs mount ({mounted.fstype}); it is left alone")
    if (owner := _other_owner(mounted)) is not None:
        raise ConfigError(f"{directory}: was mounted by {owner}; only that user and root can unmount it")
    if lazy:
        _detach(mounted.directory, lazy=True)
        _await_gone(mounted)
    else:
        _unmount_now(mounted)


def _other_owner(mounted: Mounted) -> str | None:
    """The user who mounted, unless this user may unmount as well."""
    uid = mounted.owner
    if uid is None or os.geteuid() in (0, uid):
        return None
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"uid {uid}"


def _unmount_now(mounted: Mounted) -> None:
    with ExitStack() as stack:
        daemon, hangs = None, False
        try:
            daemon = stack.enter_context(_daemon_of(mounted))
        except TimeoutError:
            hangs = True
        if not _detach(mounted.directory, lazy=False):
            if daemon is not None:
                daemon.terminate()  # it also ends all waiting reads
                # It unmounts by itself, and would complain that the mount was gone.
                daemon.has_ended(_ENDS_AFTER_SIGNAL_S)
            if _is_there(mounted):
                _detach(mounted.directory, lazy=True)
        _await_gone(mounted)
        if daemon is not None:
            _await_end(daemon, mounted.directory)
    if hangs:
        raise ConfigError(f"{mounted.directory}: unmounted, but its process hangs; find it with: pgrep -af cambfs")


def _await_end(daemon: _Daemon, directory: Path) -> None:
    """A process that was not signalled lives on when another mount namespace has a copy of the mount."""
    if daemon.has_ended(_ENDS_BY_ITSELF_S):
        return
    daemon.terminate()
    if not daemon.has_ended(_ENDS_AFTER_SIGNAL_S):
        raise ConfigError(f"{directory}: unmounted, but its process still runs; to end it: kill -9 {daemon.pid}")


@contextmanager
def _daemon_of(mounted: Mounted) -> Iterator[_Daemon | None]:
    """None when it cannot be found, as for a dead mount. Raises TimeoutError when the mount does not respond."""
    with ExitStack() as stack:
        daemon = None
        try:
            pid = int(read_inside(mounted, "pid", _RESPONSE_TIMEOUT_S))
            handle = os.pidfd_open(pid)
            stack.callback(os.close, handle)
            # In a container the number may belong to another process here.
            daemon = _Daemon(pid, handle) if _is_daemon(pid) else None
        except TimeoutError:
            raise
        except (OSError, ValueError):
            pass
        yield daemon


def _is_daemon(pid: int) -> bool:
    """Whether that may be a cambfs process, of this user unless this user is root. Raises OSError when it has ended."""
    process = Path(f"/proc/{pid}")
    uid = next(line for line in (process / "status").read_text().splitlines() if line.startswith("Uid:")).split()[1]
    if os.geteuid() not in (0, int(uid)) or b"cambfs" not in (process / "cmdline").read_bytes():
        return False
    try:
        return any(path == "/dev/fuse" for path in _open_files(pid))
    except PermissionError:
        return True  # the process shows its open files to root only, because it holds a key


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
    """An error text, "" for success; None when this process may not unmount by itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(directory), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) == 0:
        return ""
    number = ctypes.get_errno()
    return None if number == errno.EPERM else os.strerror(number)


def _detach_as_user(directory: Path, *, lazy: bool) -> str:
    """An error text, "" for success."""
    first_error = ""
    for command in _unmount_commands(lazy=lazy):
        words = _run([*command, "--", str(directory)])
        if not words or "busy" in words:
            return words
        first_error = first_error or words
    return first_error


def _unmount_commands(*, lazy: bool) -> list[list[str]]:
    """Without /etc/mtab fusermount refuses; umount reads FUSE mounts from the kernel."""
    fusermount, umount = shutil.which("fusermount3") or shutil.which("fusermount"), shutil.which("umount")
    commands = [[fusermount, "-u", *(["-z"] if lazy else [])]] if fusermount else []
    commands += [[umount, *(["-l"] if lazy else [])]] if umount else []
    if not commands:
        raise ConfigError(
            "fusermount is missing, and only root can work without it; on Debian and Ubuntu: apt install fuse3"
        )
    return commands


def _run(command: list[str]) -> str:
    """The command's error output, "" when it succeeds."""
    environ = {**private_files.environment(), "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environ)
    return "" if done.returncode == 0 else " ".join(done.stderr.split()) or f"{command[0]} failed"


def _await_gone(mounted: Mounted) -> None:
    deadline = time.monotonic() + _GONE_TIMEOUT_S
    while _is_there(mounted):
        if time.monotonic() > deadline:
            raise ConfigError(f"{mounted.directory}: is still mounted after {_GONE_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def _is_there(mounted: Mounted) -> bool:
    """Whether this very mount is still at its directory."""
    now = mounted_at(mounted.directory)
    return now is not None and now.device == mounted.device
