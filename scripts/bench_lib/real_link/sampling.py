"""How a figure of one link comes about: samples in turn, requests counted, goals. No threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from bench_lib.figures import OURS, Figure, Goal, Measured, alternate
from bench_lib.mounts import Mount
from bench_lib.real_link.origin import Asked, Port
from bench_lib.real_link.place import Place

Contenders = Mapping[str, Callable[[], float]]
Goals = Callable[[Measured], Sequence[Goal]]


def figure(
    place: Place,
    port: Port,
    case: str,
    contenders: Contenders,
    goals: Goals = lambda _: [],
    rounds: int = 1,
    before: Callable[[], object] = lambda: None,
) -> Figure:
    """`before` is called before each sample of ours. The note says what the last of them asked for."""
    asked: list[Asked] = []

    def ours() -> float:
        before()
        seconds, found = place.origin.asked(contenders[OURS])
        asked.append(found)
        return seconds

    everybody = {**contenders, OURS: ours}
    measured = alternate(rounds, everybody, warm_ups=0, settles=False, between=place.network.calm)
    length = "with Content-Length" if port is Port.LENGTH else "chunked"
    note = str(asked[-1]) if asked else ""
    return measured.figure(str(place.terms), f"{case}, {length}", "s", goals, note)


def within(limit_s: float, text: str) -> Goals:
    return lambda measured: [Goal(text, measured.median(), limit_s, "s")]


def of_rclone(place: Place, stack: ExitStack, runs: Sequence[int], copy: Callable[..., float]) -> Callable[[], float]:
    def sample() -> float:
        mount = stack.enter_context(place.rclone(runs))
        return copy([place.path(mount, run) for run in runs], runs)

    return sample


def cp_fresh(place: Place, mount: Mount, content: int) -> float:
    run = place.fresh(content)
    return place.cp([place.path(mount, run)], [run])
