"""libfuse 3 through mfusepy.

libfuse and the kernel agree on reads of up to 1 MiB by themselves. Threads: libfuse's loop runs in the main thread; its
threads respond to all requests, also to the first one. libfuse starts one whenever all are busy.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import mfusepy

from cambfs.fuse.binding import MAX_BACKGROUND, Binding, Callbacks, Options, as_bytes, as_text
from cambfs.fuse.operations import BLOCK_BYTES, Operations

# With libfuse's ten threads, ten stalled results stall all others. It keeps as many idle ones as libfuse 2.
_MAX_THREADS, _MAX_IDLE_THREADS = 100_000, 10
_LIMITS_THREADS = (3, 12)  # the first libfuse that has a limit

# Capabilities of libfuse's fuse_common.h that a mount does without. AUTO_INVAL_DATA: with it the kernel asks for the
# attributes at every read, because they have no lifetime.
_AUTO_INVAL_DATA = 1 << 12
# A listing with attributes saves nothing when these have no lifetime; the kernel remembers names anyhow.
_READDIRPLUS = 1 << 13 | 1 << 14
# Two pipes for each thread, to receive requests that are short.
_SPLICE = 1 << 7 | 1 << 8 | 1 << 9
_UNWANTED = _AUTO_INVAL_DATA | _READDIRPLUS | _SPLICE


class Fuse3(Binding):
    def __init__(self) -> None:
        super().__init__(mfusepy)

    def serve(self, operations: Operations, mountpoint: bytes, options: Options) -> None:
        _Mount(operations, as_text(mountpoint), dict(options))


def _by_name(operations: Operations) -> SimpleNamespace:
    """The operations as mfusepy calls them: as methods."""
    names = [name for name in dir(operations) if not name.startswith("_") and callable(getattr(operations, name))]
    return SimpleNamespace(use_ns=operations.use_ns, **{name: partial(operations, name) for name in names})


class _Mount(Callbacks, mfusepy.FUSE):  # type: ignore[misc]  # its annotations are those of its own operations
    module = mfusepy

    def __init__(self, operations: Operations, mountpoint: str, options: dict[str, str | int | bool]) -> None:
        self.call = operations
        self._max_readahead_bytes = int(options.pop("max_readahead", BLOCK_BYTES))
        self._max_read_bytes = int(options.get("max_read", 0))
        super().__init__(_by_name(operations), mountpoint, raw_fi=True, foreground=True, **options, **_threads())

    def init_fuse_3(self, conn: Any, config: Any) -> None:
        """libfuse 3 has no mount options for most of what libfuse and the kernel agree on."""
        agreed = conn.contents
        agreed.max_background = MAX_BACKGROUND
        agreed.max_readahead = min(agreed.max_readahead, self._max_readahead_bytes)
        if self._max_read_bytes:
            agreed.max_read = self._max_read_bytes  # the mount option has to be repeated here
        agreed.want &= ~_UNWANTED
        super().init_fuse_3(conn, config)

    def readdir_fuse_3(self, path: bytes, buf: Any, filler: Any, _offset: int, fip: Any, _flags: int) -> int:
        filler(buf, b".", None, 0, 0)
        filler(buf, b"..", None, 0, 0)
        status = mfusepy.c_stat()
        for name, status.st_ino, status.st_mode in self.call("readdir", as_text(path), fip.contents.fh):
            if filler(buf, as_bytes(name), status, 0, 0):
                break
        return 0


def _threads() -> dict[str, int]:
    idle = {"max_idle_threads": _MAX_IDLE_THREADS}
    version = mfusepy.fuse_version_major, mfusepy.fuse_version_minor
    return {"max_threads": _MAX_THREADS, **idle} if version >= _LIMITS_THREADS else idle
