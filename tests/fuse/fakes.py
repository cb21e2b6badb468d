"""A tree of a few files, and what libfuse says of a request."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from cambfs import errors
from cambfs.deadline import Deadline
from cambfs.fuse.errnos import Errnos
from cambfs.fuse.error_log import ErrorLog
from cambfs.fuse.operations import Operations
from cambfs.fuse.signals import Session
from cambfs.vfs.nodes import Attributes, Entry
from cambfs.vfs.tree import Tree
from cambfs.vfs.xattrs import Xattrs

CONTENT = bytes(range(250)) * 4
FILE = Attributes(20, stat.S_IFREG | 0o444, 1, len(CONTENT), 1_700_000_000 * 10**9 + 5)


class FakeFile:
    keep_cache, direct_io = True, False

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.closed = 0

    def readinto(self, offset: int, buffer: memoryview, _deadline: Deadline) -> int:
        piece = self.content[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self.closed += 1


class FakeTree:
    """A few files, all with the same content, and an error to raise."""

    def __init__(self) -> None:
        self.file = FakeFile()
        self.error: BaseException | None = None
        self.lookups: list[bool] = []

    def _check(self, path: str) -> None:
        if self.error is not None:
            raise self.error
        if path not in ("/1.flac", "/1.url", "/.cambfs/errors"):
            raise errors.NoSuchName(path)

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:
        self._check(path)
        self.lookups.append(is_lookup_possible)
        return FILE

    def check_exists(self, path: str, _deadline: Deadline) -> None:
        self._check(path)

    def open(self, path: str, _deadline: Deadline) -> FakeFile:
        self._check(path)
        return self.file

    def names(self, _path: str) -> Iterator[Entry]:
        return iter([("1.flac", 20, stat.S_IFREG), ("Bäche", 21, stat.S_IFLNK)])

    def readlink(self, path: str, _deadline: Deadline) -> str:
        return f"to {path}"

    def is_private(self, path: str) -> bool:
        return path.endswith(".url") or path.startswith("/.cambfs/")

    def usage(self) -> tuple[int, int]:
        return 4097, 2


class FakeXattrs:
    """Those of one file."""

    def of(self, path: str) -> dict[str, bytes]:
        return {"user.cambfs.state": b"remote", "user.b": b""} if path == "/1.flac" else {}


class FakeRequest:
    """From this user, and not killed."""

    def __init__(self) -> None:
        self.who = os.getuid()

    def uid(self) -> int:
        return self.who

    def is_killed(self) -> bool:
        return False

    def loop_exit(self) -> Callable[[], None]:
        return lambda: None


@dataclass
class FileInfo:
    flags: int = os.O_RDONLY
    fh: int = 0
    keep_cache: bool = False
    direct_io: bool = False


def make_operations(tree: FakeTree, request: FakeRequest | None = None) -> Operations:
    return Operations(
        cast("Tree", tree),
        cast("Xattrs", FakeXattrs()),
        Errnos(ErrorLog()),
        Session(),
        request or FakeRequest(),
        timeout_s=1.0,
    )
