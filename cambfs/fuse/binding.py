"""What the two bindings have in common: the interface for the adapter, and libfuse's most frequent calls.

fusepy and mfusepy are ctypes modules with the same names for the same things. The rest is in `binding_fuse2` and
`binding_fuse3`. Threads: libfuse's call `Callbacks`; `operations` says more.
"""

from __future__ import annotations

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from cambfs.fuse.interrupts import is_killed
from cambfs.fuse.operations import BLOCK_BYTES, Operations
from cambfs.vfs.nodes import Attributes

Options = Mapping[str, str | int | bool]

# Requests that no process waits for, such as reads ahead. With libfuse's 12 a few stalled results stall all others.
MAX_BACKGROUND = 512

_OWNER = os.getuid(), os.getgid()
_PY_BUF_WRITE = 0x200
_view_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_view_memory.argtypes, _view_memory.restype = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int), ctypes.py_object


def as_text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def as_bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class Binding(ABC):
    """A libfuse that is loaded, with the Python module that binds it. The operations ask it about their requests."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def _context(self) -> Any:
        return self._module._libfuse.fuse_get_context().contents

    def uid(self) -> int:
        return int(self._context().uid)

    def is_killed(self) -> bool:
        return bool(self._module._libfuse.fuse_interrupted()) and is_killed(self._context().pid)

    def loop_exit(self) -> Callable[[], None]:
        loop = ctypes.c_void_p(self._context().fuse)
        return lambda: self._module._libfuse.fuse_exit(loop)

    @abstractmethod
    def serve(self, operations: Operations, mountpoint: bytes, options: Options) -> None:
        """Mounts, and returns when the mount has ended. Raises RuntimeError when the mount is refused; libfuse has
        printed the reason then."""


class Callbacks:
    """Shorter ways for the most frequent calls, for a subclass of a binding's class FUSE. Its own make a dictionary of
    every file's attributes, a structure for every name in a directory, and two copies of the bytes of a read."""

    module: Any
    call: Operations

    def fgetattr(self, path: bytes, status: Any, fip: Any) -> int:
        ctypes.memset(status, 0, ctypes.sizeof(self.module.c_stat))
        self.fill(status.contents, self.call("getattr", as_text(path), fip or None))
        return 0

    def fill(self, status: Any, attributes: Attributes) -> None:
        status.st_ino, status.st_mode, status.st_nlink = attributes.ino, attributes.mode, attributes.nlink
        status.st_uid, status.st_gid = _OWNER
        status.st_size, status.st_blocks, status.st_blksize = attributes.size, attributes.blocks, BLOCK_BYTES
        time = self.module.c_timespec(*divmod(attributes.mtime_ns, 10**9))
        status.st_atimespec = status.st_mtimespec = status.st_ctimespec = time

    def getxattr(self, path: bytes, name: bytes, value: Any, size: int) -> int:
        """`ls` and the kernel request attributes outside `user.`, too. After an "unsupported" for those, most programs
        do not ask again."""
        if not name.startswith(b"user."):
            return -errno.EOPNOTSUPP
        count: int = super().getxattr(path, name, value, size)  # type: ignore[misc]  # the binding's
        return count

    def read(self, path: bytes, memory: Any, size: int, offset: int, fip: Any) -> int:
        """Reads into libfuse's own memory, which it frees after the call: the view ends before that."""
        with _view_memory(memory, size, _PY_BUF_WRITE) as buffer:
            count: int = self.call("read", as_text(path), buffer, offset, fip.contents)
        return count
