"""The network: loopback in a namespace of its own, so that its rate can be set, and nothing else is on it.

Rates are of the whole way from the server, whatever the number of connections, as a queueing discipline of the kernel
makes them (tbf); the way to the server is a queue of its own, as on real links. It needs root; without, there is no
limit and the rows that need one say so. No threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_lib.figures import CannotMeasure

_INSIDE = "CAMBFS_BENCH_NAMESPACE"
# The burst has to hold the largest packet of loopback, 64 KiB; the queue adds at most 20 ms.
_SHAPE = "burst 128kb latency 20ms"
_CALM_S = 0.1
_CALM_BYTES = 10_000
_CALM_LIMIT_S = 20.0


def enter_namespace() -> None:
    """Starts this program again in a network namespace of its own, when that is possible and not yet so."""
    if _INSIDE in os.environ or os.geteuid() != 0:
        return
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "bench_lib", *sys.argv[1:]])


def bring_up() -> None:
    if _INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def calm() -> None:
    """Returns when the link is quiet, because a mount may still fetch in the background after a row has ended."""
    deadline = time.monotonic() + _CALM_LIMIT_S
    before = bytes_seen()
    while time.monotonic() < deadline:
        time.sleep(_CALM_S)
        now = bytes_seen()
        if now - before < _CALM_BYTES:
            return
        before = now
    raise CannotMeasure(f"the link is still busy after {_CALM_LIMIT_S:.0f} s")


def bytes_seen(device: str = "lo") -> int:
    """What the device has received, in bytes of packets."""
    line = next(
        line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith(f"{device}:")
    )
    return int(line.split(":")[1].split()[0])


@contextmanager
def limited(megabits_a_second: int, ports: Iterable[int]) -> Iterator[None]:
    """Bytes from these ports have this rate as long as the `with` lasts. Raises CannotMeasure when it cannot be set."""
    if _INSIDE not in os.environ:
        raise CannotMeasure("only root can limit the link")
    try:
        _tc("qdisc replace dev lo root handle 1: htb default 2")
        for number in (1, 2):
            _tc(f"class add dev lo parent 1: classid 1:{number} htb rate 100gbit")
        _tc(f"qdisc add dev lo parent 1:1 handle 2: tbf rate {megabits_a_second}mbit {_SHAPE}")
        for port in ports:
            _tc(f"filter add dev lo parent 1: protocol ip prio 1 u32 match ip sport {port} 0xffff flowid 1:1")
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], capture_output=True)


def _tc(arguments: str) -> None:
    done = subprocess.run(["tc", *arguments.split()], capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(f"the link cannot be limited here: {done.stderr.strip()}")
