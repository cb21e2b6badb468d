"""The adapter between the tree and the kernel, by way of fusepy: it translates, and nothing else.

The only module that imports fuse. Threads: libfuse starts one whenever all are busy; each runs one operation at a time
and waits in `library`. `signals` has the one that ends the mount.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from cambfs.errors import CambfsError, ConfigError
from cambfs.fuse import handshake, threadstate
from cambfs.fuse.errnos import Failures
from cambfs.fuse.error_log import Journal
from cambfs.fuse.interrupts import is_killed
from cambfs.fuse.readbuf import begin_answer
from cambfs.fuse.signals import Session
from cambfs.runs.deadline import Patience
from cambfs.runs.library import Library
from cambfs.system import limits
from cambfs.vfs.open_files import OpenFile
from cambfs.vfs.tree import CONTROL, ENTRY_TIMEOUT_S, Attributes, Tree, UrlStyle

try:
    import fuse
except OSError as error:  # fusepy looks for the library when it is imported
    raise ConfigError("libfuse.so.2 is missing: install the package libfuse2 (or libfuse2t64)") from error

log = logging.getLogger(__name__)

_OWNER = os.getuid(), os.getgid()
_BLOCK_BYTES = 128 * 1024
_FRAGMENT_BYTES = 4096

_OLDEST_LIBFUSE = 29  # 2.9; as `fuse_version` says it

_THREADS_END_S = 1.0

_ReadBuf = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_size_t,
    fuse.c_off_t,
    ctypes.POINTER(fuse.fuse_file_info),
)


def _caller_is_killed() -> bool:
    """Whether the kernel interrupted the request of this thread, and for good."""
    if not fuse._libfuse.fuse_interrupted():
        return False
    _, _, pid = fuse.fuse_get_context()
    return is_killed(pid)


class Operations:
    """What fusepy calls. fusepy takes every attribute with the name of an operation for one, so the state has others;
    an operation that is not here is answered by the kernel (EROFS, on a read-only mount) or libfuse."""

    use_ns = True

    def __init__(
        self,
        tree: Tree,
        failures: Failures,
        session: Session,
        timeout_s: float,
        url_owner_only: bool,
        on_ready: Callable[[], None],
    ) -> None:
        self._tree = tree
        self._failures = failures
        self._session = session
        self._timeout_s = timeout_s
        self._url_owner_only = url_owner_only
        self._on_ready = on_ready
        self._table = Lock()  # guards the next two
        self._open_files: dict[int, OpenFile] = {}
        self._last_fh = 0

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Every operation comes through here. Only FuseOSError goes out: fusepy hands anything else to the kernel as
        EINVAL, or worse."""
        try:
            threadstate.keep()
            return getattr(self, operation)(*arguments)
        except CambfsError as error:
            number = self._failures.note(operation, arguments[0], error)
            error.with_traceback(None)  # an open file may remember it, and not what was on the stack
            raise fuse.FuseOSError(number) from None
        except fuse.FuseOSError:
            raise
        except MemoryError:
            raise fuse.FuseOSError(errno.ENOMEM) from None
        except Exception:
            log.exception("%s failed in a way that nobody foresaw", operation)
            raise fuse.FuseOSError(errno.EIO) from None

    def _patience(self) -> Patience:
        return Patience(self._timeout_s, _caller_is_killed)

    def init(self, _path: str) -> None:
        loop = ctypes.c_void_p(fuse._libfuse.fuse_get_context().contents.fuse)
        self._session.begin(lambda: fuse._libfuse.fuse_exit(loop))
        self._on_ready()

    def destroy(self, _path: str) -> None:
        self._session.end()

    def getattr(self, path: str, fh: Any = None) -> Attributes:
        return self._tree.attributes(path, self._patience(), is_lookup_possible=fh is None)

    def access(self, path: str, mode: int) -> int:
        if mode != os.F_OK:
            self._refuse_others(path)
        self._tree.check_exists(path, self._patience())
        return 0

    def readdir(self, path: str, _fh: int) -> Iterator[tuple[str, int]]:
        return self._tree.names(path)

    def statfs(self, _path: str) -> dict[str, int]:
        used_bytes, files = self._tree.usage()
        blocks = -(-used_bytes // _FRAGMENT_BYTES)
        return {
            "f_bsize": _BLOCK_BYTES,
            "f_frsize": _FRAGMENT_BYTES,
            "f_blocks": blocks,
            "f_files": files,
            "f_namemax": 255,
        }

    def open(self, path: str, fi: Any) -> int:
        self._refuse_others(path)
        opened = self._tree.open(path, self._patience())
        with self._table:
            self._last_fh += 1
            fi.fh = self._last_fh
            self._open_files[fi.fh] = opened
        fi.keep_cache = opened.keeps_pages
        fi.direct_io = opened.bypasses_pages
        return 0

    def _refuse_others(self, path: str) -> None:
        is_private = self._url_owner_only and (path.endswith(".url") or path.startswith(f"{CONTROL}/"))
        if is_private and fuse.fuse_get_context()[0] not in (0, _OWNER[0]):
            raise fuse.FuseOSError(errno.EACCES)

    def read(self, _path: str, place: Any, length: int, offset: int, fi: Any) -> None:
        answer = begin_answer(place)
        opened = self._open_files[fi.fh]
        count = opened.readinto(offset, length, answer.room, self._patience())
        if not (count or opened.bypasses_pages or offset == 0):
            self._check_is_end(opened, offset)

    def _check_is_end(self, opened: OpenFile, offset: int) -> None:
        """The kernel only asks for pages beyond the end when it does not know the size yet. From an empty answer it
        would learn one that is too large, and not believe the right one that comes a moment later."""
        if not opened.readinto(offset - 1, 1, lambda count: memoryview(bytearray(count)), self._patience()):
            raise fuse.FuseOSError(errno.EIO)

    def release(self, _path: str, fi: Any) -> int:
        with self._table:
            opened = self._open_files.pop(fi.fh)
        opened.close()
        return 0


class _MoreOperations(fuse.fuse_operations):  # type: ignore[misc]  # fusepy has no types
    """struct fuse_operations, a few members longer than fusepy's."""

    _fields_ = (("poll", ctypes.c_void_p), ("write_buf", ctypes.c_void_p), ("read_buf", _ReadBuf))


class _Binding(fuse.FUSE):  # type: ignore[misc]
    """fusepy, with shorter ways where it is asked most: its own make a dictionary of every file's attributes, a
    structure for every name in a directory, and two copies of what is read."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # fusepy calls this one function to mount and to serve.
        original, fuse._libfuse.fuse_main_real = fuse._libfuse.fuse_main_real, self._serve
        try:
            super().__init__(*arguments, **options)
        finally:
            fuse._libfuse.fuse_main_real = original

    def _serve(self, argc: int, argv: Any, operations: Any, size: int, _data: None) -> int:
        # libfuse prefers `read_buf` to the `read` that fusepy has put there.
        more = _MoreOperations(read_buf=_ReadBuf(partial(self._wrapper, self.read_buf)))
        ctypes.memmove(ctypes.byref(more), operations, size)
        return handshake.serve(fuse._libfuse, argc, argv, ctypes.byref(more), ctypes.sizeof(more))

    def fgetattr(self, path: bytes, status: Any, fip: Any) -> int:
        ctypes.memset(status, 0, ctypes.sizeof(fuse.c_stat))
        _fill(status.contents, self.operations("getattr", path.decode(self.encoding), fip))
        return 0

    def read_buf(self, path: bytes, place: Any, size: int, offset: int, fip: Any) -> None:
        self.operations("read", self._decode_optional_path(path), place, size, offset, fip.contents)

    def readdir(self, path: bytes, buf: Any, filler: Any, _offset: int, fip: Any) -> int:
        filler(buf, b".", None, 0)
        filler(buf, b"..", None, 0)
        status = fuse.c_stat()
        status.st_mode = 0o100444  # of this only the type is used, and with `use_ino` the number
        for name, status.st_ino in self.operations("readdir", self._decode_optional_path(path), fip.contents.fh):
            if filler(buf, name.encode("ascii"), status, 0):
                break
        return 0


def _fill(status: Any, attributes: Attributes) -> None:
    status.st_ino, status.st_mode, status.st_nlink = attributes.ino, attributes.mode, attributes.nlink
    status.st_uid, status.st_gid = _OWNER
    status.st_size, status.st_blocks, status.st_blksize = attributes.size, attributes.blocks, _BLOCK_BYTES
    time = fuse.c_timespec(*divmod(attributes.mtime_ns, 10**9))
    status.st_atimespec = status.st_mtimespec = status.st_ctimespec = time


def serve(
    library: Library,
    mountpoint: Path,
    *,
    url_style: UrlStyle = UrlStyle.JSON,
    allow_other: bool = False,
    options: Sequence[str] = (),
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Mounts and serves until unmounted, or until SIGINT, SIGTERM or SIGHUP.

    Call it in the main thread, before others are started that should not get these signals: it blocks them. `on_ready`
    is called when the kernel's first request has come. Raises ConfigError when the mount is refused.
    """
    url_mode = 0o400 if allow_other else 0o444
    if fuse._libfuse.fuse_version() < _OLDEST_LIBFUSE:
        raise ConfigError("libfuse is too old: install version 2.9")
    journal = Journal()
    tree = Tree(library, url_style, url_mode, {"errors": journal.text, "pid": lambda: f"{os.getpid()}\n".encode()})
    session = Session()
    operations = Operations(tree, Failures(journal), session, library.timeout_s, allow_other, on_ready)
    session.end_on_signals(library.close)
    limits.allow_many_open_files()
    limits.give_memory_back()
    try:
        _run_loop(operations, mountpoint, _mount_options(allow_other, options))
    finally:
        session.ignore_late_signals()


def _run_loop(operations: Operations, mountpoint: Path, options: Mapping[str, str | int | bool]) -> None:
    path = os.fsencode(mountpoint).decode("latin-1")
    try:
        # latin-1, so that no name fails to decode; only names of ASCII characters exist.
        _Binding(operations, path, encoding="latin-1", raw_fi=True, foreground=True, **options)
    except RuntimeError as error:
        raise ConfigError(f"cannot mount at {mountpoint}") from error
    finally:
        threadstate.await_ends(_THREADS_END_S)  # libfuse does not wait for those that it needed no more


def _mount_options(allow_other: bool, options: Sequence[str]) -> dict[str, str | int | bool]:
    ours: dict[str, str | int | bool] = {
        "ro": True,
        "nosuid": True,
        "nodev": True,
        "noexec": True,
        "fsname": "cambfs",
        "subtype": "cambfs",
        "use_ino": True,
        "intr": True,
        "attr_timeout": 0,
        "entry_timeout": ENTRY_TIMEOUT_S,
        "max_background": 512,
        "max_readahead": _BLOCK_BYTES,
    }
    if allow_other:
        ours["allow_other"] = True
    for option in options:
        name, _, value = option.partition("=")
        ours[name] = value or True
    return ours
