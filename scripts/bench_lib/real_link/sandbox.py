"""Namespaces for everything that the benchmark over a real link starts: network, mounts and processes.

They belong to one process. When it ends, however it ends, the kernel ends all other processes in them and takes the
mounts and devices away. The process outside only waits. No threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench_lib.figures import CannotMeasure

_INSIDE = "CAMBFS_BENCH_SANDBOX"
_UNSHARE = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
# The kernel kills it with its parent, for a killed parent cannot.
_COMMAND = ["setpriv", "--pdeathsig", "KILL", *_UNSHARE]
# In a mount namespace of its own this hides a directory that nobody has anything in.
WORK = Path("/media")


def is_inside() -> bool:
    return _INSIDE in os.environ


def run_inside(arguments: Sequence[str]) -> int:
    """Runs this program again, with these arguments, in namespaces of its own; its exit status, or 128 + the number of
    the signal that ended it. Raises CannotMeasure where there can be no namespaces."""
    _check()
    environment = {**os.environ, _INSIDE: "1"}
    return _supervise([*_COMMAND, sys.executable, "-m", "bench_lib", *arguments], environment)


def _check() -> None:
    if os.geteuid() != 0:
        raise CannotMeasure("a link needs root, for network namespaces and TUN devices; run it with sudo")
    if not Path("/dev/net/tun").exists():
        raise CannotMeasure("a link needs TUN devices, and /dev/net/tun is missing; load the kernel module tun")
    done = subprocess.run([*_COMMAND, "true"], capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(f"a link needs namespaces, and this machine makes none: {done.stderr.strip()}")


class _Ended(Exception):
    pass


def _supervise(command: Sequence[str], environment: Mapping[str, str]) -> int:
    def end(number: int, _frame: object) -> None:
        raise _Ended(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    # In a session of its own a Ctrl-C reaches this process alone.
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        return child.wait()
    except _Ended as ended:
        return 128 + int(ended.args[0])
    finally:
        child.kill()
        child.wait()


def prepare() -> None:
    """Inside: brings loopback up and gives `WORK`, a directory in memory that ends with the namespaces."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "bench", str(WORK)], check=True)
