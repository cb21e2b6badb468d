"""Rows about many results on one link: copies of 20, a listing of 1,000, a playlist. No threads."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench_lib import readers
from bench_lib.figures import CURL, OFF, OURS, PARALLEL, CannotMeasure, Figure, Goal, Measured
from bench_lib.mounts import Cambfs, Mount
from bench_lib.real_link.origin import MANY, SHORT, Asked, Port
from bench_lib.real_link.place import Place
from bench_lib.real_link.sampling import figure, of_rclone, within

_LISTED, _LISTING_S = 1000, 3.0
_NEXT_TRACK_S = 0.005
_PLAYED_A_SECOND = 100_000
_TRACKS = 3


def in_order(place: Place, port: Port) -> Iterator[Figure]:
    runs = place.origin.series(range(MANY))
    with ExitStack() as stack:
        mount = stack.enter_context(place.warm(port, runs))
        contenders = {
            OURS: lambda: _copy_listed(place, mount, runs),
            PARALLEL: lambda: place.curl_parallel(port, place.origin.series(range(MANY))),
        }
        if port is Port.CHUNKED:  # one by one, a length makes no difference to the others
            contenders[CURL] = lambda: place.curl(port, place.origin.series(range(MANY)))
            contenders[OFF] = of_rclone(place, stack, place.origin.series(range(MANY)), place.cp)
        yield figure(
            place,
            port,
            "20 of 0.1-3 MB, `cp` in listing order",
            contenders,
            lambda measured: measured.beside(PARALLEL, 1.15, "at most 1.15 × curl, all at once"),
        )


def _copy_listed(place: Place, mount: Mount, runs: Sequence[int]) -> float:
    # The shell reads the directory for `camb/*.flac`; that belongs to the sample.
    begin = time.perf_counter()
    names = sorted(path for path in mount.path.iterdir() if path.suffix == ".flac" and int(path.stem) in runs)
    listing_s = time.perf_counter() - begin
    return listing_s + place.cp(names, runs)


def at_random(place: Place, port: Port) -> Iterator[Figure]:
    runs = place.origin.series(range(MANY))
    shuffled = random.Random(2).sample(runs, MANY)
    with place.warm(port, runs) as mount:
        contenders = {
            OURS: lambda: place.cp([place.path(mount, run) for run in shuffled], runs),
            CURL: lambda: place.curl(port, place.origin.series(range(MANY))),
        }
        yield figure(
            place,
            port,
            "the same in random order",
            contenders,
            lambda measured: measured.beside(CURL, 1, "at most curl"),
        )


def at_once(place: Place, port: Port) -> Iterator[Figure]:
    runs = place.origin.series(range(MANY))
    with ExitStack() as stack:
        mount = stack.enter_context(place.warm(port, runs))
        contenders = {
            OURS: lambda: place.cps([place.path(mount, run) for run in runs], runs),
            PARALLEL: lambda: place.curl_parallel(port, place.origin.series(range(MANY))),
            OFF: of_rclone(place, stack, place.origin.series(range(MANY)), place.cps),
        }
        yield figure(place, port, "the same, 20 `cp` at once", contenders)


def listing(place: Place, port: Port) -> Iterator[Figure]:
    runs = [place.fresh(SHORT) for _ in range(_LISTED)]
    with place.warm(port, runs) as mount:
        asked: list[Asked] = []

        def sample() -> float:
            seconds, found = place.origin.asked(lambda: _ls(mount, runs))
            asked.append(found)
            return seconds

        def goals(measured: Measured) -> Sequence[Goal]:
            slow = Goal("at most 3 s", measured.median(), _LISTING_S, "s")
            return [slow, Goal("no audio asked for", asked[-1].requests.audio, 0, "")]

        yield figure(place, port, "`ls -l` of 1,000 declared", {OURS: sample}, goals)


def _ls(mount: Cambfs, runs: Sequence[int]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(["ls", "-l", str(mount.path)], capture_output=True, text=True, timeout=120)
    seconds = time.perf_counter() - begin
    listed = {line.split()[-1] for line in done.stdout.splitlines()}
    if done.returncode or not {f"{run}.flac" for run in runs} <= listed:
        raise CannotMeasure(f"ls fails or lists too few: {done.stderr.strip()}")
    return seconds


def playing(place: Place, port: Port) -> Iterator[Figure]:
    """The longest wait between two tracks, from the open to the first byte; the first two show the order."""
    runs = place.origin.series(range(SHORT, SHORT + 2 + _TRACKS))
    with place.warm(port, runs) as mount:
        contenders = {OURS: lambda: max([_play(place.path(mount, run)) for run in runs][2:])}
        yield figure(place, port, "next track of a playlist", contenders, within(_NEXT_TRACK_S, "at most 5 ms"))


def _play(path: Path) -> float:
    """Reads at the rate of a player; the seconds from the open to the first byte."""
    begin = time.perf_counter()
    with readers.opened(path) as descriptor:
        data = os.read(descriptor, readers.HEAD_BYTES)
        first_s = time.perf_counter() - begin
        position = 0
        while data:
            position += len(data)
            time.sleep(max(0, begin + position / _PLAYED_A_SECOND - time.perf_counter()))
            data = os.read(descriptor, readers.HEAD_BYTES)
    return first_s
