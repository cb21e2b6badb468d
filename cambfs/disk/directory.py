"""One directory, held open: everything happens in that directory, whatever becomes of its path.

A directory that replaces it is not used, and links in it are never followed. Threads: any. The only state is the
descriptor. It is closed with the last reference, so no caller can meet a reused descriptor. All methods raise OSError.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

# Without O_NONBLOCK, opening a pipe in the directory would wait forever.
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKING = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Directory:
    """Owns `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def below(self, name: str) -> Directory:
        """A subdirectory, made if it is missing, that only the user can access."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self._fd)
        found = Directory(os.open(name, _READING | os.O_DIRECTORY, dir_fd=self._fd))
        status = os.fstat(found._fd)
        if status.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, f"{name} in it is not yours")
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(found._fd, 0o700)
        return found

    def check_writable(self) -> None:
        if os.statvfs(self._fd).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def is_removed(self) -> bool:
        try:
            return os.fstat(self._fd).st_nlink == 0
        except OSError:  # a file server has forgotten it
            return True

    def mtime_ns(self) -> int:
        """Changes when entries are added or removed."""
        return os.fstat(self._fd).st_mtime_ns

    @contextmanager
    def entries(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        """Its entries, as long as the context lasts."""
        # Opened anew: descriptors that were duplicated, as scandir does, have one position in common.
        fd = os.open(".", _READING | os.O_DIRECTORY, dir_fd=self._fd)
        try:
            with os.scandir(fd) as entries:
                yield entries
        finally:
            os.close(fd)

    def names(self) -> list[str]:
        with self.entries() as entries:
            return [entry.name for entry in entries]

    def open(self, name: str) -> int:
        """A descriptor for reading the entry, which need not be a file. Raises OSError for a link."""
        return os.open(name, _READING, dir_fd=self._fd)

    def create(self, name: str) -> int:
        """A descriptor of a new file that only the user can open."""
        return os.open(name, _MAKING, 0o600, dir_fd=self._fd)

    def write(self, name: str, content: bytes) -> None:
        """Makes a file with this content. A file that cannot be written completely is removed."""
        fd = self.create(name)
        try:
            if os.write(fd, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            self.remove(name)
            raise
        finally:
            os.close(fd)

    def status(self, name: str) -> os.stat_result:
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False)

    def touch(self, name: str) -> None:
        os.utime(name, dir_fd=self._fd, follow_symlinks=False)

    def rename(self, name: str, to: Directory, new_name: str) -> None:
        os.rename(name, new_name, src_dir_fd=self._fd, dst_dir_fd=to._fd)

    def remove(self, name: str) -> None:
        """Removes a file, a link or an empty directory. Does nothing when there is none."""
        with suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=self._fd)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=self._fd)

    def clear(self, name: str) -> None:
        """As `remove`. A directory that is not empty is moved aside: cambfs has not made it."""
        try:
            self.remove(name)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            self.rename(name, self, f"{name}.{secrets.token_hex(8)}")

    def __del__(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a file in a directory that is held open."""

    directory: Directory
    text: str

    def remove(self) -> None:
        self.directory.remove(self.text)

    def move(self, to: Directory, name: str) -> None:
        self.directory.rename(self.text, to, name)


def try_lock(fd: int, how: int) -> bool:
    """Takes the lock if it is free, and returns whether it was. Raises OSError where there are no locks."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sweep(directory: Directory, name: str) -> None:
    """Removes a file that is not locked. A failure is ignored."""
    with suppress(OSError):
        fd = directory.open(name)
        try:
            if try_lock(fd, fcntl.LOCK_EX):
                directory.remove(name)
        finally:
            os.close(fd)
