"""Files, directories and a process that only the user can access, whatever the umask and the owner of the directory.

`disk` and `logs` have their contents. No threads.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import shlex
import stat
from collections import deque
from contextlib import suppress
from pathlib import Path

KEY_VARIABLE = "CAMB_API_KEY"
PASSWORD_VARIABLE = "CAMBFS_SHARED_CACHE_PASSWORD"
SECRET_VARIABLES = (KEY_VARIABLE, PASSWORD_VARIABLE)

# The ids that a user namespace shows for those that it does not map.
_OVERFLOW_UID = 65534
_LONGEST_WAY = 400
# A directory on the way to another, which need not be readable.
_LEVEL = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


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


def open_directory(directory: Path) -> int:
    """A descriptor of `directory`, which is made if it is missing, as are those above it, and has mode 0700 then.

    Raises OSError unless it is this user's and only this user and root can replace it, or any directory or link on the
    way to it.
    """
    with suppress(FileNotFoundError):
        directory.stat()  # links that lead in a circle are refused here
    names = deque(directory.absolute().parts)
    level = os.open("/", _LEVEL)
    try:
        while names:
            _check_level(level)
            below = _enter(level, names)
            os.close(level)
            level = below
        return _claim_directory(directory, level)
    finally:
        os.close(level)


def check_way(path: Path) -> None:
    """Raises OSError when others can replace a file, or any directory or link on the way to it."""
    names, level = deque(path.absolute().parts), os.open("/", _LEVEL)
    try:
        for _ in range(_LONGEST_WAY):
            if not names:
                return
            _check_level(level)
            level = _step(level, names)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    finally:
        os.close(level)


def _step(level: int, names: deque[str]) -> int:
    """The next existing level of the path; the same one where a link, or the file itself, comes next."""
    name = names.popleft()
    status = os.stat(name, dir_fd=level, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        _follow(level, name, status, names)
    elif names:
        below = os.open(name, _LEVEL | os.O_NOFOLLOW, dir_fd=level)
        os.close(level)
        return below
    return level


def _follow(level: int, name: str, status: os.stat_result, names: deque[str]) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, f"the link {name} in {_path_of(level)} is another user's")
    names.extendleft(reversed(Path(os.readlink(name, dir_fd=level)).parts))


def _enter(level: int, names: deque[str]) -> int:
    """The level of the first name. For a link, this level once more, with the names from its target."""
    name = names.popleft()
    status = _status_or_new(level, name)
    if not stat.S_ISLNK(status.st_mode) or not names:
        return os.open(name, _LEVEL | os.O_NOFOLLOW, dir_fd=level)
    _follow(level, name, status, names)
    return os.open(".", _LEVEL, dir_fd=level)


def _status_or_new(level: int, name: str) -> os.stat_result:
    try:
        return os.stat(name, dir_fd=level, follow_symlinks=False)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=level)
        return os.stat(name, dir_fd=level, follow_symlinks=False)


def _check_level(level: int) -> None:
    """Raises PermissionError when others can replace entries of a directory. In a sticky directory they cannot, as long
    as the owner of the entry is checked, too."""
    status = os.fstat(level)
    if status.st_uid not in (0, os.geteuid()) and not _is_roots_outside(status):
        raise PermissionError(errno.EPERM, f"{_path_of(level)} is another user's")
    if status.st_mode & stat.S_ISVTX:
        return
    is_open_to_group = status.st_mode & stat.S_IWGRP and not is_private_group(f"/proc/self/fd/{level}", status)
    who = ("g" if is_open_to_group else "") + ("o" if status.st_mode & stat.S_IWOTH else "")
    if who:
        path = _path_of(level)
        raise PermissionError(errno.EPERM, f"others can change {path}; run: chmod {who}-w {shlex.quote(path)}")


def _is_roots_outside(status: os.stat_result) -> bool:
    """Whether a directory belongs to a user whom this user namespace does not map, as root in a sandbox, and others
    cannot replace its entries."""
    others_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if status.st_uid != _OVERFLOW_UID or others_write:
        return False
    mapped = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return not any(int(first) == 0 for first, _, _ in mapped)


def is_private_group(place: str, status: os.stat_result) -> bool:
    """Whether the group is the owner's own, as many systems make one for each user, and no access list names more."""
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    is_own = owner.pw_gid == group.gr_gid and owner.pw_name == group.gr_name
    return is_own and set(group.gr_mem) <= {owner.pw_name} and not _has_access_list(place)


def _has_access_list(place: str) -> bool:
    try:
        os.getxattr(place, "system.posix_acl_access")
    except OSError as error:
        return error.errno not in (errno.ENODATA, errno.EOPNOTSUPP)
    return True


def _path_of(level: int) -> str:
    return str(Path(f"/proc/self/fd/{level}").readlink())


def _claim_directory(directory: Path, level: int) -> int:
    status = os.fstat(level)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"{directory} is not yours")
    if stat.S_IMODE(status.st_mode) != 0o700:
        os.chmod(".", 0o700, dir_fd=level)
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=level)


def open_file(path: str, flags: int) -> int:
    """As os.open, for a file to write to. A new file has mode 0600, and so has an old one from here on. Raises OSError
    for another user's link or file, and for a file that has a second name."""
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
    """The part of this process's environment that children may see."""
    return {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}


def forget_secrets() -> None:
    """From here on the key, and the password of the shared cache, are in no environment, of children or of this
    process. Not while other threads look there."""
    for name in SECRET_VARIABLES:
        forget_variable(name)


def forget_variable(name: str) -> None:
    """Takes it out of the environment, and overwrites it: /proc/<pid>/environ shows the memory that the process got it
    in."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    address = libc.getenv(name.encode())
    if address:
        libc.strlen.argtypes = [ctypes.c_void_p]
        ctypes.memset(address, 0, libc.strlen(address))
    os.environ.pop(name, None)
