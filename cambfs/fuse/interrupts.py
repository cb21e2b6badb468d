"""Whether the process that waits for a response of the mount has been killed.

Reads /proc; no threads.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

_KILLING = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL))
_PENDING = re.compile(r"^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)", re.MULTILINE)


def is_killed(pid: int) -> bool:
    """Whether the interrupted thread `pid` is about to end: timers and the like interrupt, too.

    False when that cannot be known, because the thread is in another pid namespace (0), or belongs to another user in a
    /proc that hides those. A harmless signal must not fail a read, and one that kills is noticed no later than the
    timeout.
    """
    if pid == 0:
        return False
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return _is_gone(pid)
    return any(int(mask, 16) & _KILLING for mask in _PENDING.findall(status))


def _is_gone(pid: int) -> bool:
    """Asks the kernel, because a /proc with `hidepid` hides threads that exist."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
