"""What the branches of the tree have in common: the attributes of a node, an entry of a directory, the operations.

`tree` puts the branches together. Threads: any; `_lock` is a leaf.
"""

from __future__ import annotations

import math
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from threading import Lock
from typing import NamedTuple

from cachetools import TTLCache

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.vfs.open_files import OpenFile

# How long the kernel may remember a name. It only saves lookups.
ENTRY_TIMEOUT_S = 300
# The size in a response while the size is unknown. The kernel asks again before it shows a size to a program. Calls
# that read without asking (sendfile, splice) read until the end of the file, so a size that is too large does no harm.
PROVISIONAL_SIZE = 1 << 40
ROOT_INODE = 1
DIRECTORY_MODE = stat.S_IFDIR | 0o755  # a copy of the tree gets this mode, and can then be removed
FILE_MODE = stat.S_IFREG | 0o444
SECRET_MODE = stat.S_IFREG | 0o400  # private to the user of the mount
LINK_MODE = stat.S_IFLNK | 0o777
_BLOCK_BYTES = 512

# A name in a directory, its inode, and its mode, of which only the type counts. Plain tuples: a listing may have
# 100,000.
Entry = tuple[str, int, int]


class Attributes(NamedTuple):
    """`size` in bytes; `mtime_ns` since the epoch."""

    ino: int
    mode: int
    nlink: int
    size: int
    mtime_ns: int

    @property
    def blocks(self) -> int:
        """In the unit of stat(2), 512 bytes."""
        return -(-self.size // _BLOCK_BYTES)


class Provisional:
    """A file gets PROVISIONAL_SIZE at most once while the kernel may remember its name: meanwhile the kernel requests
    attributes without a lookup, and needs the true size. `timer`: seconds, as the kernel counts them."""

    def __init__(self, timer: Callable[[], float]) -> None:
        self._lock = Lock()  # guards the next one
        self._paths: TTLCache[str, bool] = TTLCache(math.inf, ENTRY_TIMEOUT_S + 10, timer=timer)

    def is_first(self, path: str) -> bool:
        """Whether the file may get a provisional size now. The next call returns False."""
        with self._lock:
            if path in self._paths:
                return False
            self._paths[path] = True
            return True


class Branch(ABC):
    """A part of the tree: the top-level names that the tree gives to it, and all paths below them. Paths are whole,
    from the root of the mount on. Every method raises NoSuchName for a path that is not there or not of its kind, and
    other CambfsErrors."""

    @abstractmethod
    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:
        """Waits for the node's attributes. A lookup must not wait, since the kernel makes one at a time in a directory.
        So when the request may be a lookup, the first response for a file of unknown size has PROVISIONAL_SIZE."""

    @abstractmethod
    def open(self, path: str, deadline: Deadline) -> OpenFile: ...

    def readlink(self, path: str, deadline: Deadline) -> str:  # noqa: ARG002
        """The target of a symbolic link."""
        raise NoSuchName(f"{path!r} is not a symbolic link")

    def listed_mode(self) -> int | None:
        """The mode of the branch where the root lists it now, else None. It costs little: every listing of the root
        calls it, and needs no size."""
        return None

    def names(self, path: str) -> Iterator[Entry]:
        """The entries of a directory as they are now, without `.` and `..`."""
        raise NoSuchName(f"{path!r} is not a directory")

    def is_private(self, path: str) -> bool:  # noqa: ARG002
        """Whether only the user of the mount, and root, may read the file."""
        return False
