"""Threads for what waits for the network: one each while it runs, and used again for the next.

Not what they do, nor how many may run at a time (`slots`). A thread has the name of its work; one that has had none for
IDLE_S ends. To begin a thread means to wait until it runs, which takes long while many others want the interpreter; to
hand work to one that is there does not. The lock is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from cambfs.errors import CambfsError

IDLE_S = 2.0
_IDLE = "idle"

_Work = tuple[str, Callable[[], None]]


class Workers:
    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._work: SimpleQueue[_Work] = SimpleQueue()
        self._lock = Lock()  # guards the next one
        self._free = 0  # threads that wait for work, and for which none is on its way

    def start(self, name: str, work: Callable[[], None]) -> None:
        """Runs `work`, which must not raise, in a thread of that name; returns at once. Raises CambfsError, and has not
        run it, when no thread can be had."""
        if not self._claim():
            try:
                Thread(target=self._serve, name=_IDLE, daemon=True).start()
            except RuntimeError as error:
                raise CambfsError("no more threads can be had on this machine; close something") from error
        self._work.put((name, work))

    def _claim(self) -> bool:
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            self._run(*work)
            del work  # what it holds must not live as long as the thread
            with self._lock:
                self._free += 1

    def _run(self, name: str, work: Callable[[], None]) -> None:
        current_thread().name = name
        work()
        current_thread().name = _IDLE

    def _next(self) -> _Work | None:
        """None when there has been none for `idle_s`."""
        while True:
            try:
                return self._work.get(timeout=self._idle_s)
            except Empty:
                if self._claim():
                    return None
                # it is on its way, to this thread or to another that has taken this one's
