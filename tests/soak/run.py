"""The load itself: two mounts of an API that fails at random. One lives to the end, the other is often killed.

Threads: the readers' (`readers`), one for the faults (`chaos`), and the caller's, which mounts, kills, measures.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cambfs.system.workers import IDLE_S
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.faults import fixed_server, make_results, read, read_all
from tests.kernel.harness import Mount, wait_until
from tests.soak.chaos import Chaos
from tests.soak.readers import Reader, Tally

_RESULTS = 16
_STALLED = 64
_READERS = 3
_CACHE = ("--cache-size", "2MiB", "--timeout", "3s")
_SETTLE_S = 40.0
# The allowed growth of a daemon after its first rounds.
_MORE_THREADS, _MORE_FDS, _MORE_KB = 4, 4, 40_000
# Connections are kept for the next request: as many as were once needed at a time, which chance decides. A leak has no
# such bound.
_MOST_SOCKETS = 40
# libfuse keeps so many that rest, however few there were at first.
_LIBFUSE_KEEPS = 10


@dataclass(frozen=True)
class Sample:
    """Of the daemon that lives long, without readers."""

    threads: int
    fds: int  # without sockets
    sockets: int
    resident_kb: int


@dataclass
class Outcome:
    tally: Tally = field(default_factory=Tally)
    faults: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    kills: int = 0
    samples: list[Sample] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=dict)
    calm_streams: int = 0
    calm_results: int = 0
    alone_s: float = 0.0
    beside_stalled_s: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def faults_of_ours(self) -> list[str]:
        """All problems; empty when all is well."""
        found = [*self.wrong, *self.tally.wrong, *(f"hung: {what}" for what in self.tally.hangs)]
        if self.tally.endings["ok"] < self.tally.operations.total() // 10:
            found.append("less than a tenth of all operations went well: nothing was proven")
        if self.calm_streams != self.calm_results:
            found.append(f"{self.calm_streams} requests for {self.calm_results} results without faults")
        return [*found, *self._leaks()]

    def _leaks(self) -> list[str]:
        if len(self.samples) < 2:
            return []
        first, last = self.samples[len(self.samples) // 3], self.samples[-1]
        grown = {
            "threads": (last.threads - max(first.threads, _LIBFUSE_KEEPS), _MORE_THREADS),
            "file descriptors": (last.fds - first.fds, _MORE_FDS),
            "sockets": (last.sockets, _MOST_SOCKETS),
            "kB of memory": (last.resident_kb - first.resident_kb, _MORE_KB),
        }
        return [f"leaked {more} {what}" for what, (more, allowed) in grown.items() if more > allowed]


def soak(directory: Path, seconds: float, seed: int) -> Outcome:
    outcome = Outcome()
    versions = make_versions(directory)
    with fixed_server({run_id: paths[0] for run_id, paths in versions.items()}) as server:
        _Load(directory, server, versions, seed, outcome).run(seconds)
        _measure_calm(directory, server, outcome)
    return outcome


def make_versions(directory: Path) -> dict[int, tuple[Path, ...]]:
    """Two results for each run, of one length and other bytes; of several lengths."""
    versions: dict[int, tuple[Path, ...]] = {}
    for part, seconds in enumerate((0.5, 6.0, 12.0, 30.0)):
        (directory / str(part)).mkdir(parents=True)
        made = list(make_results(directory / str(part), _RESULTS // 2, seconds).values())
        for number in range(_RESULTS // 4):
            pair = made[2 * number], made[2 * number + 1]
            is_fit = pair[0].stat().st_size == pair[1].stat().st_size
            versions[part * 100 + number + 1] = pair if is_fit else pair[:1]
    return versions


class _Load:
    def __init__(
        self, directory: Path, server: Server, versions: dict[int, tuple[Path, ...]], seed: int, outcome: Outcome
    ) -> None:
        self._directory = directory
        self._server = server
        self._versions = versions
        self._chance = random.Random(seed)
        self._chaos = Chaos(server, versions, seed)
        self._outcome = outcome

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        life_s = seconds + 10 * _SETTLE_S  # more than the last rounds need
        with Mount(self._server, self._directory / "long", *_CACHE, expected=["?"], life_s=life_s) as long_lived:
            with self._chaos:
                while time.monotonic() < deadline:
                    self._round(long_lived)
                    self._outcome.rounds += 1
            self._check_log(long_lived)
        self._outcome.faults = dict(self._chaos.happened)

    def _round(self, long_lived: Mount) -> None:
        with Mount(self._server, self._directory / "short", *_CACHE, expected=["?"]) as short_lived:
            if short_lived.parts():
                self._outcome.wrong.append(f"a crash left {short_lived.parts()}")
            self._read_for(self._chance.uniform(0.5, 4.0), long_lived, short_lived)
            self._check_log(short_lived)
        self._check_kept(self._directory / "short" / "cache")
        self._chaos.pause()
        try:
            self._sample(long_lived)
        finally:
            self._chaos.resume()
        self._note_requests()

    def _read_for(self, seconds: float, long_lived: Mount, short_lived: Mount) -> None:
        readers = [
            Reader(mount, self._versions, self._outcome.tally, self._chance.randrange(1 << 30))
            for mount in (long_lived, short_lived)
            for _ in range(_READERS)
        ]
        for reader in readers:
            reader.start()
        time.sleep(seconds)
        if self._chance.random() < 0.6:
            short_lived.kill()
            self._outcome.kills += 1
        for reader in readers:
            reader.ask_to_stop()
        for reader in readers:
            reader.join()

    def _check_log(self, mount: Mount) -> None:
        strange = [line for line in mount.log.splitlines() if "Traceback" in line or "unexpected error" in line]
        self._outcome.wrong.extend(strange)

    def _check_kept(self, cache: Path) -> None:
        for path in cache.glob("*/*.flac"):
            wanted = [version.read_bytes() for version in self._versions[int(path.stem)]]
            if path.read_bytes() not in wanted or not path.with_suffix(".json").exists():
                # Between the two renames of a result a crash may leave a sidecar that does not fit: then it is dropped
                # at the next open. Its bytes are always whole.
                self._outcome.wrong.append(f"{path} is damaged in the cache")

    def _sample(self, mount: Mount) -> None:
        """Waits until transfers and probes have ended, so that only lasting resources are counted."""
        process = Path(f"/proc/{mount.process.pid}")
        deadline, before = time.monotonic() + _SETTLE_S, -1
        while time.monotonic() < deadline:
            threads = len(list((process / "task").iterdir()))
            if threads == before:
                break
            before = threads
            time.sleep(IDLE_S + 1)  # a worker that rests is none that stays
        resident = (process / "status").read_text().partition("VmRSS:")[2].split()[0]
        targets = list(_descriptors(process))
        sockets = sum(target.startswith("socket:") for target in targets)
        self._outcome.samples.append(Sample(before, len(targets) - sockets, sockets, int(resident)))

    def _note_requests(self) -> None:
        counts = self._outcome.requests
        for record in self._server.requests:
            counts[record.kind] = counts.get(record.kind, 0) + 1
        self._server.forget()


def _descriptors(process: Path) -> Iterator[str]:
    for path in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield str(path.readlink())


def _measure_calm(directory: Path, server: Server, outcome: Outcome) -> None:
    """Without faults: the requests for a cache that holds all, and the effect of stalled readers on the others."""
    runs = sorted(server.results)
    server.forget()
    with Mount(server, directory / "calm", "--max-transfers", "8") as mount:
        for _ in range(3):
            for run_id, found in read_all(mount, runs * 2).items():
                if not found.is_all_of(server.results[run_id]):
                    outcome.wrong.append(f"run {run_id} without faults: {found}")
        outcome.calm_streams, outcome.calm_results = server.count("stream"), len(runs)
        source = server.results[runs[-1]]
        server.results.update(dict.fromkeys(range(1000, 1010 + _STALLED), source))
        outcome.alone_s = statistics.median(read(mount, run_id).seconds for run_id in range(1000, 1005))
        with ExitStack() as stack:
            for run_id in range(1010, 1010 + _STALLED):
                server.fail(Fault("stall", run_id=run_id, after_bytes=100_000, times=None))
                server.fail(Fault("stall", target="stored", run_id=run_id, after_bytes=100, times=None))
                stack.enter_context(mount.start(["cat", f"{run_id}.flac"]))
            wait_until(lambda: server.stalled >= _STALLED, "all have stalled", 60)
            outcome.beside_stalled_s = statistics.median(read(mount, run_id).seconds for run_id in range(1005, 1010))
        server.heal()


def text(outcome: Outcome) -> str:
    """The report."""
    tally, first = outcome.tally, outcome.samples[0]
    last = outcome.samples[-1]
    lines = [
        f"operations: {tally.operations.total()}, {tally.compared / 1e6:.0f} MB compared; {dict(tally.operations)}",
        f"how they ended: {dict(tally.endings.most_common())}",
        f"rounds: {outcome.rounds}, of which {outcome.kills} ended with kill -9",
        f"faults: {sum(outcome.faults.values())}; {json.dumps(dict(sorted(outcome.faults.items())))}",
        f"wrong bytes or sizes: {len(tally.wrong)}",
        f"other errnos than expected: {tally.strange[:10]}",
        f"hangs (more than a minute): {len(tally.hangs)}",
        f"the daemon that lived on, at first and at last: {first} {last}",
        f"requests under faults: {outcome.requests}",
        f"requests for audio without faults: {outcome.calm_streams}, at the least {outcome.calm_results}",
        f"a cold read alone {outcome.alone_s * 1000:.0f} ms, beside {_STALLED} stalled readers "
        f"{outcome.beside_stalled_s * 1000:.0f} ms: {outcome.beside_stalled_s / outcome.alone_s:.2f} times",
    ]
    return "\n".join(lines)
