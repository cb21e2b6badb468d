"""The kernel's figures of a process: memory, processor time, wake-ups. No threads."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_MEGABYTE = 1_000_000
# Longer than the delay of any contender that postpones work until the machine is quiet.
_SETTLED_S = 0.1
_BUSY_SHARE = 0.1
_SETTLE_LIMIT_S = 5.0


def _status(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} has no {name}")
    return int(found[1])


def settle() -> None:
    """Returns when the processors have been almost idle for a moment, or after five seconds. Work that one contender
    does after its sample, such as a checksum of cached bytes, must not fall into the sample of the next."""
    deadline = time.monotonic() + _SETTLE_LIMIT_S
    busy_s = _busy_s()
    while time.monotonic() < deadline:
        time.sleep(_SETTLED_S)
        before, busy_s = busy_s, _busy_s()
        if busy_s - before <= _BUSY_SHARE * _SETTLED_S * (os.cpu_count() or 1):
            return


def _busy_s() -> float:
    """Of all processors together, since the machine started."""
    user, nice, system, _idle, _waiting, *others = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    return _status(Path(f"/proc/{pid}/status"), "VmRSS") * 1024 / _MEGABYTE


def peak_resident_mb(pid: int) -> float:
    return _status(Path(f"/proc/{pid}/status"), "VmHWM") * 1024 / _MEGABYTE


def wake_ups(pid: int) -> int:
    """How often any thread of the process began to run after it had waited."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(_status(task / "status", "voluntary_ctxt_switches") for task in tasks)


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
