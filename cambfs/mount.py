"""The adapter between the tree and the kernel, by way of fusepy: it translates, and nothing else.

The only module that imports fuse. Threads: libfuse starts one whenever all are busy; each runs one operation at a time
and waits in `library`. A thread named `signals` ends the mount on SIGINT, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Lock, Thread, main_thread
from typing import Any

from cambfs import errors
from cambfs.errors import CambfsError, ConfigError
from cambfs.journal import Journal
from cambfs.library import Library
from cambfs.patience import Patience
from cambfs.vfs import CONTROL, ENTRY_TIMEOUT_S, OpenFile, Tree, UrlStyle

try:
    import fuse
except OSError as error:  # fusepy looks for the library when it is imported
    raise ConfigError("libfuse.so.2 is missing: install the package libfuse2 (or libfuse2t64)") from error

log = logging.getLogger(__name__)

# The first of these that fits says the errno.
_ERRNOS: Sequence[tuple[type[CambfsError], int]] = (
    (errors.NoSuchName, errno.ENOENT),
    (errors.UnknownRun, errno.ENOENT),
    (errors.KeyRefused, errno.EACCES),
    (errors.ReadOnly, errno.EROFS),
    (errors.TimedOut, errno.ETIMEDOUT),
    (errors.ResultChanged, errno.ESTALE),
    (errors.TooLarge, errno.EFBIG),
    (errors.NoSpace, errno.ENOSPC),
    (errors.GivenUp, errno.EINTR),
    (errors.Closing, errno.ENODEV),
)
# What a user expects, and causes, all the time: not worth a line of the log; and of these, none of the journal.
_EXPECTED = (errors.NoSuchName, errors.UnknownRun, errors.ReadOnly, errors.GivenUp, errors.Closing)
_NOTHING_WRONG = (errors.NoSuchName, errors.ReadOnly, errors.GivenUp, errors.Closing)
_KILLING_SIGNALS = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL))
_BLOCK_BYTES = 128 * 1024
_FRAGMENT_BYTES = 4096
# How long a thread keeps the interpreter while others want it. With Python's 5 ms a busy transfer delays the readers.
_SWITCH_S = 0.0005
_WAKE_AGAIN_S = 0.02


def errno_of(error: CambfsError) -> int:
    """What the kernel is told."""
    if isinstance(error, errors.Unreachable):
        return error.errno
    return next((number for kind, number in _ERRNOS if isinstance(error, kind)), errno.EIO)


def _caller_is_killed() -> bool:
    """Whether the kernel interrupted the request of this thread, and for good: timers and the like interrupt, too."""
    if not fuse._libfuse.fuse_interrupted():
        return False
    _, _, pid = fuse.fuse_get_context()
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    pending = re.findall(r"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", status, re.MULTILINE)
    return any(int(mask, 16) & _KILLING_SIGNALS for mask in pending)


class Operations:
    """What fusepy calls. fusepy takes every attribute with the name of an operation for one, so the state has others;
    an operation that is not here is answered by the kernel (EROFS, on a read-only mount) or libfuse."""

    use_ns = True

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        session: _Session,
        timeout_s: float,
        url_owner_only: bool,
        on_ready: Callable[[], None],
    ) -> None:
        self._tree = tree
        self._journal = journal
        self._session = session
        self._timeout_s = timeout_s
        self._url_owner_only = url_owner_only
        self._on_ready = on_ready
        self._uid, self._gid = os.getuid(), os.getgid()
        self._table = Lock()  # guards the next two
        self._open_files: dict[int, OpenFile] = {}
        self._last_fh = 0
        self._noted: CambfsError | None = None  # one word; a failure that is met again is noted once

    def __call__(self, operation: str, *arguments: Any) -> Any:
        """Every operation comes through here. Only FuseOSError goes out: fusepy hands anything else to the kernel as
        EINVAL, or worse."""
        try:
            return getattr(self, operation)(*arguments)
        except CambfsError as error:
            self._note(operation, arguments[0], error)
            raise fuse.FuseOSError(errno_of(error)) from None
        except fuse.FuseOSError:
            raise
        except Exception:
            log.exception("%s failed in a way that nobody foresaw", operation)
            raise fuse.FuseOSError(errno.EIO) from None

    def _note(self, operation: str, path: str, error: CambfsError) -> None:
        if error is self._noted:
            return
        self._noted = error.with_traceback(None)
        name = errno.errorcode[errno_of(error)]
        level = logging.DEBUG if isinstance(error, _EXPECTED) else logging.WARNING
        log.log(level, "%s %s: %s (%s)", operation, path, error, name)
        if not isinstance(error, _NOTHING_WRONG):
            self._journal.add(operation, path, error, name)

    def _patience(self) -> Patience:
        return Patience(self._timeout_s, _caller_is_killed)

    def init(self, _path: str) -> None:
        self._session.begin()
        self._on_ready()

    def destroy(self, _path: str) -> None:
        self._session.end()

    def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
        attributes = self._tree.attributes(path, self._patience(), is_lookup_possible=fh is None)
        return {
            "st_ino": attributes.ino,
            "st_mode": attributes.mode,
            "st_nlink": attributes.nlink,
            "st_size": attributes.size,
            "st_blocks": attributes.blocks,
            "st_blksize": _BLOCK_BYTES,
            "st_uid": self._uid,
            "st_gid": self._gid,
            "st_atime": attributes.mtime_ns,
            "st_mtime": attributes.mtime_ns,
            "st_ctime": attributes.mtime_ns,
        }

    def access(self, path: str, mode: int) -> int:
        if mode != os.F_OK:
            self._refuse_others(path)
        self._tree.check_exists(path, self._patience())
        return 0

    def readdir(self, path: str, _fh: int) -> list[tuple[str, int]]:
        return list(self._tree.names(path))

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
        fi.keep_cache = opened.keep_pages
        fi.direct_io = opened.is_live
        return 0

    def _refuse_others(self, path: str) -> None:
        is_private = self._url_owner_only and (path.endswith(".url") or path.startswith(f"{CONTROL}/"))
        if is_private and fuse.fuse_get_context()[0] not in (0, self._uid):
            raise fuse.FuseOSError(errno.EACCES)

    def read(self, _path: str, size: int, offset: int, fi: Any) -> bytes:
        opened = self._open_files[fi.fh]
        data = opened.read(offset, size, self._patience())
        if not (data or opened.is_live or offset == 0 or opened.read(offset - 1, 1, self._patience())):
            # The kernel only asks for pages beyond the end when it does not know the size yet. From an empty answer it
            # would learn one that is too large, and not believe the right one that comes a moment later.
            raise fuse.FuseOSError(errno.EIO)
        return data

    def release(self, _path: str, fi: Any) -> int:
        with self._table:
            opened = self._open_files.pop(fi.fh)
        opened.close()
        return 0


class _Binding(fuse.FUSE):  # type: ignore[misc]  # fusepy has no types
    """fusepy, with a faster way through large directories: its own makes a new structure for every name."""

    def readdir(self, path: bytes, buf: Any, filler: Any, _offset: int, fip: Any) -> int:
        filler(buf, b".", None, 0)
        filler(buf, b"..", None, 0)
        status = fuse.c_stat()
        status.st_mode = 0o100444  # of this only the type is used, and with `use_ino` the number
        for name, status.st_ino in self.operations("readdir", self._decode_optional_path(path), fip.contents.fh):
            if filler(buf, name.encode("ascii"), status, 0):
                break
        return 0


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
    journal = Journal()
    tree = Tree(library, url_style, url_mode, {"errors": journal.text, "pid": lambda: f"{os.getpid()}\n".encode()})
    session = _Session()
    operations = Operations(tree, journal, session, library.timeout_s, allow_other, on_ready)
    _end_on_signals(library, session)
    sys.setswitchinterval(_SWITCH_S)
    _allow_many_open_files()
    try:
        _Binding(
            operations,
            os.fsencode(mountpoint).decode("latin-1"),
            encoding="latin-1",  # so that no name fails to decode; only names of ASCII characters exist
            raw_fi=True,
            foreground=True,
            **_mount_options(allow_other, options),
        )
    except RuntimeError as error:
        raise ConfigError(f"cannot mount at {mountpoint}") from error
    finally:
        # It may still be on its way when Python gives the signals back.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def _allow_many_open_files() -> None:
    """Every open or partly fetched result has a descriptor; the usual limit is meant for programs that use select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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


def _end_on_signals(library: Library, session: _Session) -> None:
    """libfuse's own handlers would wait for the operations that wait; so first these are ended, then its loop."""
    ending = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    # Given `intr`, libfuse has an empty handler of its own for this one, but takes it away before it has ended. A
    # handler that is there already it leaves alone.
    signal.signal(signal.SIGUSR1, lambda *_: None)

    def end() -> None:
        signal.sigwait(ending)
        try:
            library.close()
        finally:
            session.exit()

    Thread(target=end, name="signals", daemon=True).start()


class _Session:
    """libfuse's loop, as far as another thread may end it: from `begin` to `end`, which the loop's thread calls."""

    def __init__(self) -> None:
        self._begun = Event()
        self._ended = Event()
        self._lock = Lock()  # held while libfuse's session is used, so that it is not freed meanwhile
        self._pointer: int | None = None

    def begin(self) -> None:
        self._pointer = fuse._libfuse.fuse_get_context().contents.fuse
        self._begun.set()

    def end(self) -> None:
        with self._lock:
            self._pointer = None
        self._ended.set()

    def exit(self) -> None:
        """Makes the loop end, and libfuse unmount, also while somebody is in there; waits until it has begun to."""
        self._begun.wait()
        with self._lock:
            if self._pointer is not None:
                fuse._libfuse.fuse_exit(ctypes.c_void_p(self._pointer))
        # The loop looks only when a signal wakes its thread.
        while not self._ended.wait(_WAKE_AGAIN_S):
            signal.pthread_kill(main_thread().ident or 0, signal.SIGUSR1)
