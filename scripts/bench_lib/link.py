"""The network: loopback in a namespace of its own, so that its rate can be set, and nothing else is on it.

Rates are of the whole link, whatever the number of connections, as a queueing discipline of the kernel makes them
(tbf). It needs root; without, there is no limit and the rows that need one say so. No threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench_lib.figures import CannotMeasure

_INSIDE = "CAMBFS_BENCH_NAMESPACE"
# The burst has to hold the largest packet of loopback, 64 KiB; the queue adds at most 20 ms.
_SHAPE = ("burst", "128kb", "latency", "20ms")


def enter_namespace() -> None:
    """Starts this program again in a network namespace of its own, when that is possible and not yet so."""
    if _INSIDE in os.environ or os.geteuid() != 0:
        return
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", sys.executable, "-m", "bench_lib", *sys.argv[1:]])


def bring_up() -> None:
    if _INSIDE in os.environ:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def limited(megabits_a_second: int) -> Iterator[None]:
    """The link has this rate as long as the `with` lasts. Raises CannotMeasure when it cannot be set."""
    if _INSIDE not in os.environ:
        raise CannotMeasure("only root can limit the link")
    _tc("replace", "dev", "lo", "root", "tbf", "rate", f"{megabits_a_second}mbit", *_SHAPE)
    try:
        yield
    finally:
        _tc("del", "dev", "lo", "root")


def _tc(*arguments: str) -> None:
    done = subprocess.run(["tc", "qdisc", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(f"the link cannot be limited here: {done.stderr.strip()}")
