"""Rows about a shared cache beside the mounts: eight machines that read the same results, and its price for one.

The engine is on this side of the link, as it is in a network of machines. No threads.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from bench_lib.figures import NOT_SHARED, OURS, CannotMeasure, Figure, Goal, Measured
from bench_lib.mounts import Mount
from bench_lib.real_link.origin import MANY, Asked, Port
from bench_lib.real_link.place import Place
from bench_lib.real_link.sampling import figure

_MACHINES, _FEW, _ROUNDS = 8, 3, 7
_MOST_MORE = 1.03
_PORT, _START_S = 6379, 10.0
_OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru")


def eight(place: Place, port: Port) -> Iterator[Figure]:
    yield _compared(place, port, _MACHINES, f"{_MACHINES} mounts × 20 of 0.1-3 MB, `cp` at once", _FEW, lambda *_: [])


def alone(place: Place, port: Port) -> Iterator[Figure]:
    """Nobody else has what it reads, so that the shared cache is of no use to it."""

    def goals(measured: Measured, asked: dict[str, Asked]) -> Sequence[Goal]:
        ours, theirs = (asked[who].requests.total for who in (OURS, NOT_SHARED))
        more = Goal("no request more", ours, theirs, "")
        return [*measured.beside(NOT_SHARED, _MOST_MORE, "at most 3 % more than not shared"), more]

    yield _compared(place, port, 1, "20 of 0.1-3 MB, `cp` in listing order, one mount, shared", _ROUNDS, goals)


def _compared(
    place: Place,
    port: Port,
    machines: int,
    case: str,
    rounds: int,
    goals: Callable[[Measured, dict[str, Asked]], Sequence[Goal]],
) -> Figure:
    """With the shared cache and without, by turns; each sample has runs of its own."""
    asked: dict[str, Asked] = {}
    with ExitStack() as stack:
        url = stack.enter_context(_engine())
        contenders = {}
        for who, options in ((OURS, ("--shared-cache", url)), (NOT_SHARED, ())):
            series = [place.origin.series(range(MANY)) for _ in range(rounds)]
            listed = [run for runs in series for run in runs]
            mounts = [stack.enter_context(place.warm(port, listed, *options)) for _ in range(machines)]
            contenders[who] = partial(_sample, place, mounts, iter(series), who, asked)
        return figure(place, port, case, contenders, lambda measured: goals(measured, asked), rounds)


def _sample(
    place: Place, mounts: Sequence[Mount], series: Iterator[Sequence[int]], who: str, asked: dict[str, Asked]
) -> float:
    runs = next(series)
    seconds, asked[who] = place.origin.asked(lambda: place.cp_each(mounts, runs))
    return seconds


@contextmanager
def _engine() -> Iterator[str]:
    """The URL of a server on loopback. Raises CannotMeasure."""
    program = next(filter(None, map(shutil.which, ("valkey-server", "redis-server", "redis-check-rdb"))), None)
    if program is None:
        raise CannotMeasure("no Valkey or Redis server is installed")
    # redis-check-rdb is the server under another name.
    command = ["redis-server", "--port", str(_PORT), *_OPTIONS]
    process = subprocess.Popen(command, executable=program, stdout=subprocess.DEVNULL)
    try:
        _await(process)
        yield f"valkey://127.0.0.1:{_PORT}"
    finally:
        process.terminate()
        process.wait(_START_S)


def _await(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", _PORT), _START_S).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise CannotMeasure("the server of the shared cache does not start")
