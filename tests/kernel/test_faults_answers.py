"""Responses that refuse: too many requests, server errors, refusals; or an API that is gone for a while."""

from __future__ import annotations

import threading
import time
from email.utils import formatdate

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
    journal_of,
    read,
    read_all,
    results_of,
    seen,
    sent,
    server_of_results,
)
from tests.kernel.harness import Mount, wait_until

SECTION = "The API says no, or is gone"
PAGE = b"<html><head><title>Oops</title></head><body>the balancer is unwell</body></html>"

results = results_of(20)
server = server_of_results


def asked_at(server: Server, run_id: int) -> list[float]:
    return [r.time_s for r in server.requests if (r.kind, r.run_id) == ("stream", run_id)]


def test_who_is_told_to_wait_waits(server: Server, mounted: Mounted) -> None:
    with mounted("--timeout", "20s") as mount:
        waits = {1: ("1", 1.0), 2: (formatdate(time.time() + 5, usegmt=True), 0.5), 3: (None, 0.1), 4: ("0", 0.1)}
        for run_id, (words, _) in waits.items():
            headers = {"Retry-After": words} if words is not None else {}
            server.fail(Fault("status", run_id=run_id, status=429, body=b'{"detail": "slow down"}', headers=headers))
        reads = read_all(mount, list(waits))
        for run_id, (words, least_s) in waits.items():
            assert reads[run_id].is_all_of(server.results[run_id])
            first, second = asked_at(server, run_id)
            assert second - first >= least_s, f"asked again too early for Retry-After: {words}"
            what = "a date" if run_id == 2 else words
            seen(
                SECTION,
                f"429 once, Retry-After: {what}" if words else "429 once, without Retry-After",
                "the right bytes",
                reads[run_id].seconds,
                "the whole result",
            )


def test_who_is_told_to_wait_longer_than_the_timeout_fails_at_once(server: Server, mounted: Mounted) -> None:
    fault = Fault("status", run_id=1, status=429, body=b'{"detail": "slow down"}', headers={"Retry-After": "600"})
    server.fail(fault)
    with mounted("--timeout", "20s", expected=["1.flac.*429.*slow down.*EIO"]) as mount:
        found = read(mount, 1)
        assert (found.ending, found.count) == ("EIO", 0)
        assert found.seconds < SLACK_S
        fields = journal_of(mount, 1)
        assert fields[3:5] == ["EIO", "HTTP 429"]
        assert "slow down" in fields[5]
    seen(
        SECTION,
        "429, Retry-After beyond the timeout",
        "EIO",
        found.seconds,
        "nothing",
        "EIO, HTTP 429, the API's words",
    )


@pytest.mark.parametrize("length", ["chunked", "content-length"])
def test_trouble_that_passes_is_not_seen(length: str, server: Server, mounted: Mounted) -> None:
    server.profile = Profile(length=length)  # type: ignore[arg-type]
    cases = [(status, times) for status in (500, 502, 503, 504) for times in (1, 3)]
    for run_id, (status, times) in enumerate(cases, 1):
        for target in ("stream", "sign", "stored"):
            fault = Fault("status", target=target, run_id=run_id, status=status, times=times, body=PAGE)
            server.fail(fault)
    with mounted("--timeout", "10s") as mount:
        reads = read_all(mount, list(range(1, len(cases) + 1)))
        for run_id, found in reads.items():
            assert found.is_all_of(server.results[run_id]), cases[run_id - 1]
    for times in (1, 3):
        slowest = max(found.seconds for run_id, found in reads.items() if cases[run_id - 1][1] == times)
        often = "once" if times == 1 else "three times"
        seen(
            SECTION, f"500, 502, 503, 504 with HTML, {often}; {length}", "the right bytes", slowest, "the whole result"
        )


def test_trouble_that_lasts(server: Server, mounted: Mounted) -> None:
    statuses = dict(enumerate((500, 502, 503, 504, 429), 1))
    for run_id, status in statuses.items():
        for target in ("stream", "sign"):
            fault = Fault("status", target=target, run_id=run_id, status=status, times=None, body=PAGE)
            server.fail(fault)
    with mounted(*TIMEOUT, expected=[FAILED + ".*EIO"]) as mount:
        reads = read_all(mount, list(statuses), limit_s=20)
        for run_id, found in reads.items():
            assert (found.ending, found.count) == ("EIO", 0)
            assert found.seconds < TIMEOUT_S + SLACK_S
            assert journal_of(mount, run_id)[3:5] == ["EIO", f"HTTP {statuses[run_id]}"]
        assert mount.run("ls").status == 0
        server.heal()
        for run_id in statuses:
            assert read(mount, run_id).is_all_of(server.results[run_id])
    slowest = max(found.seconds for found in reads.values())
    seen(SECTION, "429, 500, 502, 503, 504 always", "EIO", slowest, "nothing", "EIO and the HTTP status")


def test_refusals_are_told_at_once(server: Server, mounted: Mounted) -> None:
    statuses = {1: (400, "ENOENT"), 2: (401, "EACCES"), 3: (403, "EACCES"), 4: (404, "ENOENT"), 5: (422, "ENOENT")}
    for run_id, (status, _) in statuses.items():
        for target in ("stream", "sign"):
            fault = Fault("status", target=target, run_id=run_id, status=status, times=None, body=b"go\x1b[31maway")
            server.fail(fault)
    with mounted("--timeout", "20s", expected=[FAILED + ".*EACCES"]) as mount:
        reads = read_all(mount, list(statuses))
        for run_id, (status, name) in statuses.items():
            assert (reads[run_id].ending, reads[run_id].count) == (name, 0)
            assert reads[run_id].seconds < SLACK_S
            assert len(asked_at(server, run_id)) == 1, "a refusal is no reason to ask again"
            fields = journal_of(mount, run_id)
            assert fields[3:5] == [name, f"HTTP {status}"]
            assert "\x1b" not in "".join(fields)
            seen(SECTION, f"{status} always", name, reads[run_id].seconds, "nothing", f"{name}, HTTP {status}")


def test_answers_that_are_no_audio(server: Server, mounted: Mounted) -> None:
    contents = {
        1: (b'{"detail": "still running"}', "application/json", "still running"),
        2: (PAGE, "text/html", "Oops"),
        3: (b'{"detail": "mislabelled"}', "audio/flac", "mislabelled"),
        4: (b"\x00\xff not JSON", "application/json", ""),
    }
    for run_id, (body, kind, _) in contents.items():
        server.fail(Fault("content", run_id=run_id, times=None, body=body, content_type=kind))
    with mounted("--timeout", "20s", expected=[FAILED + ".*EIO"]) as mount:
        reads = read_all(mount, list(contents))
        for run_id, (_, _, words) in contents.items():
            assert (reads[run_id].ending, reads[run_id].count) == ("EIO", 0)
            assert reads[run_id].seconds < SLACK_S
            fields = journal_of(mount, run_id)
            assert fields[3:5] == ["EIO", "HTTP 200"]
            assert words in fields[5]
            what = {1: "JSON", 2: "HTML", 3: "JSON labelled as audio", 4: "rubbish labelled as JSON"}[run_id]
            seen(SECTION, f"200 with {what}", "EIO", reads[run_id].seconds, "nothing", "EIO, HTTP 200, the API's words")
        assert mount.cached_runs() == set()


def test_a_key_that_is_revoked(server: Server, mounted: Mounted) -> None:
    with mounted(*TIMEOUT, expected=[FAILED + ".*EACCES"]) as mount:
        assert read(mount, 1).is_all_of(server.results[1])
        key, server.key = server.key, "another"
        try:
            found = read(mount, 2)
            assert (found.ending, found.count) == ("EACCES", 0)
            assert found.seconds < SLACK_S
            assert journal_of(mount, 2)[3:5] == ["EACCES", "HTTP 401"]
            assert read(mount, 1).is_all_of(server.results[1])
            assert mount.run("ls").out.split() == [b"1.flac", b"1.url"]
        finally:
            server.key = key
        assert read(mount, 2).is_all_of(server.results[2])
    seen(
        SECTION, "the key is revoked", "EACCES; what is cached reads on", found.seconds, "unchanged", "EACCES, HTTP 401"
    )


class Watch:
    """Stats existing names and lists the directory again and again, until it is stopped; `strange`: wrong results."""

    def __init__(self, mount: Mount, run_ids: list[int], sizes: dict[int, int]) -> None:
        self.looks = 0
        self.strange: list[str] = []
        self._command = (
            "stat -c '%n %s' " + " ".join(f"{run_id}.flac" for run_id in run_ids) + "; ls; cat 1.flac | wc -c"
        )
        self._wanted = "".join(f"{run_id}.flac {sizes[run_id]}\n" for run_id in run_ids)
        self._cached = f"\n{sizes[1]}\n"
        self._mount = mount
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            done = self._mount.run(self._command)
            out = done.out.decode()
            if done.status or not out.startswith(self._wanted) or not out.endswith(self._cached) or done.err:
                self.strange.append(str(done))
            self.looks += 1


def test_an_api_that_is_gone_for_a_while(server: Server, mounted: Mounted) -> None:
    """Reads under way go on when it is back; cached and known results stay the same all the time."""
    server.profile = Profile(rate=60_000)
    sizes = {run_id: path.stat().st_size for run_id, path in server.results.items()}
    with mounted("--timeout", "15s") as mount:
        server.profile = Profile()
        assert read(mount, 1).is_all_of(server.results[1])
        known = mount.run("stat -c %s 2.flac 3.flac 4.flac").out
        server.profile = Profile(rate=60_000)
        with Watch(mount, [1, 2, 3, 4], sizes) as watch:
            reads = {}
            reading = threading.Thread(target=lambda: reads.update(read_all(mount, [2, 3, 5])))
            reading.start()
            wait_until(lambda: all(sent(server, run_id) for run_id in (2, 3, 5)), "the reads are under way")
            server.stop()
            begin, looks = time.monotonic(), watch.looks
            wait_until(lambda: watch.looks >= looks + 20, "many looks meanwhile")
            outage_s = time.monotonic() - begin
            server.profile = Profile()
            server.start()
            reading.join()
        assert not watch.strange, watch.strange
        for run_id in (2, 3, 5):
            assert reads[run_id].is_all_of(server.results[run_id]), reads[run_id]
        assert mount.run("stat -c %s 2.flac 3.flac 4.flac").out == known
        assert read(mount, 4).is_all_of(server.results[4])
    seen(
        SECTION,
        f"the API and the storage are gone for {outage_s:.0f} s",
        "the right bytes: reads under way go on, cached results and known names never notice",
        max(found.seconds for found in reads.values()),
        "the whole result",
    )


def test_an_api_that_is_gone_for_longer(server: Server, mounted: Mounted) -> None:
    with mounted(*TIMEOUT, expected=[FAILED + ".*ECONNREFUSED"]) as mount:
        assert read(mount, 1).is_all_of(server.results[1])
        server.stop()
        found = read(mount, 2, limit_s=20)
        assert (found.ending, found.count) == ("ECONNREFUSED", 0)
        assert found.seconds < 2 * TIMEOUT_S + SLACK_S
        assert journal_of(mount, 2)[3] == "ECONNREFUSED"
        assert read(mount, 1).is_all_of(server.results[1])
        assert mount.run("ls").out.split() == [b"1.flac", b"1.url"]
        server.start()
        wait_until(lambda: read(mount, 2).is_all_of(server.results[2]), "it is read once the API is back")
    seen(
        SECTION,
        "the API is gone for longer than the timeout",
        "ECONNREFUSED; what is cached reads on",
        found.seconds,
        "unchanged",
        "ECONNREFUSED",
    )
