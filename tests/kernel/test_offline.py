"""An API that does not respond: cached results still work, and the rest fails at once instead of waiting again.

How soon is not measured here: a server that is only silent counts the requests that were made.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import FAILED, TIMEOUT, read, results_of, server_of_results, silent
from tests.kernel.harness import Mount, wait_until

COUNT = 12
AUDIO = {f"{run_id}.flac" for run_id in range(1, COUNT + 1)}
URLS = {f"{run_id}.url" for run_id in range(1, COUNT + 1)}
NO_KEY_CHECK = "?key could not be checked"

results = results_of(COUNT)
server = server_of_results


def _listed(mount: Mount) -> set[str]:
    return set(os.listdir(mount.path))  # noqa: PTH208


def _cache_all(mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run(f"cat {{1..{COUNT}}}.flac > /dev/null").status == 0
        wait_until(lambda: len(mount.cached_runs()) == COUNT, "all is cached")


def _check_cached(mount: Mount, server: Server, scratch: Path) -> None:
    """Usual operations on cached results, on a plane."""
    listing = mount.run("ls -l")
    assert (listing.status, listing.err) == (0, "")
    assert b"?" not in listing.out
    assert _listed(mount) == AUDIO
    for command in (f"cp -r . {scratch}/cp", f"rsync -a ./ {scratch}/rsync", "find . -type f -size +1k | xargs wc -c"):
        done = mount.run(command)
        assert (done.status, done.err) == (0, ""), done
    for copy in ("cp", "rsync"):
        assert {path.name for path in (scratch / copy).iterdir()} == AUDIO
        assert (scratch / copy / "3.flac").read_bytes() == server.results[3].read_bytes()


def _silence(server: Server, run_id: int | None = None) -> None:
    for target in ("stream", "sign", "bulk"):
        server.fail(Fault("stall", target=target, run_id=run_id, after_bytes=BEFORE_HEADERS, times=None))


@pytest.mark.parametrize("is_gone_at_mount", [True, False], ids=["at mount", "later"])
def test_cached_results_while_the_api_refuses(
    is_gone_at_mount: bool, server: Server, mounted: Mounted, tmp_path: Path
) -> None:
    _cache_all(mounted)
    if is_gone_at_mount:
        server.stop()
    with mounted(expected=[NO_KEY_CHECK, r"7\.url: .*refuses the connection.*ECONNREFUSED"]) as mount:
        server.stop()
        _check_cached(mount, server, tmp_path)
        for _ in range(2):
            assert "Connection refused" in mount.run("cat 7.url").err
        server.start()
        wait_until(lambda: _listed(mount) == AUDIO | URLS, "the URLs are listed again")
        assert mount.run("ls -l && cat 7.url").status == 0


@pytest.mark.parametrize("is_full", [False, True], ids=["accepted", "not accepted"])
def test_cached_results_while_the_api_is_silent(
    is_full: bool, server: Server, mounted: Mounted, tmp_path: Path
) -> None:
    _cache_all(mounted)
    with mounted(*TIMEOUT, expected=[NO_KEY_CHECK, "?" + FAILED + ".*ETIMEDOUT"]) as mount:
        server.stop()
        with silent(urlsplit(server.base_url).port or 0, is_full=is_full):
            mount.run("ls -l")  # pays for finding out
            _check_cached(mount, server, tmp_path)
        server.start()
        wait_until(lambda: _listed(mount) == AUDIO | URLS, "the URLs are listed again", 60)
        assert mount.run("ls -l && cat 7.url").status == 0


def test_a_url_that_is_known_stays_listed(server: Server, mounted: Mounted) -> None:
    _cache_all(mounted)
    with mounted() as mount:
        shown = mount.run("cat 7.url").out
        server.stop()
        assert _listed(mount) == {*AUDIO, "7.url"}
        assert mount.run("ls -l").status == 0
        assert mount.run("cat 7.url").out == shown


def test_names_that_are_not_cached_fail_at_once_after_the_first(server: Server, mounted: Mounted) -> None:
    with mounted("--timeout", "4s", "--runs", f"1-{COUNT}", expected=[FAILED + ".*ETIMEDOUT"]) as mount:
        server.results[2**63 - 1] = server.results[1]  # of a run that it does not know the API would say so
        _silence(server)
        assert "Connection timed out" in mount.run("stat 1.flac").err
        paid = len(server.requests)
        done = mount.run("ls -l")
        assert done.err.count("Connection timed out") == COUNT, done
        assert "Connection timed out" in mount.run("cat 5.flac").err
        assert len(server.requests) <= paid + 1, "none, or the one that tries again after some seconds"
        server.heal()
        wait_until(lambda: read(mount, 5).is_all_of(server.results[5]), "it is read once the API answers", 60)
        assert mount.run("ls -l").status == 0


def test_names_that_are_not_cached_while_the_api_refuses(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", f"1-{COUNT}", expected=[FAILED + ".*ECONNREFUSED"]) as mount:
        server.stop()
        done = mount.run("ls -l")
        assert done.err.count("Connection refused") == COUNT, done
        server.start()
        wait_until(lambda: mount.run("ls -l").status == 0, "all is there again")
        assert _listed(mount) == AUDIO | URLS


def test_one_result_that_never_begins_holds_no_other_back(server: Server, mounted: Mounted) -> None:
    with mounted(*TIMEOUT, expected=[FAILED + ".*ETIMEDOUT"]) as mount:
        _silence(server, 1)
        for run_id in (2, 3):
            assert read(mount, 1).ending == "ETIMEDOUT"
            assert read(mount, run_id).is_all_of(server.results[run_id])
            assert mount.run(f"cat {run_id}.url").status == 0


def test_results_that_never_begin_one_after_the_other_hold_no_other_back(server: Server, mounted: Mounted) -> None:
    with mounted("--timeout", "1s", expected=[FAILED + ".*ETIMEDOUT"]) as mount:
        for run_id in (1, 2):
            _silence(server, run_id)
            assert read(mount, run_id).ending == "ETIMEDOUT"
        assert read(mount, 3).is_all_of(server.results[3])


def test_a_storage_that_is_down_is_not_the_api(server: Server, mounted: Mounted) -> None:
    server.profile = Profile(storage="unreachable")
    with mounted("--runs", f"1-{COUNT}") as mount:
        listing = mount.run("ls -l")
        assert (listing.status, listing.err) == (0, "")
        assert _listed(mount) == AUDIO | URLS
        assert read(mount, 2).is_all_of(server.results[2])
        assert mount.run("cat 2.url").status == 0


def test_an_api_that_is_down_is_not_the_storage(server: Server, mounted: Mounted) -> None:
    """A run whose stream breaks off is read on from storage."""
    size = server.results[1].stat().st_size
    with mounted(*TIMEOUT) as mount:
        assert mount.run("stat 1.flac 2.flac && cat 2.flac > /dev/null && cat 1.url").status == 0
        _silence(server)
        server.fail(Fault("reset", run_id=1, after_bytes=size // 2))
        server.heal()
        assert read(mount, 1).is_all_of(server.results[1])


def test_a_declared_run_that_does_not_exist_stays_out_of_the_listing(
    server: Server, mounted: Mounted, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    runs.write_text("1-2\n404\n")
    with mounted("--runs-file", str(runs)) as mount:
        assert {"404.flac", "404.url"} <= _listed(mount)
        assert mount.run("ls -l").status != 0
        asked = server.count("sign", 404) + server.count("stream", 404)

        def is_asked_again() -> bool:
            mount.run("stat 404.flac")
            return server.count("sign", 404) + server.count("stream", 404) > asked

        wait_until(is_asked_again, "the answer has been forgotten")
        assert _listed(mount) == {"1.flac", "1.url", "2.flac", "2.url"}
        done = mount.run(f"rsync -a ./ {tmp_path}/copy")
        assert (done.status, done.err) == (0, "")

        runs.write_text("1-2\n404\n3\n")
        wait_until(lambda: "404.flac" in _listed(mount), "the runs file has changed")
        assert mount.run("ls -l").status != 0
        assert not {"404.flac", "404.url"} & _listed(mount)

        server.results[404] = server.results[3]
        wait_until(lambda: mount.run("cat 404.flac").status == 0, "it exists now")
        assert {"404.flac", "404.url"} <= _listed(mount)


def test_one_silent_connection_to_storage_says_nothing_about_the_others(server: Server, mounted: Mounted) -> None:
    """Sizes still come from storage, and cost no audio."""
    with mounted("--timeout", "4s") as mount:
        assert read(mount, 3).is_all_of(server.results[3])  # storage is proven
        server.fail(Fault("stall", target="stored", run_id=1, after_bytes=BEFORE_HEADERS, times=None))
        with mount.start("stat 1.flac") as stat:
            wait_until(lambda: server.stalled, "a connection hangs")
            assert (mount.path / "6.flac").stat().st_size == server.results[6].stat().st_size
            assert server.stalled, "another one has responded meanwhile"
            wait_until(lambda: not server.stalled, "it is given up")
            assert stat.wait(20) == 0, "the stream tells the size"
        assert server.count("stored", 12) == 0
        assert (mount.path / "12.flac").stat().st_size == server.results[12].stat().st_size
        assert (server.count("stored", 12) > 0, server.count("stream", 12)) == (True, 0)
