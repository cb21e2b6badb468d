"""Rows about the daemon itself: its memory, its load when idle, the time to start.

No threads.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator

from bench_lib import readers
from bench_lib.audio import HUGE, MINUTE
from bench_lib.figures import OURS, Figure, Goal, alternate
from bench_lib.lab import Lab
from bench_lib.mounts import CAMBFS, unmount
from bench_lib.processes import peak_resident_mb, processor_s, resident_mb, wake_ups
from bench_lib.rows_many import peak
from bench_lib.server import CHUNKED, LENGTH

_GROWTH_LIMIT_MB = 5.0
_SAMPLES = 100
_CALM_S = 3.0
_IDLE_S = 10.0
_HELP_LIMIT_S = 0.15
_MOUNT_LIMIT_S = 0.5


def memory(lab: Lab) -> Iterator[Figure]:
    lab.audio.make_huge()
    size = lab.audio.size(HUGE)
    try:
        with lab.cambfs(CHUNKED) as mount:
            seen: list[float] = []

            def look(position: int) -> None:
                if position * _SAMPLES // size > len(seen):
                    seen.append(resident_mb(mount.pid))

            readers.whole(mount.fresh(HUGE), size, look)
            peak_mb = peak_resident_mb(mount.pid)
    finally:
        lab.audio.path(HUGE).unlink()
    yield peak("memory", "streaming 2 GB", peak_mb)
    quarter = len(seen) // 4
    growth = statistics.median(seen[-quarter:]) - statistics.median(seen[quarter : 2 * quarter])
    goal = Goal(f"flat: grows by at most {_GROWTH_LIMIT_MB:.0f} MB", growth, _GROWTH_LIMIT_MB, "MB")
    yield Figure("memory", "growth from the second quarter of 2 GB to the last", "MB", {OURS: [growth]}, [goal])


def idle(lab: Lab) -> Iterator[Figure]:
    with lab.cambfs(CHUNKED) as mount:
        readers.whole(mount.fresh(MINUTE), lab.audio.size(MINUTE))
        time.sleep(_CALM_S)
        woken, used_s = wake_ups(mount.pid), processor_s(mount.pid)
        time.sleep(_IDLE_S)
        woken, used_s = wake_ups(mount.pid) - woken, processor_s(mount.pid) - used_s
    goal = Goal("none", woken, 0, "")
    yield Figure("idle", f"wake-ups in {_IDLE_S:.0f} s", "", {OURS: [float(woken)]}, [goal])
    goal = Goal("none", used_s, 0, "s")
    yield Figure("idle", f"processor time in {_IDLE_S:.0f} s", "s", {OURS: [used_s]}, [goal])


def start(lab: Lab) -> Iterator[Figure]:
    for case, limit_s, sample in (
        ("cambfs --help", _HELP_LIMIT_S, _help),
        ("cambfs mount, until it answers", _MOUNT_LIMIT_S, lambda: _mount(lab)),
    ):
        measured = alternate(lab.rounds, {OURS: sample})
        yield measured.figure("start", case, "s", _at_most(limit_s))


def _at_most(limit_s: float) -> Callable[..., list[Goal]]:
    return lambda measured: [Goal(f"at most {limit_s} s", measured.median(), limit_s, "s")]


def _help() -> float:
    begin = time.perf_counter()
    subprocess.run([CAMBFS, "--help"], check=True, capture_output=True)
    return time.perf_counter() - begin


def _mount(lab: Lab) -> float:
    mount = lab.cambfs(LENGTH)
    mount.path.mkdir()
    command = [word for word in mount.command() if word != "-f"]
    try:
        begin = time.perf_counter()
        subprocess.run(command, env=mount.environment(), check=True, capture_output=True)
        list(mount.path.iterdir())
        return time.perf_counter() - begin
    finally:
        unmount(mount.path)
