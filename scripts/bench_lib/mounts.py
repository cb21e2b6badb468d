"""Mounts, each a process for as long as a `with` lasts: cambfs, rclone's http backend in two modes, the bare mount.

Each returns paths of results that it has not read yet (`fresh`), so that reads are cold. No threads.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bench_lib.audio import Kind
from bench_lib.figures import BARE, FULL, OFF, CannotMeasure

KEY = "the-key-of-the-benchmark"
CAMBFS = str(Path(sys.executable).with_name("cambfs"))
_START_S = 30.0
_END_S = 20.0


class Mounted(Protocol):
    """A mount as the rows see it."""

    name: str

    def fresh(self, kind: Kind) -> Path:
        """The path of a result that has not been read here yet."""


class Mount:
    def __init__(self, name: str, home: Path) -> None:
        self.name = name
        self.home = home
        self.path = home / "mnt"
        self._numbers: Mapping[Kind, Iterator[int]] = defaultdict(itertools.count)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home)}

    def fresh(self, kind: Kind) -> Path:
        return self.path / f"{kind.run(next(self._numbers[kind]))}.flac"

    def await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """For mounts that report when they are ready."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], _START_S)
        if not ready or not process.stdout.readline().startswith(b"mounted at "):
            raise self.failed()

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), env=self.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        try:
            self.await_ready(self._process)
        except BaseException:
            self._end(self._process)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        unmount(self.path)

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def failed(self) -> CannotMeasure:
        lines = self.log.strip().splitlines() or ["it said nothing"]
        return CannotMeasure(f"{self.name} did not mount: {lines[-1]}")


class Cambfs(Mount):
    """`cambfs mount -f`. Another one with the same `home` has its cache."""

    # Every run id is used once in a session, whatever the mount, for the caches may outlive it.
    _all_numbers: Mapping[Kind, Iterator[int]] = defaultdict(lambda: itertools.count(1))

    def __init__(self, home: Path, api: str, *options: str) -> None:
        super().__init__("cambfs", home)
        self._numbers = self._all_numbers
        self._base_url = f"{api}/apis"
        self._options = options

    @property
    def account(self) -> Path:
        """The directory of the cached results."""
        return self.home / "cache" / hashlib.sha256(f"{self._base_url}\n{KEY}".encode()).hexdigest()[:32]

    def command(self) -> list[str]:
        return [CAMBFS, "mount", "-f", "--cache-dir", str(self.home / "cache"), *self._options, str(self.path)]

    def environment(self) -> dict[str, str]:
        chosen = {name: os.environ[name] for name in ("CAMBFS_FUSE",) if name in os.environ}  # to compare both
        return {**super().environment(), **chosen, "CAMB_API_KEY": KEY, "CAMB_BASE_URL": self._base_url}


class Bare(Mount):
    """`bare_mount`, which gets the sizes. The first `listed` results of that size are listed."""

    def __init__(self, home: Path, source: str, sizes: Mapping[Kind, int], listed: tuple[Kind, int]) -> None:
        super().__init__(BARE, home)
        self._source = source
        self._listed = listed
        self._sizes = json.dumps({str(kind.digit): size for kind, size in sizes.items()})

    def command(self) -> list[str]:
        kind, count = self._listed
        listed = [str(kind.run(0)), str(count)]
        return [sys.executable, "-m", "bench_lib.bare_mount", str(self.path), self._source, self._sizes, *listed]

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(Path(__file__).parents[1])}


class Rclone(Mount):
    """`rclone mount`, with the results under /peer/LISTING/ listed beforehand: without a listing it finds nothing."""

    def __init__(self, mode: str, home: Path, api: str, listing: str) -> None:
        super().__init__({"off": OFF, "full": FULL}[mode], home)
        self._mode = mode
        self._url = f"{api}/peer/{listing}/"

    def command(self) -> list[str]:
        cache = ["--vfs-cache-mode", self._mode, "--cache-dir", str(self.home / "cache")]
        source = ["--http-url", self._url, ":http:", str(self.path)]
        return ["rclone", "mount", "--read-only", "--config", "/dev/null", *cache, *source]

    def await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while not is_mounted(self.path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise self.failed()
            time.sleep(0.02)

    def list(self) -> None:
        """Makes it read its listing, which it then remembers."""
        if not any(self.path.iterdir()):
            raise CannotMeasure(f"{self.name} lists nothing")


def is_mounted(directory: Path) -> bool:
    return any(line.split()[4] == str(directory) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def unmount(directory: Path) -> None:
    """Removes a mount that its process left behind, if there is one."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount", "-u", "-z"]
    if is_mounted(directory):
        subprocess.run([*command, str(directory)], check=True, capture_output=True)
