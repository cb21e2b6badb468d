"""Rows about many results at once: 50 read or looked at by 32 threads, a listing of 1,000, 64 streams.

Threads: those of `readers.all_at_once`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench_lib import readers
from bench_lib.audio import CHAPTER, MIXED, SENTENCE, Kind
from bench_lib.figures import BARE, CURL, FULL, OFF, OURS, CannotMeasure, Figure, Goal, Measured, alternate
from bench_lib.lab import Lab, Stage
from bench_lib.memory import take_and_give_back
from bench_lib.mounts import Mounted
from bench_lib.processes import peak_resident_mb
from bench_lib.server import CHUNKED, FAR_CHUNKED, FAR_LENGTH, LENGTH, ROUND_TRIP_S, Profile

_MANY, _THREADS = 50, 32
_STATS_LIMIT_S = 4 * ROUND_TRIP_S + 0.1
_LISTED = 1000
_LIST_LIMIT_S = 3.0
_LIST_REQUESTS = 2.3
_STREAMS = 64
_ONE = "one stream"
_STREAMS_SHARE = 0.8
_STREAMS_SPREAD = 2.0
PEAK_LIMIT_MB = 90.0


def fifty(lab: Lab) -> Iterator[Figure]:
    for profile in (LENGTH, CHUNKED):
        with lab.stage(profile, "mixed", has_bare=True) as stage:
            contenders: dict[str, Callable[[], float]] = {
                name: partial(_read_fifty, lab, mount) for name, mount in stage.mounts.items()
            }
            contenders[CURL] = partial(_curl_fifty, stage)
            megabytes = sum(kind.megabytes for kind in _kinds())
            measured = alternate(lab.rounds, contenders, between=partial(take_and_give_back, megabytes))
        yield measured.figure("fifty", profile.name, "s", _fifty_goals)


def _kinds() -> Sequence[Kind]:
    return [MIXED[place % len(MIXED)] for place in range(_MANY)]


def _read_fifty(lab: Lab, mount: Mounted) -> float:
    tasks = [partial(readers.whole, mount.fresh(kind), lab.audio.size(kind)) for kind in _kinds()]
    return readers.all_at_once(_THREADS, tasks)[0]


def _curl_fifty(stage: Stage) -> float:
    urls = [word for kind in _kinds() for word in ("-o", "/dev/null", stage.url(kind))]
    begin = time.perf_counter()
    subprocess.run(
        ["curl", "-sSZ", "--parallel-immediate", "--parallel-max", str(_THREADS), *urls],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begin


def _fifty_goals(measured: Measured) -> Sequence[Goal]:
    theirs = [who for who in (OFF, FULL) if measured.samples.get(who)]
    if not theirs:
        return ()
    best = min(theirs, key=measured.median)
    return measured.beside(best, 1.0, "at least as fast as the faster rclone mode")


def stats(lab: Lab) -> Iterator[Figure]:
    for profile in (FAR_LENGTH, FAR_CHUNKED):
        measured = alternate(lab.rounds, {OURS: partial(_stat_fifty, lab, profile)})
        yield measured.figure("stats", f"a new mount, {profile.name}", "s", _stats_goals)


def _stat_fifty(lab: Lab, profile: Profile) -> float:
    size = lab.audio.size(SENTENCE)
    with lab.cambfs(profile) as mount:
        tasks = [partial(readers.size_of, mount.fresh(SENTENCE), size) for _ in range(_MANY)]
        return readers.all_at_once(_THREADS, tasks)[0]


def _stats_goals(measured: Measured) -> Sequence[Goal]:
    return [Goal("at most 4 round trips + 0.1 s", measured.median(), _STATS_LIMIT_S, "s")]


def listing(lab: Lab) -> Iterator[Figure]:
    lab.server.list_for_peers("many", [SENTENCE], _LISTED)
    for profile in (FAR_LENGTH, FAR_CHUNKED):
        requests: list[float] = []
        ours = partial(_list_declared, lab, profile, requests)
        contenders = {OURS: ours} if lab.is_quick else {OURS: ours, OFF: partial(_list_rclone, lab, profile)}
        measured = alternate(lab.few(3), contenders, warm_ups=0)
        yield measured.figure("listing", profile.name, "s", partial(_listing_goals, requests))


def _list_declared(lab: Lab, profile: Profile, requests: list[float]) -> float:
    with lab.cambfs(profile, "--runs", f"{SENTENCE.run(0)}-{SENTENCE.run(_LISTED - 1)}") as mount:
        mark = lab.server.mark()
        seconds = _list(mount.path, 2 * _LISTED)
        requests.append(lab.server.since(mark).total / _LISTED)
        return seconds


def _list_rclone(lab: Lab, profile: Profile) -> float:
    with lab.rclone("off", profile, "many") as mount:
        return _list(mount.path, _LISTED)


def _list(directory: Path, entries: int) -> float:
    begin = time.perf_counter()
    done = subprocess.run(["ls", "-l", str(directory)], capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise CannotMeasure(f"ls fails: {done.stderr.splitlines()[0]}")
    lines = done.stdout.splitlines()[1:]
    if len(lines) != entries:
        raise CannotMeasure(f"ls shows {len(lines)} of {entries} files")
    if any(line.split()[4] in ("0", "-1") for line in lines):
        raise CannotMeasure("ls shows files of size 0")
    return seconds


def _listing_goals(requests: Sequence[float], measured: Measured) -> list[Goal]:
    most = max(requests)
    return [
        Goal(f"at most {_LIST_LIMIT_S:.0f} s", measured.median(), _LIST_LIMIT_S, "s"),
        Goal(f"at most {_LIST_REQUESTS} requests a result ({most:.2f})", most, _LIST_REQUESTS, ""),
    ]


def streams(lab: Lab) -> Iterator[Figure]:
    for profile in (LENGTH, CHUNKED):
        spreads: list[float] = []
        with lab.cambfs(profile) as mount, lab.bare(profile) as bare:
            contenders = {
                OURS: partial(_stream_all, lab, mount, spreads),
                _ONE: partial(_stream_one, lab, mount),
                BARE: partial(_stream_all, lab, bare, []),
            }
            measured = alternate(lab.few(5), contenders, between=partial(take_and_give_back, 1000))
            peak_mb = peak_resident_mb(mount.pid)
        yield measured.figure("streams", profile.name, "s", partial(_streams_goals, spreads), _alone(measured))
        yield peak("memory", f"{_STREAMS} streams of 15 MB, {profile.name}", peak_mb)


def _stream_one(lab: Lab, mount: Mounted) -> float:
    return readers.whole(mount.fresh(CHAPTER), lab.audio.size(CHAPTER))


def _stream_all(lab: Lab, mount: Mounted, spreads: list[float]) -> float:
    seconds, each = readers.all_at_once(_STREAMS, [partial(_stream_one, lab, mount)] * _STREAMS)
    spreads.append(max(each) / min(each))
    return seconds / _STREAMS


def _alone(measured: Measured) -> str:
    return f"one stream alone: {measured.median(_ONE) * 1000:.0f} ms" if measured.samples.get(_ONE) else ""


def _streams_goals(spreads: Sequence[float], measured: Measured) -> list[Goal]:
    spread = sorted(spreads)[len(spreads) // 2]
    goals = measured.beside(_ONE, 1 / _STREAMS_SHARE, f"at least {_STREAMS_SHARE} of one stream's throughput")
    return [*goals, Goal(f"slowest at most 2 × fastest ({spread:.2f})", spread, _STREAMS_SPREAD, "x")]


def peak(row: str, case: str, megabytes: float) -> Figure:
    goal = Goal(f"at most {PEAK_LIMIT_MB:.0f} MB", megabytes, PEAK_LIMIT_MB, "MB")
    return Figure(row, case, "MB", {OURS: [megabytes]}, [goal])
