"""The operations against a fake tree: the results for libfuse, without libfuse or a kernel."""

from __future__ import annotations

import errno
import logging
import os
from typing import Any

import pytest

from cambfs import errors
from cambfs.fuse.errnos import ErrnoError
from cambfs.fuse.operations import Operations
from tests.fuse.fakes import CONTENT, FakeRequest, FakeTree, FileInfo, make_operations


@pytest.fixture
def tree() -> FakeTree:
    return FakeTree()


@pytest.fixture
def request_() -> FakeRequest:
    return FakeRequest()


@pytest.fixture
def operations(tree: FakeTree, request_: FakeRequest) -> Operations:
    return make_operations(tree, request_)


def _opened(operations: Operations) -> FileInfo:
    fi = FileInfo()
    assert operations("open", "/1.flac", fi) == 0
    return fi


def _errno(operations: Operations, *call: Any) -> str:
    with pytest.raises(ErrnoError) as failed:
        operations(*call)
    return errno.errorcode[failed.value.errno]


# Reading.


def test_an_empty_answer_before_the_end_is_an_error(operations: Operations, tree: FakeTree) -> None:
    """The kernel would believe that the file ends there."""
    fi, buffer = _opened(operations), memoryview(bytearray(100))
    tree.file.content = CONTENT[:500]

    assert _errno(operations, "read", "/1.flac", buffer, 700, fi) == "EIO"
    assert operations("read", "/1.flac", buffer, 500, fi) == 0


def test_open_tells_the_kernel_about_its_pages_and_release_closes(operations: Operations, tree: FakeTree) -> None:
    first, second = _opened(operations), _opened(operations)
    assert first.fh != second.fh
    assert (first.keep_cache, first.direct_io) == (True, False)

    operations("release", "/1.flac", first)
    operations("release", "/1.flac", second)
    assert tree.file.closed == 2


# Attributes, names and the file system.


def test_only_a_question_without_a_handle_may_be_a_lookup(operations: Operations, tree: FakeTree) -> None:
    operations("getattr", "/1.flac", None)
    operations("getattr", "/1.flac", FileInfo())
    assert tree.lookups == [True, False]


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
    assert _errno(operations, "open", "/1.flac", FileInfo(flags)) == "EROFS"


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
        ("open", "/1.flac", FileInfo()),
    ):
        assert _errno(operations, *call) == name
    tracebacks = [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert len(tracebacks) == (3 if name == "EIO" else 0)


@pytest.mark.parametrize(("uid", "is_refused"), [(os.getuid(), False), (0, False), (os.getuid() + 1, True)])
@pytest.mark.parametrize("path", ["/1.url", "/.cambfs/errors"])
def test_others_are_kept_out_of_what_is_the_users_own(
    operations: Operations, request_: FakeRequest, path: str, uid: int, is_refused: bool
) -> None:
    request_.who = uid
    if is_refused:
        assert _errno(operations, "open", path, FileInfo()) == "EACCES"
    else:
        assert operations("open", path, FileInfo()) == 0
    assert operations("open", "/1.flac", FileInfo()) == 0


def test_there_are_no_other_attributes(operations: Operations) -> None:
    assert _errno(operations, "getxattr", "/1.flac", "user.other") == "ENODATA"
    assert operations("listxattr", "/1.url") == []
