"""One open result, as the library gives it out.

Not the bytes (`run`), nor what the kernel sees (`open_files`). Threads: any.
"""

from __future__ import annotations

from collections.abc import Callable

from cambfs.runs.deadline import Patience
from cambfs.runs.run import Run


class Handle:
    """One open result. `same_bytes` says that every byte is what it was at the last open of this run; `beside_other`
    that somebody has it open still as it was before it changed."""

    def __init__(self, run: Run, let_go: Callable[[Run], None], *, same_bytes: bool, beside_other: bool) -> None:
        self._run = run
        self._let_go = let_go
        self.same_bytes = same_bytes
        self.beside_other = beside_other

    def read(self, offset: int, length: int, patience: Patience) -> bytes:
        """`length` bytes, or fewer only because the result ends there. Raises CambfsError."""
        buffer = memoryview(bytearray(length))
        return bytes(buffer[: self.readinto(offset, buffer, patience)])

    def readinto(self, offset: int, buffer: memoryview, patience: Patience) -> int:
        """As `read`, into `buffer`; returns how many bytes, 0 at the end. Raises CambfsError, and leaves undefined
        bytes in `buffer` then."""
        return self._run.readinto(offset, buffer, patience)

    def size(self, patience: Patience) -> int:
        """The exact length in bytes, waited for. Raises CambfsError."""
        return self._run.facts(patience).size

    def close(self) -> None:
        """Call once. The rest of a nearly finished result is still fetched."""
        self._run.close_handle()
        self._let_go(self._run)
