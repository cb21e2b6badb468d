"""Machines that share an engine: mounts of one API, each with a cache of its own, which read the same results at once.

Threads: one for each mount that reads, and the caller's, which kills and restarts what it likes meanwhile.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import valkey

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.flac_files import make_flac
from tests.kernel.harness import KEY, Mount, wait_until
from tests.shared.servers import Server as Engine
from tests.waiting import in_thread

MACHINES, RESULTS = 8, 20
_LIMIT_S = 90.0
_PROFILE = Profile(latency_s=0.02, rate=3_000_000)
# More than two sealed frames.
_LARGE_BYTES = 2_500_000
# What a mount may say of an engine that is killed, or that somebody writes to.
EXPECTED = ("?shared cache", "?valkey://")


class Farm:
    """`rounds` rounds of RESULTS runs can be read, each of other runs. The results of a round have different bytes."""

    def __init__(self, directory: Path, rounds: int, seed: int, machines: int = MACHINES) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._machines = machines
        self.chance = random.Random(seed)
        self._sums: dict[int, str] = {}
        self._paths: dict[int, Path] = {}
        self._next_run = 1
        self._numbers = itertools.count(1)
        for number in range(RESULTS):
            content = make_flac(_LARGE_BYTES if number == 0 else 50_000 + 10_000 * (number % 13), number)
            path = directory / f"{number}.flac"
            path.write_bytes(content)
            for run_id in range(number + 1, rounds * RESULTS + 1, RESULTS):
                self._paths[run_id], self._sums[run_id] = path, hashlib.sha256(content).hexdigest()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.server = stack.enter_context(Server(self._paths, _PROFILE, key=KEY))
            self.engine = Engine("valkey", self._directory, "--enable-debug-command", "yes")
            self.engine.start()
            stack.callback(self.engine.kill)
            self._stack = stack.pop_all()
        mounting = [in_thread(self.mount) for _ in range(self._machines)]
        self.mounts = [mount.result(_LIMIT_S) for mount in mounting]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, at)

    def mount(self, *options: str) -> Mount:
        """A machine more, with an empty cache."""
        home = self._directory / f"machine-{next(self._numbers)}"
        url = f"valkey://127.0.0.1:{self.engine.port}"
        # It is told of its end by its watchdog, which has to outlast all rounds.
        mount = Mount(self.server, home, "--shared-cache", url, *options, expected=EXPECTED, life_s=3600.0)
        self._stack.enter_context(mount)
        return mount

    def read_together(self, meanwhile: Callable[[], object] = lambda: None, victim: Mount | None = None) -> list[int]:
        """All mounts begin to read the next runs at the same moment. `meanwhile` is called when some of them are being
        fetched. Returns the runs. Raises AssertionError when a read has failed, or has other bytes than the result;
        not for those of the victim."""
        runs = list(range(self._next_run, self._next_run + RESULTS))
        self._next_run += RESULTS
        start, begun = threading.Barrier(len(self.mounts)), self.chance.randrange(1, RESULTS)
        reads = {mount: in_thread(partial(self._read_at, start, mount, runs)) for mount in self.mounts}
        wait_until(lambda: self.requests_for(runs)["stream"] >= begun, "they read", _LIMIT_S)
        meanwhile()
        wrong = [what for mount, read in reads.items() for what in read.result(_LIMIT_S) if mount is not victim]
        assert not wrong, "\n".join(wrong)
        return runs

    def _read_at(self, start: threading.Barrier, mount: Mount, runs: Sequence[int]) -> list[str]:
        start.wait(_LIMIT_S)
        return self.read(mount, runs)

    def read(self, mount: Mount, runs: Sequence[int]) -> list[str]:
        """What is wrong with these runs there."""
        names = " ".join(f"{run_id}.flac" for run_id in runs)
        done = mount.run(f"printf '%s\\n' {names} | xargs -P 4 -n 5 sha256sum", limit_s=_LIMIT_S)
        found = {name: checksum for checksum, name in (line.split() for line in done.out.decode().splitlines())}
        wrong = [
            f"run {run_id} of {mount.path}" for run_id in runs if found.get(f"{run_id}.flac") != self._sums[run_id]
        ]
        return [*wrong, str(done)] if wrong else []

    def requests_for(self, runs: Sequence[int]) -> Counter[str]:
        """By kind."""
        return Counter(record.kind for record in self.server.requests if record.run_id in runs or record.kind == "bulk")

    def has_missed_engine(self) -> bool:
        """Whether a mount took it to be down."""
        return any("valkey://" in mount.log for mount in self.mounts)

    # What may happen meanwhile.

    def restart_engine(self) -> None:
        """It has lost all."""
        self.engine.kill()
        self.engine.start()

    def poison(self) -> None:
        """Every value is replaced by random bytes."""
        admin, random_bytes = self.engine.admin, self.chance.randbytes
        for key in admin.keys("*"):
            with suppress(valkey.ResponseError):  # another type, or gone
                for field in admin.hkeys(key):
                    admin.hset(key, field, random_bytes(200))
            with suppress(valkey.ResponseError):
                if not key.endswith(b":f"):
                    admin.set(key, random_bytes(admin.strlen(key)))

    def replace(self, mount: Mount) -> None:
        """Kills a machine, and lets another one come."""
        mount.kill()
        self.mounts[self.mounts.index(mount)] = self.mount()
