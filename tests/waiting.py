"""Waiting, in tests: always with a limit, never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import fields
from threading import Thread
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import pytest

from cambfs.cache.cache import Cache
from cambfs.deadline import Deadline
from cambfs.names import RunId
from cambfs.remote.source import Source
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library
from cambfs.transfers.context import Context, Tuning, make_context
from cambfs.vfs.open_files import OpenFile
from tests.fakes import LIMIT_S

T = TypeVar("T")
_TUNED = {field.name for field in fields(Tuning)}
MakeLibrary = Callable[..., Library]
_OURS = ("stream-", "ahead", "range-", "size-", "tail-", "sign-", "check-", "commit", "look", "task-", "share-")


# A thousand bytes ahead of the stream is far, and two thousand are fetched there; nothing is nearly finished.
SHORT_DISTANCES = {"far_bytes": 1000, "far_s": 0.0, "rate_after_s": 0.0, "span_bytes": 2000, "nearly_bytes": 0}


_contexts: WeakKeyDictionary[Library, Context] = WeakKeyDictionary()


def library_of(
    source: Source, cache: Cache, declared: Sequence[int] = (), read_ahead: int = 0, **options: Any
) -> Library:
    """`options` as `make_context` takes them, and fields of its tuning, with a short linger."""
    tuning = Tuning(**{"linger_s": 0.02, **{name: options.pop(name) for name in _TUNED & options.keys()}})
    context = make_context(source, cache, **{"timeout_s": LIMIT_S, "tuning": tuning, **options})
    runs = [RunId(number) for number in declared]
    library = Library(context, lambda: runs, read_ahead)
    _contexts[library] = context
    return library


def context_of(library: Library) -> Context:
    """Of one that `library_of` has made."""
    return _contexts[library]


def cached(library: Library) -> list[RunId]:
    """The runs of which the whole result is in its cache."""
    return context_of(library).cache.runs()


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(_OURS)]


def no_threads() -> bool:
    return not our_threads()


def deadline() -> Deadline:
    return Deadline(LIMIT_S)


class Watched(Deadline):
    """One that tells a test what its caller is told while it waits: when bytes last came, again and again."""

    def __init__(self) -> None:
        super().__init__(LIMIT_S)
        self.told: list[float] = []

    def check(self, progress_at: float = 0.0) -> None:
        self.told.append(progress_at)
        super().check(progress_at)

    def await_waiting(self) -> float:
        """Returns when the caller waits, having looked once more; what it was told then."""
        looks = len(self.told)
        eventually(lambda: len(self.told) > looks + 1, "nobody waits")
        return self.told[-1]


def eventually(is_so: Callable[[], object], what: str = "it never became so") -> None:
    """Waits until `is_so`, looking often."""
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def raises(error: type[Exception], call: Callable[[], object]) -> bool:
    """Whether it does just now."""
    try:
        call()
    except error:
        return True
    return False


def in_thread(call: Callable[[], T]) -> Future[T]:
    """The return value or the exception of `call`, in a thread of its own."""
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
    """The result of a read of an open file."""
    buffer = memoryview(bytearray(length))
    return bytes(buffer[: file.readinto(offset, buffer, deadline)])


def asleep(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on, as after a suspend: only the clock that counts it has gone on."""
    now_s = time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda which: now_s(which) + seconds * (which == time.CLOCK_BOOTTIME))
