"""The clock for values that age while the machine sleeps, such as signed URLs and cached facts.

Deadlines use `time.monotonic` instead: a laptop that wakes up after an hour has not waited an hour for bytes, and an
operation that was under way must not fail for that. So do copies of the kernel's own timeouts, which stand still in
suspend, too. No threads.
"""

from __future__ import annotations

import time


def since_boot_s() -> float:
    """Seconds since the machine was started, including time in suspend. Setting the machine's clock changes nothing."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
