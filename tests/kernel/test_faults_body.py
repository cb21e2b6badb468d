"""The body of a response breaks: where, how, how often, and with or without ranges to go on from there.

In all cases a reader gets the result's bytes or an errno, and with ranges no byte is fetched twice.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import (
    FAILED,
    SLACK_S,
    TIMEOUT,
    TIMEOUT_S,
    Read,
    journal_of,
    read,
    read_all,
    results_of,
    seen,
    sent,
    server_of_results,
)
from tests.kernel.harness import wait_until

SECTION = "The body breaks"
HELD_BYTES = 20 * 1024
PROFILES = {
    "API ranges": Profile(length="content-length", ranges=True),
    "API ranges, chunked": Profile(ranges=True),
    "storage ranges": Profile(),
    "no ranges": Profile(storage="no-ranges"),
    "no ranges, Content-Length": Profile(length="content-length", storage="unreachable"),
    "no ranges, ended by closing": Profile(length="close", storage="no-ranges"),
}

results = results_of(20)
server = server_of_results


@pytest.mark.parametrize("ranges", PROFILES)
def test_a_body_that_breaks_now_and_then(ranges: str, server: Server, mounted: Mounted) -> None:
    """By reset and by early close (in chunked bodies: inside a chunk), at the start, in the middle, one byte before the
    end, once and at the first two attempts."""
    server.profile = PROFILES[ranges]
    breaks = [(kind, where, times) for kind in ("reset", "cut") for where in (0, 0.5, 1) for times in (1, 2)]
    sizes = {run_id: path.stat().st_size for run_id, path in server.results.items()}
    places: dict[int, tuple[int, int]] = {}
    for run_id, (kind, where, times) in enumerate(breaks, 1):
        places[run_id] = min(int(where * sizes[run_id]), sizes[run_id] - 1), times
        server.fail(Fault(kind, run_id=run_id, after_bytes=places[run_id][0], times=times))  # type: ignore[arg-type]
    with mounted("--timeout", "4s") as mount:
        assert read(mount, 20).is_all_of(server.results[20])  # storage is known to hold the same file
        reads = read_all(mount, list(places))
        for run_id, found in reads.items():
            assert found.is_all_of(server.results[run_id]), f"{breaks[run_id - 1]}: {found}"
        mount.await_idle()
        wait_until(lambda: mount.cached_runs() == {*places, 20}, "all are in the cache")
        for path in mount.cache_dir.glob("*/*.flac"):
            assert path.read_bytes() == server.results[int(path.stem)].read_bytes()
        assert mount.parts() == []
    for run_id, (after, times) in places.items():
        fetched = sent(server, run_id) + sent(server, run_id, "stored")
        if "no ranges" in ranges:
            assert sent(server, run_id) == sizes[run_id] + times * after
        else:
            # Bytes near the end of a chunk are not trusted before the end has come, and storage overlaps by 4 KiB.
            twice = fetched - probes(server, run_id) - sizes[run_id]
            assert 0 <= twice <= times * HELD_BYTES, f"{breaks[run_id - 1]}: bytes were fetched twice"
    slowest = max(found.seconds for found in reads.values())
    how = (
        "asked again, compared with what was there"
        if "no ranges" in ranges
        else "resumed, at most 20 KiB fetched twice"
    )
    seen(
        SECTION,
        f"reset or early close, at the start, in the middle, before the last byte; {ranges}",
        f"the right bytes ({how})",
        slowest,
        "the whole result",
    )


def probes(server: Server, run_id: int) -> int:
    """Bytes that were sent to show the size."""
    stored = [r for r in server.requests if r.kind == "stored" and r.run_id == run_id]
    return sum(r.sent for r in stored if r.range and not r.range.endswith("-"))  # a resumed stream goes on to the end


@pytest.mark.parametrize("ranges", PROFILES)
def test_a_body_that_always_breaks(ranges: str, server: Server, mounted: Mounted) -> None:
    if ranges != "storage ranges":
        server.profile = replace(PROFILES[ranges], storage="unreachable")
    sizes = {run_id: path.stat().st_size for run_id, path in server.results.items()}
    places = {1: 0, 2: sizes[2] // 2, 3: sizes[3] - 1}
    for run_id, after in places.items():
        server.fail(Fault("reset", run_id=run_id, after_bytes=after, times=None))
        server.fail(Fault("reset", target="stored", run_id=run_id, after_bytes=min(after, 100), times=None))
    with mounted(*TIMEOUT, expected=["?" + FAILED + ".*EIO", "?" + FAILED]) as mount:
        reads = read_all(mount, list(places), limit_s=20)
        for run_id, found in reads.items():
            if server.profile.ranges and run_id != 1:
                assert found.is_all_of(server.results[run_id]), "each answer brings it further"
                continue
            check_failed(found, "EIO", server.results[run_id])
            assert journal_of(mount, run_id)[3] == "EIO"
            assert "again" in journal_of(mount, run_id)[6]
        whole = {run_id for run_id, found in reads.items() if found.ending == "end"}
        wait_until(lambda: mount.cached_runs() == whole, "what came whole is in the cache, and nothing else")
        server.heal()
        for run_id in places:
            assert read(mount, run_id).is_all_of(server.results[run_id]), "what has failed is asked for anew"
        wait_until(lambda: mount.cached_runs() == set(places), "all are in the cache")
    failed = [found.seconds for found in reads.values() if found.ending != "end"]
    seen(
        SECTION,
        f"reset at every attempt; {ranges}",
        "EIO",
        max(failed),
        "nothing; the next open asks anew",
        "EIO, the connection breaks again and again",
    )


def test_an_end_that_nothing_proves(server: Server, mounted: Mounted) -> None:
    """Without a length, without chunks, and without storage an end looks like any other."""
    server.profile = Profile(length="close", storage="unreachable")
    for run_id, times in ((1, 1), (2, 2)):
        server.fail(Fault("cut", run_id=run_id, after_bytes=100_000 * times, times=1))
    server.fail(Fault("cut", run_id=2, after_bytes=200_000, times=1))
    with mounted(*TIMEOUT) as mount:
        reads = read_all(mount, [1, 2, 3])
        for run_id, found in reads.items():
            assert found.is_all_of(server.results[run_id]), found
        assert server.count("stream", 3) == 1, "the audio itself shows that it is whole"
        mount.await_idle()
        wait_until(lambda: mount.cached_runs() == {1, 2, 3}, "they are in the cache")
    slowest = max(found.seconds for found in reads.values())
    seen(
        SECTION,
        "early close of a body with neither length nor chunks, no storage",
        "the right bytes (the last FLAC frame was missing, so it was asked again)",
        slowest,
        "the whole result",
    )


def test_an_end_before_the_first_frame_however_often_it_is_met(server: Server, mounted: Mounted) -> None:
    """Responses that end at the same byte agree with each other, and are wrong all the same."""
    server.profile = Profile(length="close", storage="unreachable")
    for run_id, after_bytes in ((1, 1), (2, 41), (3, 42)):
        server.fail(Fault("cut", run_id=run_id, after_bytes=after_bytes, times=3))
    with mounted(*TIMEOUT) as mount:
        for run_id, found in read_all(mount, [1, 2, 3]).items():
            assert found.is_all_of(server.results[run_id]), found
            assert server.count("stream", run_id) == 4, "three ends were met"


def test_a_content_length_that_is_too_long(server: Server, mounted: Mounted) -> None:
    server.profile = Profile(length="content-length", storage="unreachable")
    server.fail(Fault("length", run_id=1, lie_bytes=1000, times=1))
    server.fail(Fault("length", run_id=2, lie_bytes=1000, times=None))
    with mounted(*TIMEOUT, expected=["?fetched anew", "?" + FAILED]) as mount:
        reads = read_all(mount, [1, 2], limit_s=20)
        for run_id, found in reads.items():
            assert found.is_prefix_of(server.results[run_id])
            assert found.ending in ("ESTALE", "ETIMEDOUT", "EIO")
            assert found.seconds < TIMEOUT_S + SLACK_S
            assert journal_of(mount, run_id)[3] == found.ending
        assert mount.cached_runs() == set()
        assert read(mount, 1).is_all_of(server.results[1])
        assert mount.run("stat -c %s 1.flac").out == b"%d\n" % server.results[1].stat().st_size
    seen(
        SECTION,
        "Content-Length 1,000 bytes too long",
        f"the bytes there are, then {reads[2].ending}",
        max(found.seconds for found in reads.values()),
        "nothing; the next open asks anew",
        reads[2].ending,
    )


def test_a_content_length_that_is_too_short_once(server: Server, mounted: Mounted) -> None:
    """Surplus bytes are not taken for the next response, either."""
    server.profile = Profile(length="content-length", storage="unreachable")
    server.fail(Fault("length", run_id=1, lie_bytes=-1000, times=1))
    with mounted(*TIMEOUT) as mount:
        found = read(mount, 1)
        assert found.is_all_of(server.results[1])
        for run_id in (2, 3):
            assert read(mount, run_id).is_all_of(server.results[run_id]), "the surplus was taken for another answer"
        wait_until(lambda: mount.cached_runs() == {1, 2, 3}, "all are in the cache")
    seen(
        SECTION,
        "Content-Length 1,000 bytes too short, once",
        "the right bytes (the last FLAC frame was missing, so it was asked again)",
        found.seconds,
        "the whole result",
    )


def test_a_content_length_that_stays_too_short(server: Server, mounted: Mounted) -> None:
    server.profile = Profile(length="content-length", storage="unreachable")
    server.fail(Fault("length", run_id=1, lie_bytes=-1000, times=None))
    with mounted(*TIMEOUT, expected=[FAILED, "fetched anew"]) as mount:
        found = read(mount, 1)
        check_failed(found, "EIO", server.results[1])
        assert journal_of(mount, 1)[3] == "EIO"
        for run_id in (2, 3):
            assert read(mount, run_id).is_all_of(server.results[run_id]), "the surplus was taken for another answer"
        wait_until(lambda: mount.cached_runs() == {2, 3}, "the others are in the cache")
    server.profile = Profile(length="content-length")
    with mounted(*TIMEOUT) as mount:
        assert read(mount, 1).is_all_of(server.results[1]), "storage has the rest"
    seen(
        SECTION,
        "Content-Length 1,000 bytes too short, always",
        "the right bytes where storage has the rest, else EIO",
        found.seconds,
        "nothing; the next open asks anew",
        "EIO, where it ended",
    )


def check_failed(found: Read, errno_name: str, path: Path) -> None:
    assert found.ending == errno_name
    assert found.is_prefix_of(path), "bytes that are not the result's"
    assert found.count < path.stat().st_size
    assert found.seconds < TIMEOUT_S + SLACK_S
