"""Fetches results through a library, several at a time: into its cache, and as copies into a directory.

`cli` shows the progress. Threads: a few workers, which take the next run from one iterator and report from their own
threads. The caller's thread waits, so that it receives Ctrl-C.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO, Protocol

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Cancelled, Closing, KeyRefused, NoSpace
from cambfs.names import Kind, RunId, file_name
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library

MAX_WORKERS = 16  # more results at a time only make each slower
_PIECE_BYTES = 2**16  # a read waits for all of it: larger ones would let the progress on a slow link stand still


# Computing the checksum of a result of some gigabytes takes as long as reading it from a slow disk.
_KEEPING_S = 120.0
_SLICE_S = 0.2


class Progress(Protocol):
    """Called from the workers' threads."""

    def advanced(self, count: int) -> None:
        """`count` more bytes were downloaded."""

    def done(self, run_id: RunId, size: int, *, was_there: bool) -> None:
        """`was_there`: the result was there already."""

    def failed(self, run_id: RunId, error: CambfsError) -> None: ...


class Fetch:
    """`directory` is the existing directory for the copies, None for none. A copy with the right bytes is left
    alone."""

    def __init__(self, library: Library, directory: Path | None, progress: Progress) -> None:
        self._library = library
        self._directory = directory
        self._progress = progress
        self._stop = Event()
        self._lock = Lock()  # guards _runs
        self._runs: Iterator[RunId] = iter(())

    def run(self, runs: Iterable[RunId], workers: int) -> None:
        """Fetches all; a failure costs only its run, but a refused key ends the fetch, with KeyRefused."""
        self._runs = iter(runs)
        with ThreadPoolExecutor(min(workers, MAX_WORKERS), "cambfs-fetch") as pool:
            try:
                under_way = {pool.submit(self._work) for _ in range(min(workers, MAX_WORKERS))}
                while under_way:
                    # In slices: a signal that another thread was chosen for does not end a longer wait.
                    done, under_way = wait(under_way, timeout=_SLICE_S)
                    for worker in done:
                        worker.result()
                self._library.wait_until_kept(_KEEPING_S)
            finally:
                self._stop.set()

    def _work(self) -> None:
        while not self._stop.is_set() and (run_id := self._next()) is not None:
            try:
                size, was_there = self._outlast(run_id)
                self._progress.done(run_id, size, was_there=was_there)
            except (Cancelled, Closing):  # the command ends
                return
            except CambfsError as error:
                if isinstance(error, KeyRefused) and error.is_for_all:
                    self._stop.set()
                    raise
                self._progress.failed(run_id, error)

    def _next(self) -> RunId | None:
        with self._lock:
            return next(self._runs, None)

    def _outlast(self, run_id: RunId) -> tuple[int, bool]:
        """As `_fetch`, again while the API is down and the timeout lasts: otherwise all remaining runs would fail at
        once."""
        give_up_at = time.monotonic() + self._library.timeout_s
        while True:
            try:
                return self._fetch(run_id)
            except CambfsError as error:
                if error.down_for_s is None or time.monotonic() + error.down_for_s >= give_up_at:
                    raise
                if self._stop.wait(error.down_for_s + _SLICE_S):
                    raise Cancelled("the fetch was stopped") from error

    def _fetch(self, run_id: RunId) -> tuple[int, bool]:
        """The size of the result, and whether it was there already."""
        was_cached = self._library.is_cached(run_id)
        handle = self._library.open(run_id, self._deadline())
        try:
            pieces = _Pieces(self._read(handle), (lambda _: None) if was_cached else self._progress.advanced)
            if self._directory is None:
                return sum(map(len, pieces)), was_cached
            return self._copy(self._directory / file_name(run_id, Kind.FLAC), pieces)
        finally:
            handle.close()

    def _copy(self, path: Path, pieces: _Pieces) -> tuple[int, bool]:
        if (size := _size_of_same(path, pieces)) is not None:
            return size, True
        with _whole_file(path) as file:
            return sum(file.write(piece) for piece in pieces), False

    def _read(self, handle: Handle) -> Callable[[int], bytes]:
        return lambda offset: handle.read(offset, _PIECE_BYTES, self._deadline())

    def _deadline(self) -> Deadline:
        return Deadline(self._library.timeout_s, self._stop.is_set)


class _Pieces:
    """The bytes of a result in pieces, from the beginning each time. `advanced` gets the number of new bytes."""

    def __init__(self, read: Callable[[int], bytes], advanced: Callable[[int], None]) -> None:
        self._read = read
        self._advanced = advanced
        self._seen = 0

    def __iter__(self) -> Iterator[bytes]:
        offset = 0
        while piece := self._read(offset):
            offset += len(piece)
            self._advanced(max(0, offset - self._seen))
            self._seen = max(self._seen, offset)
            yield piece


def _size_of_same(path: Path, pieces: Iterable[bytes]) -> int | None:
    """The size of a copy that has just these bytes; None if there is none."""
    try:
        # A link or a FIFO is replaced, not followed or waited for.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            is_same = stat.S_ISREG(os.fstat(fd).st_mode) and all(file.read(len(piece)) == piece for piece in pieces)
            return file.tell() if is_same and not file.read(1) else None
    except OSError:
        return None


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when the block ends without an error, and then replaces an old one at
    once."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise NoSpace(f"{path}: {error.strerror or error}") from None
        raise
