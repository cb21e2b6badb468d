"""The adapter's operations against a fake tree: the results for the kernel, without a kernel."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import stat
from collections.abc import Iterator
from typing import Any, cast

import fuse
import pytest

from cambfs import errors
from cambfs.deadline import Deadline
from cambfs.fuse import adapter
from cambfs.fuse.adapter import Operations
from cambfs.fuse.errnos import Errnos
from cambfs.fuse.error_log import ErrorLog
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


@pytest.fixture
def tree() -> FakeTree:
    return FakeTree()


@pytest.fixture
def operations(tree: FakeTree) -> Operations:
    return Operations(cast("Tree", tree), cast("Xattrs", FakeXattrs()), Errnos(ErrorLog()), Session(), 1.0)


@pytest.fixture
def binding(operations: Operations) -> Any:
    """The binding without its constructor, which mounts."""
    binding = adapter._Binding.__new__(adapter._Binding)
    binding.operations, binding.encoding, binding.raw_fi = operations, "latin-1", True
    return binding


def _opened(operations: Operations) -> Any:
    fi = fuse.fuse_file_info()
    assert operations("open", "/1.flac", fi) == 0
    return fi


def _read(binding: Any, fi: Any, size: int, offset: int) -> tuple[int, bytes]:
    """The binding's return value to libfuse, and libfuse's memory with a guard of 8 bytes behind it."""
    memory = (ctypes.c_byte * (size + 8))(*b"-" * (size + 8))
    count = binding.read(
        b"/1.flac", ctypes.cast(memory, ctypes.POINTER(ctypes.c_byte)), size, offset, ctypes.pointer(fi)
    )
    return count, bytes(memory)


def _errno(operations: Operations, *call: Any) -> str:
    with pytest.raises(fuse.FuseOSError) as failed:
        operations(*call)
    return errno.errorcode[failed.value.errno]


# Names that are not ASCII.


@pytest.mark.parametrize("name", ["/Bäche", "/\udcff", "/音"])
def test_a_path_is_utf8_and_a_byte_that_is_none_comes_back_as_itself(binding: Any, name: str) -> None:
    buffer = ctypes.create_string_buffer(100)
    path = name.encode("utf-8", "surrogateescape")

    assert binding.readlink(path, buffer, 100) == 0
    assert buffer.value == b"to " + path


# Reading.


@pytest.mark.parametrize(("offset", "size", "count"), [(0, 100, 100), (900, 100, 100), (950, 100, 50), (1000, 100, 0)])
def test_a_read_goes_into_the_memory_of_libfuse_and_not_beyond(
    binding: Any, operations: Operations, offset: int, size: int, count: int
) -> None:
    returned, memory = _read(binding, _opened(operations), size, offset)

    assert returned == count
    assert memory == CONTENT[offset : offset + count] + b"-" * (size + 8 - count)


def test_nobody_has_the_memory_of_libfuse_after_the_read(binding: Any, operations: Operations, tree: FakeTree) -> None:
    kept: list[memoryview] = []
    tree.file.readinto = lambda _offset, buffer, _deadline: kept.append(buffer) or 4  # type: ignore[method-assign, assignment, func-returns-value]
    _read(binding, _opened(operations), 4, 0)

    with pytest.raises(ValueError, match="released"):
        kept[0][0]


def test_an_empty_answer_before_the_end_is_an_error(binding: Any, operations: Operations, tree: FakeTree) -> None:
    """The kernel would believe that the file ends there."""
    fi = _opened(operations)
    tree.file.content = CONTENT[:500]
    with pytest.raises(fuse.FuseOSError) as failed:
        _read(binding, fi, 100, 700)

    assert failed.value.errno == errno.EIO
    assert _read(binding, fi, 100, 500)[0] == 0


def test_open_tells_the_kernel_about_its_pages_and_release_closes(operations: Operations, tree: FakeTree) -> None:
    first, second = _opened(operations), _opened(operations)
    assert first.fh != second.fh
    assert (first.keep_cache, first.direct_io) == (1, 0)

    operations("release", "/1.flac", first)
    operations("release", "/1.flac", second)
    assert tree.file.closed == 2


# Attributes, names and the file system.


def test_attributes_in_the_words_of_stat(binding: Any) -> None:
    status = ctypes.pointer(fuse.c_stat())
    assert binding.fgetattr(b"/1.flac", status, None) == 0

    got = status.contents
    assert (got.st_ino, got.st_mode, got.st_nlink, got.st_size, got.st_blocks) == (20, 0o100444, 1, 1000, 2)
    assert (got.st_uid, got.st_gid) == (os.getuid(), os.getgid())
    assert (got.st_mtimespec.tv_sec, got.st_mtimespec.tv_nsec) == (1_700_000_000, 5)


def test_only_a_question_without_a_handle_may_be_a_lookup(operations: Operations, tree: FakeTree) -> None:
    operations("getattr", "/1.flac", None)
    operations("getattr", "/1.flac", fuse.fuse_file_info())
    assert tree.lookups == [True, False]


@pytest.mark.parametrize("until_full", [2, 3, 9])
def test_names_are_given_until_the_kernel_has_enough(binding: Any, until_full: int) -> None:
    given: list[tuple[bytes, int]] = []

    def filler(_buffer: None, name: bytes, status: Any, _offset: int) -> int:
        given.append((name, status.st_ino if status else 0))
        return int(len(given) > until_full)

    binding.readdir(b"/", None, filler, 0, ctypes.pointer(fuse.fuse_file_info()))
    assert given == [(b".", 0), (b"..", 0), (b"1.flac", 20), ("Bäche".encode(), 21)][: until_full + 1]


def test_the_file_system_is_as_large_as_what_it_holds(operations: Operations) -> None:
    told = operations("statfs", "/")
    assert (told["f_blocks"] * told["f_frsize"], told["f_files"]) == (8192, 2)


# Refusals.


@pytest.mark.parametrize(
    "call",
    [
        ("mknod", "/a", 0o100644, 0),
        ("mkdir", "/a", 0o755),
        ("unlink", "/1.flac"),
        ("rmdir", "/.cambfs"),
        ("symlink", "/a", "/1.flac"),
        ("rename", "/1.flac", "/2.flac"),
        ("link", "/a", "/1.flac"),
        ("create", "/a", 0o644, None),
        ("truncate", "/1.flac", 0),
        ("chmod", "/1.flac", 0o600),
        ("chown", "/1.flac", 0, 0),
        ("utimens", "/1.flac", None),
        ("setxattr", "/1.flac", "user.a", b"", 0),
        ("removexattr", "/1.flac", "user.a"),
    ],
    ids=lambda call: call[0],
)
def test_every_write_is_refused(operations: Operations, call: tuple[Any, ...]) -> None:
    assert _errno(operations, *call) == "EROFS"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND])
def test_to_open_for_writing_is_refused(operations: Operations, flags: int) -> None:
    assert _errno(operations, "open", "/1.flac", fuse.fuse_file_info(flags=flags)) == "EROFS"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (errors.TimedOut("x"), "ETIMEDOUT"),
        (errors.UnknownRun("x", 404), "ENOENT"),
        (MemoryError(), "ENOMEM"),
        (OSError("without a number"), "EIO"),
        (ValueError("a mistake of ours"), "EIO"),
    ],
)
def test_whatever_is_raised_the_kernel_gets_an_errno(
    operations: Operations, tree: FakeTree, error: Exception, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tree.error = error
    for call in (
        ("getattr", "/1.flac", None),
        ("access", "/1.flac", os.R_OK),
        ("open", "/1.flac", fuse.fuse_file_info()),
    ):
        assert _errno(operations, *call) == name
    tracebacks = [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert len(tracebacks) == (3 if name == "EIO" else 0)


@pytest.mark.parametrize(("uid", "is_refused"), [(os.getuid(), False), (0, False), (os.getuid() + 1, True)])
@pytest.mark.parametrize("path", ["/1.url", "/.cambfs/errors"])
def test_others_are_kept_out_of_what_is_the_users_own(
    operations: Operations, monkeypatch: pytest.MonkeyPatch, path: str, uid: int, is_refused: bool
) -> None:
    monkeypatch.setattr(fuse, "fuse_get_context", lambda: (uid, 0, 0))
    if is_refused:
        assert _errno(operations, "open", path, fuse.fuse_file_info()) == "EACCES"
    else:
        assert operations("open", path, fuse.fuse_file_info()) == 0
    assert operations("open", "/1.flac", fuse.fuse_file_info()) == 0


# Extended attributes.


def _xattr(binding: Any, path: bytes, name: bytes | None, room: int) -> tuple[int, bytes]:
    """The binding's return value, and the bytes that it writes into `room` bytes; 0 asks for the size."""
    memory = (ctypes.c_byte * max(room, 1))()
    pointer = ctypes.cast(memory if room else ctypes.c_void_p(), ctypes.POINTER(ctypes.c_byte))
    arguments = (path, pointer, room) if name is None else (path, name, pointer, room)
    result = getattr(binding, "listxattr" if name is None else "getxattr")(*arguments)
    return result, bytes(memory)[: max(result, 0)]


@pytest.mark.parametrize(
    ("name", "wanted"), [(b"user.cambfs.state", b"remote"), (None, b"user.cambfs.state\0user.b\0")]
)
def test_an_attribute_is_given_in_full_or_not_at_all(binding: Any, name: bytes | None, wanted: bytes) -> None:
    assert _xattr(binding, b"/1.flac", name, 0)[0] == len(wanted)
    assert _xattr(binding, b"/1.flac", name, len(wanted) - 1)[0] == -errno.ERANGE
    assert _xattr(binding, b"/1.flac", name, len(wanted)) == (len(wanted), wanted)
    assert _xattr(binding, b"/1.flac", name, 1000) == (len(wanted), wanted)


def test_there_are_no_other_attributes(binding: Any, operations: Operations) -> None:
    with pytest.raises(fuse.FuseOSError) as failed:
        operations("getxattr", "/1.flac", "user.other")
    assert failed.value.errno == errno.ENODATA
    assert _xattr(binding, b"/1.url", None, 0)[0] == 0


@pytest.mark.parametrize("name", [b"security.capability", b"system.posix_acl_access", b"trusted.x", b"user"])
def test_what_only_the_kernel_asks_for_does_not_reach_the_operations(
    binding: Any, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    monkeypatch.setattr(Operations, "__call__", None)
    assert _xattr(binding, b"/1.flac", name, 0)[0] == -errno.EOPNOTSUPP
