"""Whether a directory can become a mount point, and whether this machine and user can mount.

`adapter` mounts, `unmount` unmounts, `mount_table` lists the mounts. No threads but those of `probe`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cambfs.errors import ConfigError
from cambfs.mounts.mount_table import FSTYPE, Mounted, mounted_at, resolved
from cambfs.mounts.probe import outcome, probe
from cambfs.system.limits import CAP_SYS_ADMIN

_DEVICE = Path("/dev/fuse")
_FUSE_CONF = Path("/etc/fuse.conf")
_RESPONSE_TIMEOUT_S = 2.0


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Keeps every other `cambfs mount` away from `directory`. Raises ConfigError when another has it, or when it cannot
    become a mount point."""
    check_directory(directory)
    with _locked(directory):
        check_directory(directory)  # another may have mounted and released the lock meanwhile
        yield


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Raises ConfigError when another has the lock, OSError when the directory cannot be opened."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{directory}: another cambfs is mounting there at the moment") from None
        except OSError:
            pass  # some network file systems cannot lock directories
        yield


def check_directory(directory: Path) -> None:
    """Raises ConfigError unless `directory` is an empty directory without a FUSE mount."""
    mounted = mounted_at(directory)
    if not is_dead(directory):
        _refuse_mounted(directory, mounted)  # before it is asked about anything, for it may hang
    try:
        mode = directory.stat().st_mode
        if mounted is None and not stat.S_ISDIR(mode):
            raise ConfigError(f"{directory}: is not a directory; name an empty one")
    except OSError as error:
        # Another user's mount refuses even stat, but is not dead.
        if mounted is None or error.errno == errno.ENOTCONN:
            raise ConfigError(_directory_trouble(directory, error)) from None
    _refuse_mounted(directory, mounted)
    try:
        _check_usable(directory)
    except ConfigError:
        _refuse_mounted(directory, mounted_at(directory))  # another may just have mounted there
        raise


def _refuse_mounted(directory: Path, mounted: Mounted | None) -> None:
    if mounted is not None and mounted.fstype == FSTYPE:
        raise ConfigError(f"{directory}: cambfs is already mounted there; to unmount it: cambfs unmount {directory}")
    if mounted is not None and mounted.fstype.startswith("fuse"):
        raise ConfigError(f"{directory}: something else ({mounted.fstype}) is already mounted there")


def is_dead(directory: Path) -> bool:
    """Whether there is a cambfs mount whose process has died. A mount that hangs is not dead."""
    mounted = mounted_at(directory)
    if mounted is None or mounted.fstype != FSTYPE:
        return False
    return outcome(probe(directory), time.monotonic() + _RESPONSE_TIMEOUT_S) == errno.ENOTCONN


def _check_usable(directory: Path) -> None:
    try:
        with os.scandir(directory) as entries:
            is_empty = next(entries, None) is None
    except OSError as error:
        raise ConfigError(_directory_trouble(directory, error)) from None
    if not is_empty:
        raise ConfigError(f"{directory}: is not empty; name an empty directory")
    if not (may_mount() or os.access(directory, os.W_OK)):
        raise ConfigError(f"{directory}: you cannot mount where you cannot write; name a directory of your own")


def _directory_trouble(directory: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"{directory}: there is no such directory; make it first: mkdir -p {directory}"
    if error.errno == errno.ENOTCONN:
        return f"{directory}: a dead mount is still there; remove it first: cambfs unmount {directory}"
    return f"{directory}: {error.strerror}; name a directory of your own"


@contextmanager
def made(directory: Path, *, keep: bool) -> Iterator[None]:
    """Makes `directory` if it is missing. New directories are removed at the end; with `keep`, only after a failure.
    Raises ConfigError."""
    try:
        directory.mkdir()
    except FileExistsError:
        yield
        return
    except OSError as error:
        remedy = (
            f"make it first: mkdir -p {directory}" if error.errno == errno.ENOENT else "name a directory of your own"
        )
        raise ConfigError(f"{directory}: cannot be created: {error.strerror}; {remedy}") from None
    with ExitStack() as stack:
        stack.callback(_remove, directory)
        yield
        if keep:
            stack.pop_all()


def _remove(directory: Path) -> None:
    with suppress(OSError, ConfigError), _locked(directory):  # not while another process mounts there
        directory.rmdir()


def check_outside(directory: Path, path: Path, setting: str) -> None:
    """Raises ConfigError when `path`, which `setting` names, lies in `directory`: the mount would hide it."""
    if Path(os.path.realpath(path)).is_relative_to(resolved(directory)):
        raise ConfigError(f"{path}: is inside {directory}, which the mount covers; name another place with {setting}")


def may_mount() -> bool:
    """Whether this process may mount by itself, as root may."""
    return has_capability("CapEff")


def has_capability(which: str, status: Path = Path("/proc/self/status")) -> bool:
    """Whether CAP_SYS_ADMIN is in a capability set of this process: CapEff (it may mount itself), CapBnd (a setuid
    program that it starts may)."""
    found = re.search(rf"^{which}:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> CAP_SYS_ADMIN & 1)


def check_device(device: Path = _DEVICE) -> None:
    """Raises ConfigError unless this user may open it."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR):
            remedy = "load it (modprobe fuse), or start the container with --device /dev/fuse --cap-add SYS_ADMIN"
        else:
            remedy = "let this user read and write it (as root: chmod 666 /dev/fuse), or mount as root"
        raise ConfigError(f"{device}: {error.strerror}; {remedy}") from None


def check_allow_other(fuse_conf: Path = _FUSE_CONF) -> None:
    """Raises ConfigError unless this user may mount for others, root included. Only fusermount reads `fuse_conf`: it
    has no say when root mounts, for a user as well."""
    if os.geteuid() == 0 or may_mount():
        return
    try:
        lines = fuse_conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise ConfigError(
            f"allow_other, allow_root: not permitted; root must add the line user_allow_other to {fuse_conf}"
        )
