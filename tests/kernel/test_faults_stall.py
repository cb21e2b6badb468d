"""The server stops sending, or nearly: at the connection, before the headers, in the body; for good or for a while.

Its readers get an errno within the timeout; other readers are not affected.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import (
    FAILED,
    SLACK_S,
    TIMEOUT,
    TIMEOUT_S,
    journal_of,
    read,
    read_all,
    results_of,
    seen,
    server_of_results,
    silent,
    timed,
)
from tests.kernel.harness import Mount, wait_until

SECTION = "The server stops sending"
WHERE = {"before the headers": BEFORE_HEADERS, "at the body's first byte": 0, "in the body": 150_000}

results = results_of(70)
server = server_of_results


@pytest.mark.parametrize("kind", ["stall", "drip"])
def test_a_stream_that_stops_for_good(kind: str, server: Server, mounted: Mounted) -> None:
    for run_id, after in enumerate(WHERE.values(), 1):
        if (kind, after) != ("drip", BEFORE_HEADERS):
            fault = Fault(kind, run_id=run_id, after_bytes=after, times=None, interval_s=1.0)  # type: ignore[arg-type]
            server.fail(fault)
            server.fail(Fault("stall", target="stored", run_id=run_id, after_bytes=100, times=None))
    slow = [run_id for run_id, after in enumerate(WHERE.values(), 1) if (kind, after) != ("drip", BEFORE_HEADERS)]
    with mounted(*TIMEOUT, expected=[FAILED + ".*ETIMEDOUT"]) as mount:
        reads = read_all(mount, slow, limit_s=20)
        for run_id, found in reads.items():
            assert found.ending == "ETIMEDOUT"
            assert found.is_prefix_of(server.results[run_id])
            assert found.seconds < TIMEOUT_S + SLACK_S
            assert journal_of(mount, run_id)[3] == "ETIMEDOUT"
            assert "--timeout" in journal_of(mount, run_id)[6]
        assert mount.cached_runs() == set()
        server.heal()
        # A reader that comes while an attempt is about to fail shares its failure.
        wait_until(lambda: all(found.ending == "end" for found in read_all(mount, slow).values()), "all are read anew")
        for run_id in slow:
            assert read(mount, run_id).is_all_of(server.results[run_id])
    for run_id, found in reads.items():
        what = "it stops" if kind == "stall" else "one byte a second"
        seen(
            SECTION,
            f"{what} {list(WHERE)[run_id - 1]}, for good",
            "ETIMEDOUT",
            found.seconds,
            "nothing; the next open asks anew",
            "ETIMEDOUT, --timeout allows more time",
        )


def test_a_stream_that_stops_for_a_while(server: Server, mounted: Mounted) -> None:
    for run_id, after in enumerate(WHERE.values(), 1):
        server.fail(Fault("stall", run_id=run_id, after_bytes=after))
    with mounted("--timeout", "20s") as mount, ExitStack() as stack:
        cats = [stack.enter_context(mount.start(f"cmp {i}.flac {server.results[i]}")) for i in (1, 2, 3)]
        wait_until(lambda: server.stalled == 3, "all have stalled")
        server.release()
        begin = time.monotonic()
        assert [cat.wait(20) for cat in cats] == [0, 0, 0]
        assert [server.count("stream", run_id) for run_id in (1, 2, 3)] == [1, 1, 1]
        seen(
            SECTION,
            "it stops for less than the timeout",
            "the right bytes, as soon as they come",
            time.monotonic() - begin,
            "the whole result",
        )


@pytest.mark.parametrize("is_full", [False, True], ids=["accepted", "not accepted"])
def test_a_server_that_is_there_and_says_nothing(is_full: bool, server: Server, mounted: Mounted) -> None:
    with mounted(*TIMEOUT, expected=[FAILED + ".*ETIMEDOUT", "?" + FAILED]) as mount:
        assert read(mount, 1).is_all_of(server.results[1])
        server.stop()
        with silent(urlsplit(server.base_url).port or 0, is_full=is_full):
            found = read(mount, 2, limit_s=20)
            assert found.ending == "ETIMEDOUT"
            assert found.seconds < 2 * TIMEOUT_S + SLACK_S  # one for the open's request for the size, one for the read
            taken = timed(lambda: mount.run("stat 3.flac", limit_s=20))
            assert taken < TIMEOUT_S + SLACK_S
            assert journal_of(mount, 2)[3] == "ETIMEDOUT"
            assert read(mount, 1).is_all_of(server.results[1])
            wait_until(lambda: mount.cached_runs() == {1}, "what was read is in the cache, and nothing else")
        server.start()
        wait_until(lambda: read(mount, 2).is_all_of(server.results[2]), "it is read once the server answers", 60)
        # An attempt that began before may be shared for as long as it lasts.
        wait_until(lambda: mount.run("stat -c %s 3.flac").status == 0, "the size is told", TIMEOUT_S + SLACK_S)
        assert mount.run("stat -c %s 3.flac").out == b"%d\n" % server.results[3].stat().st_size
    what = "no connection is made" if is_full else "connections are made, and nothing is answered"
    seen(
        SECTION,
        what,
        "ETIMEDOUT; what is cached reads on",
        found.seconds,
        "unchanged",
        "ETIMEDOUT, --timeout allows more time",
    )


def test_stalled_readers_hold_nobody_back(server: Server, mounted: Mounted) -> None:
    """64 readers hang in 64 results. Another result is read cold, and everything else responds, before any of them
    ends."""
    stuck = range(1, 65)
    for run_id in stuck:
        server.fail(Fault("stall", run_id=run_id, after_bytes=100_000, times=None))
        server.fail(Fault("stall", target="stored", run_id=run_id, after_bytes=100, times=None))
    with mounted("--timeout", "30s", "--max-transfers", "8") as mount, ExitStack() as stack:
        cats = [stack.enter_context(mount.start(["cat", f"{run_id}.flac"])) for run_id in stuck]
        # A result has up to three responses that can stall: its stream, and storage's for its head and its end.
        wait_until(lambda: mount.run("ls -U | grep -c flac").out == b"%d\n" % len(stuck), "all are open", 40)
        wait_until(lambda: server.stalled >= len(stuck), "all have stalled", 40)
        took = timed(lambda: check_alive(mount, server))
        assert all(cat.poll() is None for cat in cats)
        assert took < 15
        for cat in cats:
            cat.kill()
        server.heal()
    seen(
        SECTION,
        "64 results have stalled; another one is read cold, ls, stat, df and a cached read",
        "the right answers, all of them",
        took,
        "the whole result",
    )


def check_alive(mount: Mount, server: Server) -> None:
    assert read(mount, 70, limit_s=20).is_all_of(server.results[70])
    assert read(mount, 70, limit_s=20).is_all_of(server.results[70])
    assert mount.run("ls -U | grep -c flac", limit_s=20).out == b"65\n"
    assert mount.run("stat -c %s 69.flac", limit_s=20).out == b"%d\n" % server.results[69].stat().st_size
    assert mount.run("df . && stat -f . && ls -d . && cat 70.url", limit_s=20).status == 0


def test_threads_that_had_to_wait_end_and_others_begin(server: Server, mounted: Mounted) -> None:
    with mounted("--timeout", "30s") as mount:
        for stuck in (range(1, 31), range(31, 61)):
            _let_them_wait(mount, server, stuck)
            # Of libfuse's, ten are left; those of the transfers end a little later.
            wait_until(lambda: _threads(mount) < 20, "the threads have ended")
        assert read(mount, 70).is_all_of(server.results[70])


def _let_them_wait(mount: Mount, server: Server, stuck: range) -> None:
    for run_id in stuck:
        server.fail(Fault("stall", run_id=run_id, after_bytes=100_000))
    with ExitStack() as stack:
        readers = [stack.enter_context(mount.start(f"cmp {i}.flac {server.results[i]}")) for i in stuck]
        wait_until(lambda: server.stalled == len(stuck), "all have stalled")
        assert _threads(mount) > 2 * len(stuck)
        server.release()
        assert [reader.wait(20) for reader in readers] == [0] * len(stuck)


def _threads(mount: Mount) -> int:
    return len(list(Path(f"/proc/{mount.process.pid}/task").iterdir()))
