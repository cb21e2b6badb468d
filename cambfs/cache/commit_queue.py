"""Puts complete results into the cache, one after the other, so that no reader waits for a checksum.

Threads: any may add. A thread named `commit` works while there is something to do. The lock is a leaf.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from threading import Lock

from cambfs.errors import CambfsError
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

_Commit = Callable[[], None]


class CommitQueue:
    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._lock = Lock()  # guards the two below
        self._queue: deque[_Commit] = deque()
        self._is_running = False

    def add(self, commit: _Commit) -> None:
        """Calls `commit` in another thread, after all earlier ones; in this thread when no other is available."""
        with self._lock:
            self._queue.append(commit)
            if self._is_running:
                return
            self._is_running = True
        try:
            self._workers.start("commit", self._run)
        except CambfsError:
            self._run()

    def _run(self) -> None:
        while (commit := self._next()) is not None:
            try:
                commit()
            except Exception:
                log.exception("unexpected error while a result was put into the cache")

    def _next(self) -> _Commit | None:
        with self._lock:
            self._is_running = bool(self._queue)
            return self._queue.popleft() if self._queue else None
