"""The adapter between the tree and the kernel: translates fusepy's calls, and nothing else.

The only module that imports fuse. Threads: libfuse starts one whenever all are busy; each runs one operation at a time
and waits in `library`. `signals` has the thread that ends the mount.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, ConfigError, ReadOnly
from cambfs.fuse import handshake
from cambfs.fuse.errnos import Errnos
from cambfs.fuse.error_log import ErrorLog
from cambfs.fuse.interrupts import is_killed
from cambfs.fuse.signals import Session
from cambfs.vfs.nodes import ENTRY_TIMEOUT_S, Attributes, Entry
from cambfs.vfs.open_files import OpenFile
from cambfs.vfs.tree import Tree
from cambfs.vfs.xattrs import Xattrs

try:
    import fuse
except OSError as error:  # fusepy looks for the library when it is imported
    raise ConfigError("libfuse.so.2 is missing: install the package libfuse2 (or libfuse2t64)") from error

log = logging.getLogger(__name__)

_OWNER = os.getuid(), os.getgid()
_BLOCK_BYTES = 128 * 1024
_FRAGMENT_BYTES = 4096

# fusepy decodes paths with this, because every name can be decoded. `_as_text` then makes them text.
_ENCODING = "latin-1"
_OPTIONS: dict[str, str | int | bool] = {
    "encoding": _ENCODING,
    "raw_fi": True,
    "foreground": True,
    **dict.fromkeys(("ro", "nosuid", "nodev", "noexec", "use_ino", "intr"), True),
    "subtype": "cambfs",
    "attr_timeout": 0,
    "entry_timeout": ENTRY_TIMEOUT_S,
    "max_background": 512,
    "max_readahead": _BLOCK_BYTES,
}

_PY_BUF_WRITE = 0x200
_view_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_view_memory.argtypes, _view_memory.restype = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int), ctypes.py_object


def _as_text(path: str) -> str:
    return path if path.isascii() else path.encode(_ENCODING).decode("utf-8", "surrogateescape")


def _as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _caller_is_killed() -> bool:
    """Whether the kernel has interrupted this thread's request because its caller was killed."""
    if not fuse._libfuse.fuse_interrupted():
        return False
    _, _, pid = fuse.fuse_get_context()
    return is_killed(pid)


class Operations:
    """The operations that fusepy calls. fusepy takes every attribute with the name of an operation for one, so the
    state has other names. libfuse handles operations that are missing here."""

    use_ns = True

    def __init__(
        self, tree: Tree, xattrs: Xattrs, failures: Errnos, session: Session, timeout_s: float, umask: int = 0
    ) -> None:
        self._tree = tree
        self._xattrs = xattrs
        self._failures = failures
        self._session = session
        self._timeout_s = timeout_s
        self._umask = umask
        self._table = Lock()  # guards the next two
        self._open_files: dict[int, OpenFile] = {}
        self._last_fh = 0

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Runs every operation. Raises only FuseOSError: fusepy passes anything else to the kernel as EINVAL, or
        worse."""
        path = _as_text(arguments[0])
        try:
            return getattr(self, operation)(path, *arguments[1:])
        except CambfsError as error:
            number = self._failures.note(operation, path, error)
            error.with_traceback(None)  # an open file may keep it, but not its frames
            raise fuse.FuseOSError(number) from None
        except fuse.FuseOSError:
            raise
        except MemoryError:
            raise fuse.FuseOSError(errno.ENOMEM) from None
        except Exception:
            log.exception("unexpected error in %s", operation)
            raise fuse.FuseOSError(errno.EIO) from None

    def _deadline(self) -> Deadline:
        return Deadline(self._timeout_s, _caller_is_killed)

    def init(self, _path: str) -> None:
        loop = ctypes.c_void_p(fuse._libfuse.fuse_get_context().contents.fuse)
        self._session.begin(lambda: fuse._libfuse.fuse_exit(loop))

    def destroy(self, _path: str) -> None:
        self._session.end()

    def getattr(self, path: str, fh: Any = None) -> Attributes:
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
        return _as_bytes(self._tree.readlink(path, self._deadline())).decode(_ENCODING)

    def getxattr(self, path: str, name: str) -> bytes:
        found = self._xattrs.of(path)
        if name not in found:
            raise fuse.FuseOSError(errno.ENODATA)
        return found[name]

    def listxattr(self, path: str) -> list[str]:
        return list(self._xattrs.of(path))

    def statfs(self, _path: str) -> dict[str, int]:
        used_bytes, files = self._tree.usage()
        sizes = {"f_bsize": _BLOCK_BYTES, "f_frsize": _FRAGMENT_BYTES, "f_blocks": -(-used_bytes // _FRAGMENT_BYTES)}
        return {**sizes, "f_files": files, "f_namemax": 255}

    def open(self, path: str, fi: Any) -> int:
        if fi.flags & os.O_ACCMODE != os.O_RDONLY:
            self._refuse_write()
        self._refuse_others(path)
        opened = self._tree.open(path, self._deadline())
        with self._table:
            self._last_fh += 1
            fi.fh = self._last_fh
            self._open_files[fi.fh] = opened
        fi.keep_cache = opened.keep_cache
        fi.direct_io = opened.direct_io
        return 0

    def _refuse_others(self, path: str) -> None:
        """Refuses files of mode 0400 to others: without `default_permissions` the kernel does not check modes."""
        if self._tree.is_private(path) and fuse.fuse_get_context()[0] not in (0, _OWNER[0]):
            raise fuse.FuseOSError(errno.EACCES)

    def read(self, _path: str, buffer: memoryview, offset: int, fi: Any) -> int:
        opened = self._open_files[fi.fh]
        count = opened.readinto(offset, buffer, self._deadline())
        if not (count or opened.direct_io or offset == 0):
            self._check_is_end(opened, offset)
        return count

    def _check_is_end(self, opened: OpenFile, offset: int) -> None:
        """The kernel requests pages beyond the end only when it does not know the size yet. From an empty response it
        would learn a size that is too large, and not believe the right one a moment later."""
        if not opened.readinto(offset - 1, memoryview(bytearray(1)), self._deadline()):
            raise fuse.FuseOSError(errno.EIO)

    def release(self, _path: str, fi: Any) -> int:
        with self._table:
            opened = self._open_files.pop(fi.fh)
        opened.close()
        return 0

    def _refuse_write(self, *_: Any) -> NoReturn:
        raise ReadOnly("every file is read-only")

    # The kernel refuses these by itself, until root remounts the tree as writable. Without `open`, no `write` comes.
    mknod = mkdir = unlink = rmdir = symlink = rename = link = create = truncate = _refuse_write
    chmod = chown = utimens = setxattr = removexattr = _refuse_write


class _Binding(fuse.FUSE):  # type: ignore[misc]  # fusepy has no types
    """fusepy, with shorter ways for the most frequent calls. Its own make a dictionary of every file's attributes, a
    structure for every name in a directory, and two copies of the bytes of a read."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # fusepy calls this one function to mount and to serve.
        original, fuse._libfuse.fuse_main_real = fuse._libfuse.fuse_main_real, self._serve
        try:
            super().__init__(*arguments, **options)
        finally:
            fuse._libfuse.fuse_main_real = original

    def _serve(self, argc: int, argv: Any, operations: Any, size: int, _data: None) -> int:
        return handshake.serve(fuse._libfuse, argc, argv, operations, size)

    def fgetattr(self, path: bytes, status: Any, fip: Any) -> int:
        ctypes.memset(status, 0, ctypes.sizeof(fuse.c_stat))
        _fill(status.contents, self.operations("getattr", path.decode(_ENCODING), fip))
        return 0

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int) -> int:
        """`ls` and the kernel request attributes outside `user.`, too. After an "unsupported" for those, most programs
        do not ask again."""
        if not name.startswith(b"user."):
            return -errno.EOPNOTSUPP
        count: int = super().getxattr(path, name, value, size)
        return count

    def read(self, path: bytes, memory: Any, size: int, offset: int, fip: Any) -> int:
        """Reads into libfuse's own memory, which it frees after the call: the view ends before that."""
        with _view_memory(memory, size, _PY_BUF_WRITE) as buffer:
            count: int = self.operations("read", path.decode(_ENCODING), buffer, offset, fip.contents)
        return count

    def readdir(self, path: bytes, buf: Any, filler: Any, _offset: int, fip: Any) -> int:
        filler(buf, b".", None, 0)
        filler(buf, b"..", None, 0)
        status = fuse.c_stat()
        for name, status.st_ino, status.st_mode in self.operations("readdir", path.decode(_ENCODING), fip.contents.fh):
            if filler(buf, _as_bytes(name), status, 0):
                break
        return 0


def _fill(status: Any, attributes: Attributes) -> None:
    status.st_ino, status.st_mode, status.st_nlink = attributes.ino, attributes.mode, attributes.nlink
    status.st_uid, status.st_gid = _OWNER
    status.st_size, status.st_blocks, status.st_blksize = attributes.size, attributes.blocks, _BLOCK_BYTES
    time = fuse.c_timespec(*divmod(attributes.mtime_ns, 10**9))
    status.st_atimespec = status.st_mtimespec = status.st_ctimespec = time


def serve(
    tree: Tree,
    xattrs: Xattrs,
    mountpoint: Path,
    *,
    timeout_s: float,
    close: Callable[[], None],
    allow_other: bool = False,
    options: Sequence[str] = (),
    error_log: ErrorLog | None = None,
    source: str = "cambfs",
    on_ready: Callable[[], None] = lambda: None,
    on_hangup: Callable[[], None] | None = None,
) -> int | None:
    """Mounts and serves until unmounted, or until SIGINT or SIGTERM; returns the signal, or None.

    An operation waits at most `timeout_s`. `close` is called at a signal and lets all operations fail. SIGHUP calls
    `on_hangup`; without it, SIGHUP ends the mount, too. Call it in the main thread, before other threads start that
    should not get these signals: it blocks them. `source` is what `df` shows. `on_ready` is called at the kernel's
    first request. Raises ConfigError when the mount is refused.
    """
    session = Session(on_ready)
    mount_options = _mount_options(source, allow_other, options)
    umask = int(str(mount_options.pop("umask", "0")), 8)
    if umask:  # without this the kernel leaves all checks to cambfs
        mount_options["default_permissions"] = True
    operations = Operations(tree, xattrs, Errnos(error_log or ErrorLog()), session, timeout_s, umask)
    session.end_on_signals(close, on_hangup)
    try:
        _Binding(operations, os.fsencode(mountpoint).decode(_ENCODING), **mount_options)
    except RuntimeError as error:
        raise ConfigError(f"cannot mount at {mountpoint}") from error
    finally:
        session.ignore_late_signals()
    return session.ended_by


def _mount_options(source: str, allow_other: bool, options: Sequence[str]) -> dict[str, str | int | bool]:
    chosen = (option.partition("=") for option in options)
    return (
        _OPTIONS | {"fsname": source, "allow_other": allow_other} | {name: value or True for name, _, value in chosen}
    )
