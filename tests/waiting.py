"""Waiting, in tests: always with a limit, never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import fields
from threading import Thread
from typing import Any, TypeVar

from cambfs.cache.cache import Cache
from cambfs.deadline import Deadline
from cambfs.names import RunId
from cambfs.remote.source import Source
from cambfs.runs.context import Tuning, make_context
from cambfs.runs.library import Handle, Library
from cambfs.vfs.open_files import OpenFile
from tests.fakes import LIMIT_S

T = TypeVar("T")
_TUNED = {field.name for field in fields(Tuning)}
MakeLibrary = Callable[..., Library]
_OURS = ("stream-", "range-", "size-", "tail-", "sign-", "check-", "commit")


# A thousand bytes ahead of the stream is far, and two thousand are fetched there; nothing is nearly finished.
SHORT_DISTANCES = {"far_bytes": 1000, "far_s": 0.0, "rate_after_s": 0.0, "span_bytes": 2000, "nearly_bytes": 0}


def library_of(source: Source, cache: Cache, declared: Sequence[int] = (), **options: Any) -> Library:
    """`options` as `make_context` takes them, and fields of its tuning, in which nobody lingers for long."""
    tuning = Tuning(**{"linger_s": 0.02, **{name: options.pop(name) for name in _TUNED & options.keys()}})
    context = make_context(source, cache, **{"timeout_s": LIMIT_S, "tuning": tuning, **options})
    runs = [RunId(number) for number in declared]
    return Library(context, lambda: runs)


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(_OURS)]


def deadline() -> Deadline:
    return Deadline(LIMIT_S)


def eventually(is_so: Callable[[], object], what: str = "it never became so") -> None:
    """Waits until `is_so`, looking often."""
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def in_thread(call: Callable[[], T]) -> Future[T]:
    """What `call` returns or raises, in a thread of its own."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, name="test", daemon=True).start()
    return future


def read_all(library: Library, run_id: int, at_a_time: int = 4096) -> bytes:
    """As `cat` does: opened, read until nothing comes, closed."""
    handle = library.open(RunId(run_id), deadline())
    try:
        return b"".join(pieces(handle, at_a_time))
    finally:
        handle.close()


def pieces(handle: Handle, at_a_time: int = 4096) -> Iterator[bytes]:
    offset = 0
    while piece := handle.read(offset, at_a_time, deadline()):
        yield piece
        offset += len(piece)


def size_of(library: Library, run_id: int) -> int:
    return library.wait_for_info(RunId(run_id), deadline()).size


def read(file: OpenFile, offset: int, length: int, deadline: Deadline) -> bytes:
    """What a read of an open file gives."""
    buffer = memoryview(bytearray(length))
    return bytes(buffer[: file.readinto(offset, buffer, deadline)])
