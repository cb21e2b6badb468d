"""The rights of a process that root started for a user; in a process of its own, for the change is for good."""

from __future__ import annotations

import os
import subprocess
import sys

_USER = 65534
_PROGRAM = f"""
import os, threading
from cambfs.system import limits

def rights():
    lines = [open(f"/proc/self/task/{{task}}/status").read().splitlines() for task in os.listdir("/proc/self/task")]
    return [int(line.split()[1], 16) for status in lines for line in status if line.startswith(("CapPrm", "CapEff"))]

ending = threading.Event()
limits.become({_USER}, {_USER}, [])
threading.Thread(target=ending.wait).start()
print(os.geteuid(), os.getegid(), os.getgroups(), rights())
limits.forgo_root()
print(os.getresuid(), rights())
ending.set()
"""


def test_a_process_of_root_becomes_a_users_and_keeps_only_the_right_to_mount_until_told() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60)
    if os.geteuid() != 0:
        assert "PermissionError" in done.stderr
        return
    may_mount = 1 << 21
    assert done.stdout.splitlines() == [
        f"{_USER} {_USER} [] {[may_mount] * 4}",
        f"{(_USER,) * 3} {[0] * 4}",
    ], done.stderr


def test_a_process_without_roots_rights_forgoes_nothing() -> None:
    program = "import os; from cambfs.system import limits; limits.forgo_root(); print(os.getresuid())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(os.getresuid())
