"""Reader processes, each driven by a thread: random ways, random results, and the outcome.

Threads: one for each reader, between `resume` and `pause`; the tally is guarded by its lock.
"""

from __future__ import annotations

import json
import random
import select
import subprocess
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.kernel.harness import PYTHON, Mount
from tests.soak.reader import WAYS

HANG_S = 60.0
# Or most operations would be those that fail at once.
_AFTER_FAILURE_S = 0.1
# All other texts are shown, so that their cause can be found.
_EXPECTED = {"ok", "SIGBUS", "EIO", "ENOENT", "EACCES", "ESTALE", "ETIMEDOUT", "ECONNREFUSED", "ENODEV"}
_EXPECTED |= {"ENOTCONN", "ECONNABORTED"}  # the mount was killed
_READER = str(Path(__file__).with_name("reader.py"))


class Tally:
    """The outcome of all readers. `wrong` and `hangs` must stay empty."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.operations: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self.compared = 0
        self.wrong: list[str] = []
        self.hangs: list[str] = []
        self.strange: list[str] = []

    def add(self, what: str, way: str, result: str, compared: int) -> bool:
        """Says whether all went well."""
        is_well = result == "ok"
        with self.lock:
            self.operations[way] += 1
            self.compared += compared
            if result.startswith("wrong"):
                self.wrong.append(f"{what}: {result}")
                result = "wrong"
            elif result not in _EXPECTED:
                self.strange.append(f"{what}: {result}")
            self.endings[result] += 1
        return is_well

    def hung(self, what: str) -> None:
        with self.lock:
            self.hangs.append(what)


class Reader:
    """One process, and the thread that sends it commands, between `start` and `stop`."""

    def __init__(self, mount: Mount, versions: Mapping[int, tuple[Path, ...]], tally: Tally, seed: int) -> None:
        self._mount = mount
        self._versions = versions
        self._tally = tally
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader-{seed}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._over.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            run_id = self._chance.choice(sorted(self._versions))
            self._one(run_id, self._chance.choice(sorted(WAYS)), self._chance.randrange(1 << 30))
        self._end()

    def _one(self, run_id: int, way: str, seed: int) -> None:
        path = self._mount.path / f"{run_id}.flac"
        what = f"{way} of {path} with seed {seed}"
        order = {"way": way, "path": str(path), "seed": seed, "versions": [str(p) for p in self._versions[run_id]]}
        process = self._process = self._process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], HANG_S)[0]:
            self._tally.hung(what)
            self._mount.kill()
        line = process.stdout.readline()
        if not line:
            self._tally.add(what, way, _death(process.wait(10)), 0)
            self._end()
        elif not self._tally.add(what, way, *json.loads(line)):
            self._over.wait(_AFTER_FAILURE_S)

    def _begin(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*PYTHON, _READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None and process.stdout is not None:
            process.stdin.close()
            process.stdout.close()
            process.wait(10)


def _death(status: int) -> str:
    """A map of pages that are not available ends its process by SIGBUS (7); anything else is a fault of the reader."""
    return "SIGBUS" if status == -7 else f"wrong: the reader died of {status}"
