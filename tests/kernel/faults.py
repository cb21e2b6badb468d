"""Shared by the tests of faults: many small results, timed reads, and a record of a reader's results.

Not the mounts (`harness`). With CAMBFS_RELIABILITY=FILE every `seen` adds a line of JSON to FILE, from which
`scripts/reliability` makes the page of the same name. Threads: a pool runs tools beside each other.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.kernel.harness import KEY, PYTHON, Mount

TIMEOUT_S = 2.0
TIMEOUT = ("--timeout", "2s")
# The extra time that a busy machine may take; still far less than the wait of a mount without --timeout.
SLACK_S = 10.0
# Every line that a failed read may leave in the log.
FAILED = r"(open|read|getattr|access) /\\?\d+\.\w+: "

_SHOW = """
import errno, hashlib, os, sys
digest, count = hashlib.sha256(), 0
try:
    fd = os.open(sys.argv[1], os.O_RDONLY)
    while piece := os.read(fd, 1 << 17):
        digest.update(piece)
        count += len(piece)
    print(count, digest.hexdigest(), "end")
except OSError as error:
    print(count, digest.hexdigest(), errno.errorcode[error.errno])
"""


@dataclass(frozen=True)
class Read:
    """The outcome of reading a whole file: the bytes, how it ended ("end", or the name of an errno), the time."""

    count: int
    digest: str
    ending: str
    seconds: float

    def is_prefix_of(self, path: Path) -> bool:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(self.count)).hexdigest() == self.digest

    def is_all_of(self, path: Path) -> bool:
        return self.ending == "end" and self.count == path.stat().st_size and self.is_prefix_of(path)


def read(mount: Mount, run_id: int, *, limit_s: float = 60.0) -> Read:
    begin = time.monotonic()
    done = mount.run([*PYTHON, "-c", _SHOW, f"{run_id}.flac"], limit_s=limit_s)
    seconds = time.monotonic() - begin
    assert done.status == 0, done
    count, digest, ending = done.out.decode().split()
    return Read(int(count), digest, ending, seconds)


def read_all(mount: Mount, run_ids: Sequence[int], *, limit_s: float = 60.0) -> dict[int, Read]:
    """Beside each other."""
    with ThreadPoolExecutor(max(1, len(run_ids))) as pool:
        reads = pool.map(lambda run_id: read(mount, run_id, limit_s=limit_s), run_ids)
        return dict(zip(run_ids, reads, strict=True))


def make_results(directory: Path, count: int, seconds: float = 6.0) -> dict[int, Path]:
    """FLACs of noise, 1 to `count`, each of other bytes: 44 kB a second."""
    results = {}
    for run_id in range(1, count + 1):
        results[run_id] = directory / f"noise-{run_id}.flac"
        noise = random.Random(run_id).randbytes(int(seconds * 22_050) * 2)
        shape = ["--endian=little", "--sign=signed", "--channels=1", "--bps=16", "--sample-rate=22050"]
        command = ["flac", "-0", "-s", "-f", "--force-raw-format", *shape, "-o", str(results[run_id]), "-"]
        subprocess.run(command, input=noise, check=True)
    return results


def sent(server: Server, run_id: int, kind: str = "stream") -> int:
    """Bytes of a run's audio that have left the API, or (kind "stored") the storage."""
    return sum(record.sent for record in server.requests if (record.kind, record.run_id) == (kind, run_id))


@contextmanager
def fixed_server(results: Mapping[int, Path], profile: Profile | None = None) -> Iterator[Server]:
    """One that has the same ports when it is started again."""
    with Server({}) as found:
        ports = urlsplit(found.base_url).port or 0, urlsplit(found.storage_url).port or 0
    with Server(results, profile, key=KEY, port=ports[0], storage_port=ports[1]) as server:
        yield server
        server.heal()


def results_of(count: int) -> Any:
    """A fixture: the results of all the tests of a module."""

    @pytest.fixture(scope="module")
    def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
        return make_results(tmp_path_factory.mktemp("results"), count)

    return results


@pytest.fixture
def server_of_results(results: Mapping[int, Path]) -> Iterator[Server]:
    """A module takes it as its `server`, beside its `results`."""
    with fixed_server(results) as server:
        yield server


@contextmanager
def silent(port: int, *, is_full: bool) -> Iterator[None]:
    """A process listens at the port and never responds; when its queue is full, not even a connection is made."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0 if is_full else 128))
        for _ in range(4 if is_full else 0):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield


def error_log(mount: Mount) -> list[list[str]]:
    """The failures as the mount shows them: time, file, operation, errno, HTTP status, cause and advice."""
    text = (mount.path / ".cambfs" / "errors").read_text()
    return [line.split("\t") for line in text.splitlines()]


def journal_of(mount: Mount, run_id: int) -> list[str]:
    """The last failure of a run."""
    lines = [fields for fields in error_log(mount) if fields[1] == f"{run_id}.flac"]
    assert lines, f"nothing of run {run_id} in the errors: {error_log(mount)}"
    assert all(len(fields) == 7 and all(fields) for fields in lines)
    return lines[-1]


def seen(
    section: str, fault: str, reader_sees: str, how_soon_s: float | None, cache_after: str, error_log: str = "nothing"
) -> None:
    """Notes what was proven, for the page; call it after the proof. `how_soon_s` is what was measured, None where there
    is nothing to wait for."""
    if path := os.environ.get("CAMBFS_RELIABILITY"):
        row = {
            "section": section,
            "fault": fault,
            "reader_sees": reader_sees,
            "how_soon_s": how_soon_s,
            "cache_after": cache_after,
            "journal": error_log,
        }
        with Path(path).open("a") as file:
            file.write(json.dumps(row) + "\n")


def timed(work: Callable[[], object]) -> float:
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def errno_name(number: int) -> str:
    return errno.errorcode[number]
