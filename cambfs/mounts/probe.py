"""Finds out whether a mount responds, dead and hanging mounts included.

Threads: nothing interrupts a request to a mount that hangs. Each has a thread of its own, which ends with the process.
"""

from __future__ import annotations

import errno
import os
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from threading import Thread


def probe(directory: Path) -> Future[int]:
    """The future becomes 0 when the mount responds, and an errno when it refuses."""
    responded: Future[int] = Future()

    def look() -> None:
        try:
            directory.stat()  # which fails for users who have no access
            os.statvfs(directory)  # which the kernel never serves from its cache
            responded.set_result(0)
        except OSError as error:
            responded.set_result(error.errno or errno.EIO)

    Thread(target=look, name="probe", daemon=True).start()
    return responded


def outcome(probed: Future[int], deadline: float) -> int | None:
    """The result of a probe; None if there is none at `deadline` (of `time.monotonic`)."""
    try:
        return probed.result(max(deadline - time.monotonic(), 0.0))
    except FutureTimeout:
        return None
