"""Responses that do not fit each other: another result than a moment ago, another file in storage, ranges that lie.

No reader ever gets bytes of two results, not even through the pages that the kernel keeps.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
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
    journal_of,
    make_results,
    read,
    read_all,
    seen,
    server_of_results,
)
from tests.kernel.harness import PYTHON, READER, wait_until
from tests.kernel.profiles import DIFFERS

SECTION = "Answers that do not fit each other"
PROFILES = {
    "no ranges": Profile(storage="no-ranges"),
    "storage ranges": Profile(),
    "API ranges": Profile(length="content-length", ranges=True),
}
OLD, NEW, OTHER = 1, 2, 3


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
    """The second is longer than the first."""
    directory = tmp_path_factory.mktemp("results")
    (directory / "long").mkdir()
    return {**make_results(directory, 3, 10.0), NEW: make_results(directory / "long", 2, 11.0)[2]}


server = server_of_results


@pytest.mark.parametrize("ranges", PROFILES)
def test_a_result_that_changes_between_attempts(ranges: str, server: Server, mounted: Mounted) -> None:
    server.profile = PROFILES[ranges]
    old, new = server.results[OLD], server.results[NEW]
    server.fail(Fault("stall", run_id=OLD, after_bytes=300_000))
    with mounted(
        "--timeout", "4s", expected=["fetched anew", f"/{OLD}.flac.*ESTALE", "?storage has another file"]
    ) as mount:
        assert read(mount, OTHER).is_all_of(server.results[OTHER])
        with mount.start([*PYTHON, READER, "hold", f"{OLD}.flac"]) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None

            def held(offset: int, length: int) -> str:
                holder.stdin.write(b"%d %d\n" % (offset, length))  # type: ignore[union-attr]
                holder.stdin.flush()  # type: ignore[union-attr]
                return holder.stdout.readline().decode().strip()  # type: ignore[union-attr]

            assert holder.stdout.readline() == b"open\n"
            assert held(0, 100_000) == digest(old, 0, 100_000)
            wait_until(lambda: server.stalled, "the stream has stalled")
            server.results[OLD] = new  # the connection is closed by and by, and the request repeated
            found = read(mount, OLD, limit_s=20)
            assert found.ending == "ESTALE"
            assert found.is_prefix_of(old)
            assert journal_of(mount, OLD)[3] == "ESTALE"
            for _ in range(2):
                assert read(mount, OLD).is_all_of(new), "open again, it is the new one from its first byte"
            assert held(0, 100_000) in (digest(old, 0, 100_000), "ESTALE")
            assert held(200_000, 100_000) in (digest(old, 200_000, 100_000), "ESTALE"), "bytes of two results"
            assert held(350_000, 50_000) == "ESTALE"
        assert mount.run(f"stat -c %s {OLD}.flac").out == b"%d\n" % new.stat().st_size
        for _ in range(2):
            assert read(mount, OLD).is_all_of(new), "the kernel's pages are of the old one"
        wait_until(lambda: OLD in mount.cached_runs(), "it is in the cache")
        (kept,) = mount.cache_dir.glob(f"*/{OLD}.flac")
        assert kept.read_bytes() == new.read_bytes()
    how = "bytes of the old result, then ESTALE; whoever opens it again gets the new one from its first byte"
    seen(SECTION, f"another result at the second attempt; {ranges}", how, found.seconds, "the new result", "ESTALE")


def digest(path: Path, offset: int, length: int) -> str:
    return hashlib.sha256(path.read_bytes()[offset : offset + length]).hexdigest()


@pytest.mark.parametrize("storage", ["other", "wav"])
def test_storage_with_another_file_is_not_resumed_from(storage: str, server: Server, mounted: Mounted) -> None:
    server.profile = Profile(storage=storage)  # type: ignore[arg-type]
    for run_id in server.results:
        server.fail(Fault("reset", run_id=run_id, after_bytes=200_000))
    with mounted("--timeout", "5s", expected=[DIFFERS]) as mount:
        reads = read_all(mount, list(server.results))
        for run_id, found in reads.items():
            assert found.is_all_of(server.results[run_id])
            size = server.results[run_id].stat().st_size
            assert mount.run(f"stat -c %s {run_id}.flac").out == b"%d\n" % size
    slowest = max(found.seconds for found in reads.values())
    seen(
        SECTION,
        f"storage has {'a WAV' if storage == 'wav' else 'another FLAC'}, and the stream breaks",
        "the stream's bytes, and its size",
        slowest,
        "the stream's bytes",
        "nothing (a warning in the log)",
    )


def lies(path: Path) -> dict[str, Fault]:
    """Responses to a request for the bytes from 200,000 on."""
    data, at = path.read_bytes(), 200_000
    size = len(data)

    def partial(first: int, last: int, total: object, body: bytes) -> Fault:
        headers = {"Content-Range": f"bytes {first}-{last}/{total}"}
        return Fault("status", status=206, headers=headers, body=body, content_type="audio/flac")

    return {
        "other bytes than asked": partial(0, size - at - 1, size, data[: size - at]),
        "fewer bytes than it says": partial(at, size - 1, size, data[at:-1]),
        "more bytes than it says": partial(at, size - 2, size - 1, data[at:]),
        "another length of the whole": partial(at, size - 1, size + 10, data[at:]),
        "no Content-Range": Fault("status", status=206, body=data[at:], content_type="audio/flac"),
        "a Content-Range that cannot be": partial(size, at, size, data[at:]),
    }


def test_ranges_that_lie(server: Server, mounted: Mounted) -> None:
    server.profile = Profile(length="content-length", ranges=True)
    cases = list(lies(server.results[1]))
    source = server.results[1]
    server.results.update(dict.fromkeys(range(1, len(cases) + 1), source))
    for run_id, lie in enumerate(lies(source).values(), 1):
        server.fail(Fault("reset", run_id=run_id, after_bytes=200_000))
        server.fail(Fault(**{**vars(lie), "run_id": run_id}))
    with mounted("--timeout", "5s") as mount:
        reads = read_all(mount, list(range(1, len(cases) + 1)))
        for run_id, found in reads.items():
            assert found.is_all_of(source), f"{cases[run_id - 1]}: {found}"
        wait_until(lambda: mount.cached_runs() == set(reads), "they are in the cache")
        for path in mount.cache_dir.glob("*/*.flac"):
            assert path.read_bytes() == source.read_bytes()
    slowest = max(found.seconds for found in reads.values())
    seen(
        SECTION, "206 with " + ", ".join(cases), "the right bytes (the whole is asked for)", slowest, "the whole result"
    )


def test_answers_that_were_not_asked_for(server: Server, mounted: Mounted) -> None:
    data = server.results[1].read_bytes()
    headers = {"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
    packed = gzip.compress(data, 1)
    unasked = {
        1: Fault("status", run_id=1, status=206, headers=headers, body=data, content_type="audio/flac"),
        2: Fault("content", run_id=2, headers={"Content-Encoding": "gzip"}, body=packed, content_type="audio/flac"),
    }
    for fault in unasked.values():
        server.fail(fault)
    with mounted(*TIMEOUT, expected=[FAILED + ".*EIO"]) as mount:
        for run_id, what in ((1, "206 without being asked"), (2, "gzip although identity was asked for")):
            found = read(mount, run_id)
            assert (found.ending, found.count) == ("EIO", 0)
            assert found.seconds < TIMEOUT_S + SLACK_S
            assert journal_of(mount, run_id)[3] == "EIO"
            assert run_id not in mount.cached_runs()
            assert read(mount, run_id).is_all_of(server.results[run_id])
            seen(SECTION, what, "EIO", found.seconds, "nothing; the next open asks anew", "EIO, what was sent")
