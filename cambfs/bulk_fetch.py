"""Fetches results through a library, several at a time: into its cache, and copies of them into a directory.

Shows nothing (`cli`). Threads: a few workers, which take the next run from one iterator; what they report, they report
from their own threads. The caller's thread waits, so that Ctrl-C finds it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO, Protocol

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Cancelled, KeyRefused, NoSpace
from cambfs.names import Kind, RunId, file_name
from cambfs.runs.library import Library

MAX_WORKERS = 16  # more results at a time only make each slower
_PIECE_BYTES = 2**20


# To compute the checksum of a result of some gigabytes takes as long as to read it from a slow disk.
_KEEPING_S = 120.0
_SLICE_S = 0.2


class Progress(Protocol):
    """Called from the workers' threads."""

    def advanced(self, run_id: RunId, count: int, size: int | None) -> None:
        """`count` more bytes are here, of `size` in all, where that is known."""

    def done(self, run_id: RunId, size: int) -> None: ...

    def failed(self, run_id: RunId, error: CambfsError) -> None: ...


class Fetch:
    """`directory` is where the copies go, None for none; it must be there."""

    def __init__(self, library: Library, directory: Path | None, progress: Progress) -> None:
        self._library = library
        self._directory = directory
        self._progress = progress
        self._stop = Event()
        self._lock = Lock()  # guards _runs
        self._runs: Iterator[RunId] = iter(())

    def run(self, runs: Iterable[RunId], workers: int) -> None:
        """Fetches all; a failure costs only its run, but a key that is refused ends it all, with KeyRefused."""
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
                self._progress.done(run_id, self._fetch(run_id))
            except Cancelled:
                return
            except CambfsError as error:
                if isinstance(error, KeyRefused) and error.status == 401:
                    self._stop.set()
                    raise
                self._progress.failed(run_id, error)

    def _next(self) -> RunId | None:
        with self._lock:
            return next(self._runs, None)

    def _fetch(self, run_id: RunId) -> int:
        if self._directory is None:
            return self._read(run_id, None)
        with _whole_file(self._directory / file_name(run_id, Kind.FLAC)) as file:
            return self._read(run_id, file)

    def _read(self, run_id: RunId, file: BinaryIO | None) -> int:
        handle = self._library.open(run_id, self._deadline())
        offset = 0
        try:
            while piece := handle.read(offset, _PIECE_BYTES, self._deadline()):
                if file is not None:
                    file.write(piece)
                offset += len(piece)
                info = self._library.info(run_id)
                self._progress.advanced(run_id, len(piece), info.size if info else None)
        finally:
            handle.close()
        return offset

    def _deadline(self) -> Deadline:
        return Deadline(self._library.timeout_s, self._stop.is_set)


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when the block ends well, and replaces what was there at once."""
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
