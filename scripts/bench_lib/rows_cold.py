"""Rows about one cold result: its first bytes, a copy of it, its end, its middle. Threads: none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from bench_lib import readers
from bench_lib.audio import BOOK, CHAPTER, MINUTE, SENTENCE, SIZES, Kind
from bench_lib.figures import CURL, FULL, OFF, OURS, SCRIPT, Figure, Goal, Measured, alternate
from bench_lib.lab import Lab, Stage
from bench_lib.link import calm, limited
from bench_lib.memory import take_and_give_back
from bench_lib.server import CHUNKED, FAR_CHUNKED, FAR_LENGTH, LENGTH, PROFILES, ROUND_TRIP_S, Profile

_FIRST_BYTE_MORE_S = 0.005
_ROUND_TRIPS_MORE_S = 0.01
_COPY_FACTOR = 1.5
_LINK_SHARE = 0.97
_MOST_ROUND_TRIPS = 4
_TAIL_BYTES = 128
_PLAY_ON_BYTES = 1 << 20
_LINKS = ((100, CHAPTER), (1000, BOOK))


def round_trips(measured: Measured, count: int) -> list[Goal]:
    text = f"at most {count} round trip{'s' if count > 1 else ''} + {_ROUND_TRIPS_MORE_S * 1000:.0f} ms"
    return [Goal(text, measured.median(), count * ROUND_TRIP_S + _ROUND_TRIPS_MORE_S, "s")]


def first_bytes(lab: Lab) -> Iterator[Figure]:
    expected = lab.audio.piece(CHAPTER, 0, readers.HEAD_BYTES)
    for profile in PROFILES:
        with lab.stage(profile, "chapters", has_bare=True) as stage:
            contenders = stage.of_mounts(CHAPTER, partial(readers.head, expected=expected))
            contenders[CURL] = partial(_curl_first_byte, stage)
            measured = alternate(lab.rounds, contenders, between=calm)
        yield measured.figure("first-bytes", profile.name, "s", partial(_first_bytes_goals, profile))


def _curl_first_byte(stage: Stage) -> float:
    return readers.curl_first_byte(stage.url(CHAPTER))


def _first_bytes_goals(profile: Profile, measured: Measured) -> Sequence[Goal]:
    if profile.wait_s:
        return round_trips(measured, 1 if profile.has_length else 2)
    limit = measured.median(CURL) + _FIRST_BYTE_MORE_S
    return [Goal("at most curl's first byte + 5 ms", measured.median(), limit, "s")]


def cold_copy(lab: Lab) -> Iterator[Figure]:
    for profile in (LENGTH, CHUNKED):
        with lab.stage(profile, "sizes", has_bare=True) as stage:
            for kind in SIZES:
                yield _cold_copy(lab, stage, kind)


def _cold_copy(lab: Lab, stage: Stage, kind: Kind) -> Figure:
    rounds = 1 if lab.is_quick and kind is BOOK else lab.rounds
    measured = alternate(rounds, stage.copies(kind), between=partial(take_and_give_back, kind.megabytes))
    return measured.figure("cold-copy", f"{kind.name}, {stage.profile.name}", "s", _copy_goals)


def _copy_goals(measured: Measured) -> Sequence[Goal]:
    goals = measured.beside(CURL, _COPY_FACTOR, f"≤ {_COPY_FACTOR} × curl")
    for peer in (SCRIPT, OFF, FULL):
        goals += measured.beside(peer, 1.0, f"< {peer}")
    return goals


def limited_copy(lab: Lab) -> Iterator[Figure]:
    for profile in (LENGTH, CHUNKED):
        for megabits, kind in _LINKS:
            case = f"{kind.name} at {megabits} Mbit/s, {profile.name}"
            with lab.stage(profile, "sizes", ("off",)) as stage, limited(megabits, lab.server.ports):
                contenders = stage.copies(kind)
                if lab.is_quick:
                    contenders = {who: contenders[who] for who in (OURS, CURL)}
                measured = alternate(lab.few(3), contenders, warm_ups=0)
            yield measured.figure("limited-copy", case, "s", _link_goals)


def _link_goals(measured: Measured) -> Sequence[Goal]:
    return measured.beside(CURL, 1 / _LINK_SHARE, f"at least {_LINK_SHARE} of curl's throughput")


def tail(lab: Lab) -> Iterator[Figure]:
    expected = lab.audio.piece(CHAPTER, lab.audio.size(CHAPTER) - _TAIL_BYTES, _TAIL_BYTES)
    for profile in (FAR_LENGTH, FAR_CHUNKED):
        with lab.stage(profile, "chapters") as stage, limited(100, lab.server.ports):
            contenders = stage.of_mounts(CHAPTER, partial(readers.tail, expected=expected))
            measured = alternate(lab.few(5), contenders, warm_ups=0, between=calm)
        yield measured.figure("tail", _ranges(profile), "s", lambda m: round_trips(m, _MOST_ROUND_TRIPS))


def seek(lab: Lab) -> Iterator[Figure]:
    offset = lab.audio.size(CHAPTER) // 2
    expected = lab.audio.piece(CHAPTER, offset, _PLAY_ON_BYTES)
    for profile in (FAR_LENGTH, FAR_CHUNKED):
        with lab.stage(profile, "chapters") as stage, limited(100, lab.server.ports):
            contenders = stage.of_mounts(CHAPTER, partial(readers.seek, offset=offset, expected=expected))
            measured = alternate(lab.few(5), contenders, warm_ups=0, between=calm)
        yield measured.figure("seek", _ranges(profile), "s", lambda m: round_trips(m, _MOST_ROUND_TRIPS))


def _ranges(profile: Profile) -> str:
    return f"{profile.name}, ranges from {'the API' if profile.has_length else 'storage'}"


def requests(lab: Lab) -> Iterator[Figure]:
    for profile in (LENGTH, CHUNKED):
        with lab.cambfs(profile) as mount:
            original, target = lab.audio.path(MINUTE), lab.work / "copy.flac"
            readers.cp(mount.fresh(SENTENCE), target, lab.audio.path(SENTENCE))
            path = mount.fresh(MINUTE)
            for state, goal in (("cold", 1), ("warm", 0)):
                mark = lab.server.mark()
                readers.cp(path, target, original)
                counts = lab.server.since(mark)
                figure = float(counts.audio if state == "cold" else counts.total)
                goals = [Goal(f"{goal} GET of the audio" if goal else "no request", figure, goal, "")]
                case = f"{state} copy, {profile.name}"
                yield Figure("requests", case, "", {OURS: [figure]}, goals, note=str(counts))
