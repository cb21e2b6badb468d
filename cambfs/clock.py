"""The clock for whatever grows old while the machine sleeps: signed URLs, and what was learnt a while ago.

Not for deadlines, which use `time.monotonic`: a laptop that wakes up after an hour has not waited an hour for bytes,
and an operation that was under way must not fail for that. Nor for what mirrors the kernel's own timeouts, which stand
still in suspend, too. No threads.
"""

from __future__ import annotations

import time


def since_boot_s() -> float:
    """Seconds since the machine was started, also those that it slept through. Setting its clock changes nothing."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
