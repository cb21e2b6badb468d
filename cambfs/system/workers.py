"""Threads for work that waits for the network: one per job while it runs, then reused for the next job.

A thread has the name of its job, and ends after IDLE_S without one. Starting a thread takes long while many others want
the interpreter; handing work to an idle one does not. The lock is a leaf.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Condition, Thread

from cambfs.errors import CambfsError

IDLE_S = 2.0

_Work = Callable[[], None]


class Workers:
    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._changed = Condition()  # guards the next two; notified when the last job ends
        self._jobs = 0
        self._idle: list[_Worker] = []

    def start(self, name: str, work: _Work) -> None:
        """Runs `work`, which must not raise, in a thread of that name; returns at once. Raises CambfsError, without
        running it, when no thread can be started."""
        worker = self._claim() or self._new()
        worker.name = name
        worker.mailbox.put(work)

    def wait_idle(self, timeout_s: float) -> bool:
        """Waits until no job is under way; returns whether that happened within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_s)

    def _claim(self) -> _Worker | None:
        with self._changed:
            self._jobs += 1
            return self._idle.pop() if self._idle else None

    def _new(self) -> _Worker:
        worker = _Worker(self)
        try:
            worker.start()
        except RuntimeError as error:
            self._end_job()
            raise CambfsError("cannot start another thread on this machine; close some programs") from error
        return worker

    def _end_job(self) -> None:
        with self._changed:
            self._jobs -= 1
            if not self._jobs:
                self._changed.notify_all()

    def rest(self, worker: _Worker) -> None:
        with self._changed:
            self._idle.append(worker)
        self._end_job()

    def next_for(self, worker: _Worker) -> _Work | None:
        """None after so long without one that the worker is to end."""
        try:
            return worker.mailbox.get(timeout=self._idle_s)
        except Empty:
            with self._changed:
                if worker in self._idle:
                    self._idle.remove(worker)
                    return None
            return worker.mailbox.get()  # it is on its way


class _Worker(Thread):
    def __init__(self, workers: Workers) -> None:
        super().__init__(name="idle", daemon=True)
        self.mailbox: SimpleQueue[_Work] = SimpleQueue()
        self._workers = workers

    def run(self) -> None:
        while (work := self._workers.next_for(self)) is not None:
            work()
            del work  # the job's objects must not live as long as the thread
            self.name = "idle"
            self._workers.rest(self)
