"""Rows about cached results: read again, in the same mount and after a remount; very many results, listed.

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
from bench_lib.figures import BARE, FULL, LOCAL, OURS, CannotMeasure, Figure, Goal, Measured, alternate
from bench_lib.lab import Lab
from bench_lib.mounts import Cambfs, Mount
from bench_lib.processes import resident_mb
from bench_lib.server import LENGTH

_DISK_SHARE = 0.9
_CACHED = 100_000
_LIST_LIMIT_S = 0.5
_LONG_LIST_LIMIT_S = 8.0
_PATIENCE_S = 60.0
_RESULT_LIMIT_BYTES = 400
_FIND = ("find", "-name", "*.flac", "-printf", "%s %f\\n")


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

    def bare() -> float:
        with lab.bare_local() as mount:
            prepare(local)
            return readers.whole(mount.fresh(BOOK), size)

    contenders = {OURS: ours, LOCAL: of_disk}
    if not lab.is_quick:
        contenders[BARE] = bare
    measured = alternate(lab.rounds, contenders)
    return measured.figure("again", f"150 MB, {case}", "s", _goals)


def cached_listing(lab: Lab) -> Iterator[Figure]:
    home = lab.home()
    _fill(lab.cambfs(LENGTH, home=home).account)
    with lab.cambfs(LENGTH) as empty:
        subprocess.run(["ls"], cwd=empty.path, capture_output=True, check=True)
        empty_mb = resident_mb(empty.pid)
    with lab.cambfs(LENGTH, home=home) as mount:
        yield _listed(lab, mount, ["ls", "-f"], _LIST_LIMIT_S)
        yield _listed(lab, mount, ["ls"], _LIST_LIMIT_S)
        _seconds(mount, _FIND)
        each = (resident_mb(mount.pid) - empty_mb) * 1e6 / _CACHED
        yield _listed(lab, mount, ["ls", "-l"], _LONG_LIST_LIMIT_S)
    yield _found(lab, home)
    goal = Goal(f"at most {_RESULT_LIMIT_BYTES} bytes", each, _RESULT_LIMIT_BYTES, "bytes")
    yield Figure("cached-listing", "memory for each result, before ls -l", "bytes", {OURS: [each]}, [goal])


def _found(lab: Lab, home: Path) -> Figure:
    """The sizes of the audio alone, each time in a new mount."""

    def ours() -> float:
        with lab.cambfs(LENGTH, home=home) as mount:
            return _seconds(mount, _FIND)

    def bare() -> float:
        with lab.bare_local(_CACHED) as mount:
            return _seconds(mount, _FIND)

    def goals(measured: Measured) -> list[Goal]:
        return [Goal(f"at most {_LONG_LIST_LIMIT_S:g} s", measured.median(), _LONG_LIST_LIMIT_S, "s")]

    measured = alternate(lab.few(3), {OURS: ours, BARE: bare}, warm_ups=0)
    return measured.figure("cached-listing", f"find -name *.flac of {_CACHED:,}", "s", goals)


def _listed(lab: Lab, mount: Cambfs, command: list[str], limit_s: float) -> Figure:
    case, goal_text = f"{' '.join(command)} of {_CACHED:,}", f"at most {limit_s:g} s"
    mark = lab.server.mark()
    note = ""
    try:
        seconds = _seconds(mount, command)
    except subprocess.TimeoutExpired:
        seconds, note = _PATIENCE_S, f"stopped then, after {lab.server.since(mark)}"
    except CannotMeasure as reason:
        return Figure("cached-listing", case, "s", {}, absent={OURS: str(reason)})
    return Figure("cached-listing", case, "s", {OURS: [seconds]}, [Goal(goal_text, seconds, limit_s, "s")], note=note)


def _seconds(mount: Mount, command: Sequence[str]) -> float:
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=mount.path, capture_output=True, text=True, timeout=_PATIENCE_S)
    seconds = time.perf_counter() - begin
    found = done.stdout.count(".flac\n")
    if done.returncode or found != _CACHED:
        raise CannotMeasure(f"shows {found:,} results: {done.stderr[:100]}")
    return seconds


def _fill(account: Path) -> None:
    """A cache with very many tiny results, as a mount would have left it."""
    account.mkdir(parents=True, mode=0o700)
    data = b"fLaC" + bytes(60)
    sidecar = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "content_type": "audio/flac"}
    text = json.dumps({**sidecar, "mtime_ns": 1_700_000_000 * 10**9})
    for run_id in range(SENTENCE.run(0), SENTENCE.run(_CACHED)):
        (account / f"{run_id}.flac").write_bytes(data)
        (account / f"{run_id}.json").write_text(text)
