"""When a whole result is put into the cache: as soon as nobody wants anything else, for that takes time.

All of it is read for its checksum, and files are made; whoever still copies it, or the next one, would wait for the
processor meanwhile. Not how it is kept (`content`, `cache`). Threads: any; one named `keep` does it, one result after
the other, and ends when there is none. The lock is a leaf.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock

from cambfs.errors import CambfsError
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

# Who reads on has asked for more within that.
_QUIET_S = 0.03
# A crash loses what is not kept yet, and a mount may never be quiet.
_LATEST_S = 1.0

_Keep = Callable[[], None]


class Keeping:
    """`closing` ends all waiting."""

    def __init__(self, workers: Workers, closing: Event) -> None:
        self._workers = workers
        self._closing = closing
        self._used_at = 0.0  # one word, written by any thread
        self._lock = Lock()  # guards the two below
        self._queue: deque[tuple[float, _Keep]] = deque()  # each with when it was added
        self._is_running = False

    def note_use(self) -> None:
        """Somebody has read something just now, or something has come."""
        self._used_at = time.monotonic()

    def add(self, keep: _Keep) -> None:
        """Calls `keep` in another thread when all is quiet, or a second from now."""
        with self._lock:
            self._queue.append((time.monotonic(), keep))
            if self._is_running:
                return
            self._is_running = True
        try:
            self._workers.start("keep", self._run)
        except CambfsError:
            self._run()

    def _run(self) -> None:
        while (entry := self._next()) is not None:
            added_at, keep = entry
            self._await_quiet(added_at + _LATEST_S)
            try:
                keep()
            except Exception:
                log.exception("a result could not be kept, in a way that nobody foresaw")

    def _next(self) -> tuple[float, _Keep] | None:
        with self._lock:
            self._is_running = bool(self._queue)
            return self._queue.popleft() if self._queue else None

    def _await_quiet(self, latest: float) -> None:
        while (now := time.monotonic()) < latest:
            quiet_in_s = self._used_at + _QUIET_S - now
            if quiet_in_s <= 0 or self._closing.wait(min(quiet_in_s, latest - now)):
                return
