"""Rows about one result on one link: small and large, warm, cold, after idle. No threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from bench_lib import readers
from bench_lib.figures import CURL, OFF, OURS, Figure, Goal, Measured
from bench_lib.real_link.origin import BOOK, CHAPTER, SHORT, SMALL, Port
from bench_lib.real_link.place import Place
from bench_lib.real_link.sampling import Goals, cp_fresh, figure, within

_HEAD_MORE_S = 0.01
_IDLE_S = 3.0
_FEW = 3


def one_small(place: Place, port: Port) -> Iterator[Figure]:
    size = place.origin.content.path(SMALL).stat().st_size
    limit_s = 2.2 * place.terms.round_trip_s + place.terms.transfer_s(size)
    goals = within(limit_s, "at most 2.2 round trips + transfer") if port is Port.CHUNKED else lambda _: []
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
        goals = within(limit_s, "at most 1.2 round trips + transfer")
        case = "0.3 MB, warm, `stat` then read"
        yield figure(place, port, case, {OURS: sample}, goals, _FEW, lambda: place.warm_up(mount))


def one_chapter(place: Place, port: Port) -> Iterator[Figure]:
    is_fast = place.terms.megabits == 1000 and place.terms.round_trip_ms == 100
    goals = within(0.35, "at most 0.35 s") if is_fast else lambda _: []
    yield from _one(place, port, "15 MB, warm", CHAPTER, goals, 1)


def _one(place: Place, port: Port, case: str, content: int, goals: Goals, rounds: int) -> Iterator[Figure]:
    with ExitStack() as stack:
        mount = stack.enter_context(place.warm(port))
        contenders = {OURS: lambda: cp_fresh(place, mount, content), CURL: lambda: _warm_curl(place, port, content)}
        if port is Port.CHUNKED:  # rclone has its own listing and sees no difference
            contenders[OFF] = _warm_rclone(place, stack, content)
        # As with curl, a connection that has just brought a result brings the next one faster than after a pause.
        yield figure(place, port, case, contenders, goals, rounds, lambda: place.warm_up(mount))


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
    goals = within(2.7, "at most 2.7 s") if is_far else lambda _: []
    yield _cold(place, port, "150 MB, cold", BOOK, goals, 1)


def _cold(place: Place, port: Port, case: str, content: int, goals: Goals, rounds: int) -> Figure:
    with ExitStack() as stack:
        # Mounting takes a second and is not measured; nothing is asked for until the copy.
        mounts = [stack.enter_context(place.cambfs(port)) for _ in range(rounds)]

        def ours() -> float:
            return cp_fresh(place, mounts.pop(), content)

        def curl() -> float:
            return place.curl(port, [place.fresh(content)])

        return figure(place, port, case, {OURS: ours, CURL: curl}, goals, rounds)


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
        goals = within(limit_s, "at most 1 round trip + 10 ms")
        yield figure(place, port, "first 4 KiB of a lone cold open, warm", contenders, goals, _FEW, warm_up)


def after_idle(place: Place, _port: Port) -> Iterator[Figure]:
    """The server has closed the connections since."""
    port = Port.FORGETFUL
    with place.warm(port) as mount:
        warm_s = cp_fresh(place, mount, SMALL)

        def sample() -> float:
            time.sleep(_IDLE_S)
            return cp_fresh(place, mount, SMALL)

        # TCP takes one round trip, TLS 1.3 another.
        limit_s = 1.1 * (warm_s + 2 * place.terms.round_trip_s)
        goals = within(limit_s, "no error, one handshake more than warm")
        yield figure(place, port, "0.3 MB after idle, connections closed", {OURS: sample}, goals)
