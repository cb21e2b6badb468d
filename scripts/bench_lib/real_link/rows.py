"""What is measured on one link, and the goals of each figure. No threads."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench_lib import readers
from bench_lib.figures import CURL, OFF, OURS, PARALLEL, CannotMeasure, Figure, Goal, Measured, alternate
from bench_lib.mounts import Cambfs, Mount
from bench_lib.real_link.network import Terms
from bench_lib.real_link.origin import BOOK, CHAPTER, MANY, SHORT, SMALL, Asked, Port
from bench_lib.real_link.place import Place

_HEAD_MORE_S = 0.01
_NEXT_TRACK_S = 0.005
_LISTED, _LISTING_S = 1000, 3.0
_PLAYED_A_SECOND = 100_000
_TRACKS = 3
_IDLE_S = 3.0
_FEW = 3

Contenders = Mapping[str, Callable[[], float]]
Goals = Callable[[Measured], Sequence[Goal]]


@dataclass(frozen=True)
class Row:
    """`on` says on which links it is measured: each where the figure has something to tell. Where packets are lost,
    only the first of the ports is."""

    name: str
    measure: Callable[[Place, Port], Iterator[Figure]]
    on: Callable[[Terms], bool]
    ports: Sequence[Port] = (Port.CHUNKED,)


def _figure(
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


def _within(limit_s: float, text: str) -> Goals:
    return lambda measured: [Goal(text, measured.median(), limit_s, "s")]


def _of_rclone(place: Place, stack: ExitStack, runs: Sequence[int], copy: Callable[..., float]) -> Callable[[], float]:
    def sample() -> float:
        mount = stack.enter_context(place.rclone(runs))
        return copy([place.path(mount, run) for run in runs], runs)

    return sample


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
            contenders[OFF] = _of_rclone(place, stack, place.origin.series(range(MANY)), place.cp)
        yield _figure(
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
        yield _figure(
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
            OFF: _of_rclone(place, stack, place.origin.series(range(MANY)), place.cps),
        }
        yield _figure(place, port, "the same, 20 `cp` at once", contenders)


def one_small(place: Place, port: Port) -> Iterator[Figure]:
    size = place.origin.content.path(SMALL).stat().st_size
    limit_s = 2.2 * place.terms.round_trip_s + place.terms.transfer_s(size)
    goals = _within(limit_s, "at most 2.2 round trips + transfer") if port is Port.CHUNKED else lambda _: []
    yield from _one(place, port, "0.3 MB, warm", SMALL, goals, _FEW)


def after_stats(place: Place, port: Port) -> Iterator[Figure]:
    """What a mount does that has seen each `stat` followed by an `open`."""
    size = place.origin.content.path(SMALL).stat().st_size

    with place.warm(port) as mount:

        def sample() -> float:
            path = place.path(mount, place.fresh())
            return readers.size_of(path, size) + readers.whole(path, size)

        for _ in range(_FEW):
            sample()
        limit_s = 1.2 * place.terms.round_trip_s + place.terms.transfer_s(size)
        goals = _within(limit_s, "at most 1.2 round trips + transfer")
        yield _figure(place, port, "0.3 MB, warm, `stat` then read", {OURS: sample}, goals, _FEW)


def one_chapter(place: Place, port: Port) -> Iterator[Figure]:
    is_fast = place.terms.megabits == 1000 and place.terms.round_trip_ms == 100
    goals = _within(0.35, "at most 0.35 s") if is_fast else lambda _: []
    yield from _one(place, port, "15 MB, warm", CHAPTER, goals, 1)


def _one(place: Place, port: Port, case: str, content: int, goals: Goals, rounds: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        mount = stack.enter_context(place.warm(port))
        contenders = {OURS: lambda: _cp_fresh(place, mount, content), CURL: lambda: _warm_curl(place, port, content)}
        if port is Port.CHUNKED:  # rclone has its own listing and sees no difference
            contenders[OFF] = _warm_rclone(place, stack, content)
        yield _figure(place, port, case, contenders, goals, rounds)


def _cp_fresh(place: Place, mount: Mount, content: int) -> float:
    run = place.fresh(content)
    return place.cp([place.path(mount, run)], [run])


def _warm_curl(place: Place, port: Port, content: int) -> float:
    return place.curl_times(port, [place.fresh(SHORT), place.fresh(content)], "time_total")[1]


def _warm_rclone(place: Place, stack: ExitStack, content: int) -> Callable[[], float]:
    def sample() -> float:
        # Each sample has a mount of its own: listing the results opens the connections.
        runs = place.origin.series([content])
        mount = stack.enter_context(place.rclone(runs))
        return place.cp([place.path(mount, run) for run in runs], runs)

    return sample


def first(place: Place, port: Port) -> Iterator[Figure]:
    def goals(measured: Measured) -> Sequence[Goal]:
        limit_s = measured.median(CURL) + place.terms.round_trip_s
        return [Goal("at most curl + 1 round trip", measured.median(), limit_s, "s")]

    yield _cold(place, port, "0.3 MB, first after the mount", SMALL, goals, 2)


def one_book(place: Place, port: Port) -> Iterator[Figure]:
    is_far = place.terms.round_trip_ms == 100 and not place.terms.loss_percent
    goals = _within(2.7, "at most 2.7 s") if is_far else lambda _: []
    yield _cold(place, port, "150 MB, cold", BOOK, goals, 1)


def _cold(place: Place, port: Port, case: str, content: int, goals: Goals, rounds: int) -> Figure:
    with ExitStack() as stack:
        # Mounting takes a second and is not measured; nothing is asked for until the copy.
        mounts = [stack.enter_context(place.cambfs(port)) for _ in range(rounds)]

        def ours() -> float:
            return _cp_fresh(place, mounts.pop(), content)

        def curl() -> float:
            return place.curl(port, [place.fresh(content)])

        return _figure(place, port, case, {OURS: ours, CURL: curl}, goals, rounds)


def head(place: Place, port: Port) -> Iterator[Figure]:
    expected = place.origin.content.path(CHAPTER).read_bytes()[: readers.HEAD_BYTES]
    limit_s = place.terms.round_trip_s + _HEAD_MORE_S
    with place.warm(port) as mount:

        def warm_up() -> None:
            # An open that was given up costs its connection, which would make the next one a cold one.
            place.warm_up(mount)
            place.network.calm()

        contenders = {
            OURS: lambda: readers.head(place.path(mount, place.fresh(CHAPTER)), expected),
            CURL: lambda: place.curl_times(port, [place.fresh(SHORT), place.fresh(SHORT)], "time_starttransfer")[1],
        }
        goals = _within(limit_s, "at most 1 round trip + 10 ms")
        yield _figure(place, port, "first 4 KiB of a lone cold open, warm", contenders, goals, _FEW, warm_up)


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

        yield _figure(place, port, "`ls -l` of 1,000 declared", {OURS: sample}, goals)


def _ls(mount: Cambfs, runs: Sequence[int]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(["ls", "-l", str(mount.path)], capture_output=True, text=True, timeout=120)
    seconds = time.perf_counter() - begin
    listed = {line.split()[-1] for line in done.stdout.splitlines()}
    if done.returncode or not {f"{run}.flac" for run in runs} <= listed:
        raise CannotMeasure(f"ls fails or lists too few: {done.stderr.strip()}")
    return seconds


def playing(place: Place, port: Port) -> Iterator[Figure]:
    """The longest wait between two tracks, from the open to the first byte."""
    runs = place.origin.series(range(SHORT, SHORT + 1 + _TRACKS))
    with place.warm(port, runs) as mount:
        contenders = {OURS: lambda: max([_play(place.path(mount, run)) for run in runs][1:])}
        yield _figure(place, port, "next track of a playlist", contenders, _within(_NEXT_TRACK_S, "at most 5 ms"))


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


def after_idle(place: Place, _port: Port) -> Iterator[Figure]:
    """The server has closed the connections since."""
    port = Port.FORGETFUL
    with place.warm(port) as mount:
        warm_s = _cp_fresh(place, mount, SMALL)

        def sample() -> float:
            time.sleep(_IDLE_S)
            return _cp_fresh(place, mount, SMALL)

        # TCP takes one round trip, TLS 1.3 another.
        limit_s = 1.1 * (warm_s + 2 * place.terms.round_trip_s)
        goals = _within(limit_s, "no error, one handshake more than warm")
        yield _figure(place, port, "0.3 MB after idle, connections closed", {OURS: sample}, goals)


def _is_any(_terms: Terms) -> bool:
    return True


def _is_lossless(terms: Terms) -> bool:
    return not terms.loss_percent


def _is_fast(terms: Terms) -> bool:
    return terms.megabits == 1000


def _is_plain(terms: Terms) -> bool:
    return _is_lossless(terms) and not _is_fast(terms)


_BOTH = (Port.CHUNKED, Port.LENGTH)
ROWS = (
    Row("in-order", in_order, _is_any, _BOTH),
    Row("random", at_random, _is_lossless),
    Row("at-once", at_once, _is_lossless),
    Row("small", one_small, _is_any, _BOTH),
    Row("after-stats", after_stats, _is_lossless),
    Row("first", first, _is_any),
    Row("chapter", one_chapter, _is_any, _BOTH),
    Row("book", one_book, _is_fast, _BOTH),
    Row("head", head, _is_lossless, _BOTH),
    Row("listing", listing, _is_plain),
    Row("playing", playing, _is_plain),
    Row("idle", after_idle, _is_plain),
)
# What changes most with the rate, beside the one link on which everything is measured.
QUICK_FAST_ROWS = ("chapter", "book")


def measure(place: Place, row: Row, port: Port) -> Iterator[Figure]:
    """The figures of a row; one that says why when there is none."""
    try:
        yield from row.measure(place, port)
    except (CannotMeasure, OSError, ValueError, subprocess.TimeoutExpired) as error:
        why = str(error) or type(error).__name__
        yield Figure(str(place.terms), f"{row.name}, the rest", "", {}, absent={OURS: why})
