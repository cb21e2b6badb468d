"""The load on machines that share an engine: what may happen to the engine or to a machine happens again and again.

Threads: those of `farm`.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.kernel.harness import wait_until
from tests.soak.farm import MACHINES, RESULTS, Farm

KINDS = ("nothing", "kill a machine", "kill the engine", "replace all bytes", "lose all", "freeze the engine")
# A mount leaves an engine alone for 10 s after it was down.
_AGAIN_AFTER_S = 10.5


def soak_shared(rounds: int, seed: int) -> list[str]:
    """Each kind of accident, `rounds` times. Returns what was wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="cambfs-farm-") as directory,
        Farm(Path(directory), rounds * len(KINDS), seed) as farm,
    ):
        return [what for kind in KINDS for number in range(rounds) if (what := _round(farm, kind, number))]


def _round(farm: Farm, kind: str, number: int) -> str:
    """What was wrong, or ""."""
    began = time.monotonic()
    try:
        runs = _read(farm, kind)
    except AssertionError as error:
        return f"{kind}, round {number + 1}: {error}"
    requests, took_s = farm.requests_for(runs), time.monotonic() - began
    print(f"{kind}, round {number + 1}: {took_s:.1f} s, {dict(requests)}", flush=True)
    if kind == "nothing" and requests["stream"] != RESULTS:
        return f"{requests['stream']} requests for {RESULTS} results of {MACHINES} machines"
    return ""


def _read(farm: Farm, kind: str) -> list[int]:
    if kind == "kill a machine":
        victim = farm.chance.choice(farm.mounts)
        runs = farm.read_together(victim.crash, victim)
        farm.replace(victim)
        return runs
    if kind == "kill the engine":
        return _and_wait(farm.read_together(farm.restart_engine))
    if kind == "replace all bytes":
        return farm.read_together(farm.poison)
    if kind == "lose all":
        return farm.read_together(farm.engine.admin.flushall)
    if kind == "freeze the engine":
        runs = farm.read_together(farm.engine.freeze)
        farm.engine.thaw()
        return _and_wait(runs)
    return farm.read_together()


def _and_wait(runs: list[int]) -> list[int]:
    """Returns when the mounts use the engine again."""
    again_at = time.monotonic() + _AGAIN_AFTER_S
    wait_until(lambda: time.monotonic() > again_at, "the engine is used again")
    return runs
