"""The operations of the mount, as libfuse calls them: translates each into a call of the tree, and every failure into
an errno.

Independent of libfuse and its binding, which `binding` has. Threads: libfuse's; each runs one operation at a time and
waits in `library`.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, NoReturn, Protocol

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, ReadOnly
from cambfs.fuse.errnos import ErrnoError, Errnos
from cambfs.fuse.signals import Session
from cambfs.vfs.nodes import Attributes, Entry
from cambfs.vfs.open_files import OpenFile
from cambfs.vfs.tree import Tree
from cambfs.vfs.xattrs import Xattrs

log = logging.getLogger(__name__)

BLOCK_BYTES = 128 * 1024
_FRAGMENT_BYTES = 4096
_OWNERS = 0, os.getuid()


class Request(Protocol):
    """What libfuse knows of the request that the calling thread serves."""

    def uid(self) -> int:
        """The user of the process that waits."""

    def is_killed(self) -> bool:
        """Whether the kernel has interrupted the request because the process that waits was killed."""

    def loop_exit(self) -> Callable[[], None]:
        """A function that makes libfuse's loop end. Any thread may call it, until the loop has ended."""


class FileInfo(Protocol):
    """libfuse's record of an open file. `flags` are those of open(2); `fh` is ours."""

    flags: int
    fh: int
    keep_cache: bool
    direct_io: bool


class Operations:
    """A binding takes every attribute with the name of an operation for one, so the state has other names. libfuse
    handles operations that are missing here."""

    use_ns = True

    def __init__(
        self,
        tree: Tree,
        xattrs: Xattrs,
        failures: Errnos,
        session: Session,
        request: Request,
        timeout_s: float,
        umask: int = 0,
        on_first_open: Callable[[], None] = lambda: None,
    ) -> None:
        self._tree = tree
        self._xattrs = xattrs
        self._failures = failures
        self._session = session
        self._request = request
        self._timeout_s = timeout_s
        self._umask = umask
        self._on_first_open = on_first_open
        self._table = Lock()  # guards the next two
        self._open_files: dict[int, OpenFile] = {}
        self._last_fh = 0

    def __call__(self, operation: str, path: str, *arguments: Any) -> Any:
        """Runs every operation. Raises only ErrnoError: the bindings pass anything else to the kernel as EINVAL, or
        worse."""
        try:
            return getattr(self, operation)(path, *arguments)
        except CambfsError as error:
            number = self._failures.note(operation, path, error)
            error.with_traceback(None)  # an open file may keep it, but not its frames
            raise ErrnoError(number) from None
        except ErrnoError:
            raise
        except MemoryError:
            raise ErrnoError(errno.ENOMEM) from None
        except Exception:
            log.exception("unexpected error in %s", operation)
            raise ErrnoError(errno.EIO) from None

    def _deadline(self) -> Deadline:
        return Deadline(self._timeout_s, self._request.is_killed)

    def init(self, _path: str) -> None:
        self._session.begin(self._request.loop_exit())

    def destroy(self, _path: str) -> None:
        self._session.end()

    def getattr(self, path: str, fh: FileInfo | None = None) -> Attributes:
        attributes = self._tree.attributes(path, self._deadline(), is_lookup_possible=fh is None)
        return attributes._replace(mode=attributes.mode & ~self._umask) if self._umask else attributes

    def access(self, path: str, mode: int) -> int:
        if mode != os.F_OK:
            self._refuse_others(path)
        self._tree.check_exists(path, self._deadline())
        return 0

    def readdir(self, path: str, _fh: int) -> Iterator[Entry]:
        return self._tree.names(path)

    def readlink(self, path: str) -> str:
        return self._tree.readlink(path, self._deadline())

    def getxattr(self, path: str, name: str) -> bytes:
        found = self._xattrs.of(path)
        if name not in found:
            raise ErrnoError(errno.ENODATA)
        return found[name]

    def listxattr(self, path: str) -> list[str]:
        return list(self._xattrs.of(path))

    def statfs(self, _path: str) -> dict[str, int]:
        used_bytes, files = self._tree.usage()
        sizes = {"f_bsize": BLOCK_BYTES, "f_frsize": _FRAGMENT_BYTES, "f_blocks": -(-used_bytes // _FRAGMENT_BYTES)}
        return {**sizes, "f_files": files, "f_namemax": 255}

    def open(self, path: str, fi: FileInfo) -> int:
        if fi.flags & os.O_ACCMODE != os.O_RDONLY:
            self._refuse_write()
        self._refuse_others(path)
        opened = self._tree.open(path, self._deadline())
        with self._table:
            self._last_fh += 1
            fi.fh = self._last_fh
            self._open_files[fi.fh] = opened
        if fi.fh == 1:
            self._on_first_open()
        fi.keep_cache = opened.keep_cache
        fi.direct_io = opened.direct_io
        return 0

    def _refuse_others(self, path: str) -> None:
        """Refuses files of mode 0400 to others: without `default_permissions` the kernel does not check modes."""
        if self._tree.is_private(path) and self._request.uid() not in _OWNERS:
            raise ErrnoError(errno.EACCES)

    def read(self, _path: str, buffer: memoryview, offset: int, fi: FileInfo) -> int:
        opened = self._open_files[fi.fh]
        count = opened.readinto(offset, buffer, self._deadline())
        if not (count or opened.direct_io or offset == 0):
            self._check_is_end(opened, offset)
        return count

    def _check_is_end(self, opened: OpenFile, offset: int) -> None:
        """The kernel requests pages beyond the end only when it does not know the size yet. From an empty response it
        would learn a size that is too large, and not believe the right one a moment later."""
        if not opened.readinto(offset - 1, memoryview(bytearray(1)), self._deadline()):
            raise ErrnoError(errno.EIO)

    def release(self, _path: str, fi: FileInfo) -> int:
        with self._table:
            opened = self._open_files.pop(fi.fh)
        opened.close()
        return 0

    def _refuse_write(self, *_: Any) -> NoReturn:
        raise ReadOnly("every file is read-only")

    # The kernel refuses these by itself, until root remounts the tree as writable. Without `open`, no `write` comes.
    mknod = mkdir = unlink = rmdir = symlink = rename = link = create = truncate = _refuse_write
    chmod = chown = utimens = setxattr = removexattr = _refuse_write
