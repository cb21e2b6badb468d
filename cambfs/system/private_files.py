"""Files, directories and a process that are the user's alone, whatever the umask and whoever shares the directory.

Not what is in them (`disk`, `logs`). No threads.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import stat
from contextlib import suppress
from pathlib import Path

KEY_VARIABLE = "CAMB_API_KEY"

# From <sys/prctl.h>.
_PR_SET_DUMPABLE = 4


def make_directory(directory: Path) -> None:
    """Makes `directory`, and those above it that are missing, with mode 0700. Raises OSError."""
    for path in [*reversed(directory.parents), directory]:
        if not path.is_dir():
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def is_own(directory: Path) -> bool:
    """Whether it is a directory of this user, and no link to one. Raises OSError when it cannot be known."""
    status = directory.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def claim_directory(directory: Path) -> None:
    """Gives a directory mode 0700. Raises OSError unless it is one of this user, and no link to one."""
    if not is_own(directory):
        raise PermissionError(errno.EPERM, f"{directory} is not yours")
    if stat.S_IMODE(directory.lstat().st_mode) != 0o700:
        directory.chmod(0o700)


def check_shared(directory: Path) -> None:
    """Raises OSError when others can rename or remove what this user has in `directory`."""
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"{directory} is another user's")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, f"others can change {directory}; run: chmod o-w {directory}")


def open_file(path: str, flags: int) -> int:
    """As os.open, for a file to write to: a new one has mode 0600, and so has an old one from here on. Raises OSError
    for a link that somebody else made, and for a file that is somebody else's or that has another name as well."""
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        if not stat.S_ISLNK(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            flags |= os.O_NOFOLLOW
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        _claim(os.fstat(fd), fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _claim(status: os.stat_result, fd: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        return  # a terminal, /dev/null, a pipe
    if status.st_uid != os.geteuid() or status.st_nlink > 1:
        raise PermissionError(errno.EPERM, "it is not yours alone")
    if stat.S_IMODE(status.st_mode) & 0o077:
        os.fchmod(fd, 0o600)


def environment() -> dict[str, str]:
    """What children may see of this process's environment."""
    return {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}


def forget_key_variable() -> None:
    """From here on the key is in no environment, of children or of this process. Not while other threads look there."""
    _forget_variable(KEY_VARIABLE)


def forbid_core_dumps() -> None:
    """No core dump is made of this process, which has the key in its memory; and no debugger of this user may look
    there, nor may it into most of /proc/<pid>. Children that are other programs are not concerned."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # The limit does not hold where a program collects core dumps.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _forget_variable(name: str) -> None:
    """Overwrites it, too: /proc/<pid>/environ shows the memory that the process got it in."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    address = libc.getenv(name.encode())
    if address:
        libc.strlen.argtypes = [ctypes.c_void_p]
        ctypes.memset(address, 0, libc.strlen(address))
    os.environ.pop(name, None)
