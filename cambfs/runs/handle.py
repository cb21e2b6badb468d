"""The uses of a run: a lease for as long as anything works with it, and a handle for each open file.

Threads: any. The run's lock and the library's guard what they change.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from cambfs.deadline import Deadline
from cambfs.runs.run import Run


class Lease(AbstractContextManager["Lease"]):
    """One use of a run, from the constructor to the end of the context. A run in use keeps its bytes."""

    def __init__(self, run: Run, release: Callable[[Run], None]) -> None:
        self.run = run
        self._release = release

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._release(self.run)


class Handle:
    """One open result. `same_bytes`: every byte is what it was at the last open of this run. `beside_other`: an older
    version of the result is still open."""

    def __init__(self, lease: Lease, closed: Callable[[bool], None], *, same_bytes: bool, beside_other: bool) -> None:
        """`closed` is told at the end whether its reader left most of the result out."""
        self._lease = lease
        self._closed = closed
        self._read_bytes = 0  # one word, written by any thread; a count that gets lost does no harm
        self.same_bytes = same_bytes
        self.beside_other = beside_other
        self.check = lease.run.check

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """As `Run.readinto`."""
        count = self._lease.run.readinto(offset, buffer, deadline)
        self._read_bytes += count
        return count

    def read(self, offset: int, length: int, deadline: Deadline) -> bytes:
        """`length` bytes, or fewer only because the result ends there. Raises CambfsError."""
        buffer = bytearray(length)
        return bytes(buffer[: self.readinto(offset, memoryview(buffer), deadline)])

    def size(self, deadline: Deadline) -> int:
        """The exact length in bytes, waited for. Raises CambfsError."""
        return self._lease.run.info(deadline).size

    @property
    def generation(self) -> int:
        """Handles with the same one have the same bytes."""
        return self._lease.run.generation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Call once. The rest of a nearly finished result is still fetched."""
        with self._lease:
            self._lease.run.close_handle()
            size = self._lease.run.known_size
        if size is None:
            return
        is_skimmed = 2 * self._read_bytes < size
        if not (is_skimmed and self.same_bytes):  # the kernel may have had the rest
            self._closed(is_skimmed)
