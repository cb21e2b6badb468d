"""Rows about what is cached: read again, in the same mount and after a remount; very many results, listed.

No threads.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench_lib import readers
from bench_lib.audio import BOOK, SENTENCE
from bench_lib.figures import FULL, LOCAL, OURS, Figure, Goal, Measured, alternate
from bench_lib.lab import Lab
from bench_lib.mounts import Cambfs
from bench_lib.processes import resident_mb
from bench_lib.server import LENGTH

_DISK_SHARE = 0.9
_CACHED = 100_000
_LIST_LIMIT_S = 0.5
_LONG_LIST_LIMIT_S = 8.0
_PATIENCE_S = 60.0
_RESULT_LIMIT_BYTES = 400


def _goals(measured: Measured) -> Sequence[Goal]:
    return measured.beside(LOCAL, 1 / _DISK_SHARE, f"at least {_DISK_SHARE} of the local disk's throughput")


def _drop_pages(path: Path) -> None:
    """The next read of it comes from the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def again(lab: Lab) -> Iterator[Figure]:
    local, size = lab.audio.path(BOOK), lab.audio.size(BOOK)
    with ExitStack() as stack:
        ours = stack.enter_context(lab.cambfs(LENGTH))
        rclone = stack.enter_context(lab.rclone("full", LENGTH, "sizes"))
        rclone.list()
        paths = {OURS: ours.fresh(BOOK), FULL: rclone.fresh(BOOK), LOCAL: local}

        def contender(path: Path) -> Callable[[], float]:
            return lambda: readers.whole(path, size)

        measured = alternate(lab.rounds, {who: contender(path) for who, path in paths.items()})
        yield measured.figure("again", "150 MB, same mount", "s", _goals)
        name = paths[OURS].name
    yield _remounted(lab, ours.home, name, "after a remount, in memory", lambda _path: None)
    yield _remounted(lab, ours.home, name, "after a remount, from disk", _drop_pages)


def _remounted(lab: Lab, home: Path, name: str, case: str, prepare: Callable[[Path], None]) -> Figure:
    local, size = lab.audio.path(BOOK), lab.audio.size(BOOK)

    def ours() -> float:
        with lab.cambfs(LENGTH, home=home) as mount:
            prepare(mount.account / name)
            return readers.whole(mount.path / name, size)

    def of_disk() -> float:
        prepare(local)
        return readers.whole(local, size)

    return alternate(lab.rounds, {OURS: ours, LOCAL: of_disk}).figure("again", f"150 MB, {case}", "s", _goals)


def cached_listing(lab: Lab) -> Iterator[Figure]:
    home = lab.home()
    _fill(lab.cambfs(LENGTH, home=home).account)
    with lab.cambfs(LENGTH) as empty:
        _listed(lab, empty, ["ls"], 1.0)
        empty_mb = resident_mb(empty.pid)
    with lab.cambfs(LENGTH, home=home) as mount:
        yield _listed(lab, mount, ["ls", "-f"], _LIST_LIMIT_S)
        yield _listed(lab, mount, ["ls"], _LIST_LIMIT_S)
        yield _listed(lab, mount, ["find", "-name", "*.flac", "-printf", "%s %f\\n"], _LONG_LIST_LIMIT_S)
        each = (resident_mb(mount.pid) - empty_mb) * 1e6 / _CACHED
        yield _listed(lab, mount, ["ls", "-l"], _LONG_LIST_LIMIT_S)
    goal = Goal(f"at most {_RESULT_LIMIT_BYTES} bytes", each, _RESULT_LIMIT_BYTES, "bytes")
    yield Figure("cached-listing", "memory for each result, before ls -l", "bytes", {OURS: [each]}, [goal])


def _listed(lab: Lab, mount: Cambfs, command: list[str], limit_s: float) -> Figure:
    case, goal_text = f"{' '.join(command[:3])} of {_CACHED:,}", f"at most {limit_s:g} s"
    mark = lab.server.mark()
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, cwd=mount.path, capture_output=True, text=True, timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        note = f"stopped then, after {lab.server.since(mark)}"
        goal = Goal(goal_text, _PATIENCE_S, limit_s, "s")
        return Figure("cached-listing", case, "s", {OURS: [_PATIENCE_S]}, [goal], note=note)
    seconds = time.perf_counter() - begin
    found = done.stdout.count(".flac\n")
    if done.returncode or found != _CACHED:
        return Figure("cached-listing", case, "s", {}, absent={OURS: f"shows {found:,} results: {done.stderr[:100]}"})
    return Figure("cached-listing", case, "s", {OURS: [seconds]}, [Goal(goal_text, seconds, limit_s, "s")])


def _fill(account: Path) -> None:
    """A cache with very many tiny results, as a mount would have left it."""
    account.mkdir(parents=True, mode=0o700)
    data = b"fLaC" + bytes(60)
    sidecar = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "content_type": "audio/flac"}
    text = json.dumps({**sidecar, "mtime_ns": 1_700_000_000 * 10**9})
    for run_id in range(SENTENCE.run(0), SENTENCE.run(_CACHED)):
        (account / f"{run_id}.flac").write_bytes(data)
        (account / f"{run_id}.json").write_text(text)
