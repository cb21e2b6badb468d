"""A lock that goes to whoever has waited longest.

Python's own go to whoever comes at the right moment: of 64 transfers that all had bytes to write, the luckiest was done
after a seventh of the time of the last. Threads: any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import TracebackType
from typing import Self


class FairLock:
    """For a `with`; not to be taken twice by one thread."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards the two below, a leaf
        self._is_taken = False
        self._waiting: deque[Lock] = deque()

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self._give()

    @contextmanager
    def given_up(self) -> Iterator[None]:
        """For who has it, to wait for something: others may have it inside the block. Has it again behind the block,
        as soon as it is its turn, also after an exception."""
        self._give()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            turn = Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()  # until it is handed over

    def _give(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
