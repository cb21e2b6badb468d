"""The callbacks of both bindings, called as libfuse calls them, without a mount."""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from typing import Any

import pytest

from cambfs.fuse import adapter
from cambfs.fuse.operations import Operations
from cambfs.mounts import libfuse
from tests.fuse.fakes import CONTENT, FakeTree, make_operations


@dataclass
class Made:
    """A mount of one of the bindings, without its constructor, which mounts."""

    mount: Any
    operations: Operations
    tree: FakeTree
    version: str

    @property
    def module(self) -> Any:
        return self.mount.module

    def opened(self) -> Any:
        fi = self.module.fuse_file_info()
        assert self.operations("open", "/1.flac", fi) == 0
        return fi


@pytest.fixture(params=["2", "3"], ids=["libfuse2", "libfuse3"])
def made(request: pytest.FixtureRequest) -> Made:
    adapter.load(libfuse.choose(request.param))
    tree = FakeTree()
    operations = make_operations(tree)
    mount: Any
    if request.param == "2":
        from cambfs.fuse import binding_fuse2 as two

        mount = two._Mount.__new__(two._Mount)
        mount.operations, mount.encoding = two._Calls(operations), "latin-1"
    else:
        from cambfs.fuse import binding_fuse3 as three

        mount = three._Mount.__new__(three._Mount)
        mount.operations, mount.encoding, mount.errors = three._by_name(operations), "utf-8", "surrogateescape"
    mount.call, mount.raw_fi = operations, True
    return Made(mount, operations, tree, request.param)


def _read(made: Made, fi: Any, size: int, offset: int) -> tuple[int, bytes]:
    """The binding's return value to libfuse, and libfuse's memory with a guard of 8 bytes behind it."""
    memory = (ctypes.c_byte * (size + 8))(*b"-" * (size + 8))
    count = made.mount.read(
        b"/1.flac", ctypes.cast(memory, ctypes.POINTER(ctypes.c_byte)), size, offset, ctypes.pointer(fi)
    )
    return count, bytes(memory)


@pytest.mark.parametrize("name", ["/Bäche", "/\udcff", "/音"])
def test_a_path_is_utf8_and_a_byte_that_is_none_comes_back_as_itself(made: Made, name: str) -> None:
    buffer = ctypes.create_string_buffer(100)
    path = name.encode("utf-8", "surrogateescape")

    assert made.mount.readlink(path, buffer, 100) == 0
    assert buffer.value == b"to " + path


@pytest.mark.parametrize(("offset", "size", "count"), [(0, 100, 100), (900, 100, 100), (950, 100, 50), (1000, 100, 0)])
def test_a_read_goes_into_the_memory_of_libfuse_and_not_beyond(made: Made, offset: int, size: int, count: int) -> None:
    returned, memory = _read(made, made.opened(), size, offset)

    assert returned == count
    assert memory == CONTENT[offset : offset + count] + b"-" * (size + 8 - count)


def test_nobody_has_the_memory_of_libfuse_after_the_read(made: Made) -> None:
    kept: list[memoryview] = []
    made.tree.file.readinto = lambda _offset, buffer, _deadline: kept.append(buffer) or 4  # type: ignore[method-assign, assignment, func-returns-value]
    _read(made, made.opened(), 4, 0)

    with pytest.raises(ValueError, match="released"):
        kept[0][0]


def test_attributes_in_the_words_of_stat(made: Made) -> None:
    status = ctypes.pointer(made.module.c_stat())
    assert made.mount.fgetattr(b"/1.flac", status, None) == 0

    got = status.contents
    assert (got.st_ino, got.st_mode, got.st_nlink, got.st_size, got.st_blocks) == (20, 0o100444, 1, 1000, 2)
    assert (got.st_uid, got.st_gid) == (os.getuid(), os.getgid())
    assert (got.st_mtimespec.tv_sec, got.st_mtimespec.tv_nsec) == (1_700_000_000, 5)


def test_a_null_pointer_is_no_handle(made: Made) -> None:
    """libfuse 3 passes one with every lookup, which must not wait for the size."""
    status, null = ctypes.pointer(made.module.c_stat()), ctypes.POINTER(made.module.fuse_file_info)()
    made.mount.fgetattr(b"/1.flac", status, null)
    made.mount.fgetattr(b"/1.flac", status, ctypes.pointer(made.module.fuse_file_info()))

    assert made.tree.lookups == [True, False]


@pytest.mark.parametrize("until_full", [2, 3, 9])
def test_names_are_given_until_the_kernel_has_enough(made: Made, until_full: int) -> None:
    given: list[tuple[bytes, int]] = []

    def filler(_buffer: None, name: bytes, status: Any, _offset: int, _flags: int = 0) -> int:
        given.append((name, status.st_ino if status else 0))
        return int(len(given) > until_full)

    arguments = (b"/", None, filler, 0, ctypes.pointer(made.module.fuse_file_info()))
    if made.version == "2":
        made.mount.readdir(*arguments)
    else:
        made.mount.readdir_fuse_3(*arguments, 0)
    assert given == [(b".", 0), (b"..", 0), (b"1.flac", 20), ("Bäche".encode(), 21)][: until_full + 1]


def _xattr(made: Made, path: bytes, name: bytes | None, room: int) -> tuple[int, bytes]:
    """The binding's return value, and the bytes that it writes into `room` bytes; 0 asks for the size."""
    memory = (ctypes.c_byte * max(room, 1))()
    pointer = ctypes.cast(memory if room else ctypes.c_void_p(), ctypes.POINTER(ctypes.c_byte))
    arguments = (path, pointer, room) if name is None else (path, name, pointer, room)
    result = getattr(made.mount, "listxattr" if name is None else "getxattr")(*arguments)
    return result, bytes(memory)[: max(result, 0)]


@pytest.mark.parametrize(
    ("name", "wanted"), [(b"user.cambfs.state", b"remote"), (None, b"user.cambfs.state\0user.b\0")]
)
def test_an_attribute_is_given_in_full_or_not_at_all(made: Made, name: bytes | None, wanted: bytes) -> None:
    assert _xattr(made, b"/1.flac", name, 0)[0] == len(wanted)
    assert _xattr(made, b"/1.flac", name, len(wanted) - 1)[0] == -errno.ERANGE
    assert _xattr(made, b"/1.flac", name, len(wanted)) == (len(wanted), wanted)
    assert _xattr(made, b"/1.flac", name, 1000) == (len(wanted), wanted)


@pytest.mark.parametrize("name", [b"security.capability", b"system.posix_acl_access", b"trusted.x", b"user"])
def test_what_only_the_kernel_asks_for_does_not_reach_the_operations(
    made: Made, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    monkeypatch.setattr(Operations, "__call__", None)
    assert _xattr(made, b"/1.flac", name, 0)[0] == -errno.EOPNOTSUPP
