"""What the kernel tells of a process: memory, processor time, wake-ups. No threads."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MEGABYTE = 1_000_000


def _status(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} has no {name}")
    return int(found[1])


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
