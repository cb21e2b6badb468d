"""One link with what is measured on it: a mount of cambfs, one of rclone, curl, and the copies that they make.

Every function that measures gives seconds, and raises CannotMeasure when what came is not what the result holds.
No threads.
"""

from __future__ import annotations

import filecmp
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench_lib import readers
from bench_lib.figures import OFF, CannotMeasure
from bench_lib.mounts import KEY, Cambfs, Mount, Rclone
from bench_lib.real_link.network import Network
from bench_lib.real_link.origin import SHORT, SMALL, Origin, Port, base, series_of

_LIMIT_S = 300


class _Trusting(Cambfs):
    """cambfs, which trusts the certificate of the origin."""

    def __init__(self, home: Path, port: Port, authority: Path, *options: str) -> None:
        super().__init__(home, base(port), *options)
        self._authority = authority

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "REQUESTS_CA_BUNDLE": str(self._authority)}


class _Knowing(Rclone):
    """rclone, which trusts the certificate of the origin, and lists one series."""

    def __init__(self, home: Path, authority: Path, series: int) -> None:
        super().__init__("off", home, base(Port.LENGTH), str(series))
        self._authority = authority

    def command(self) -> list[str]:
        return [*super().command(), "--ca-cert", str(self._authority)]


class Place:
    def __init__(self, network: Network, origin: Origin, work: Path) -> None:
        self.network = network
        self.terms = network.terms
        self.origin = origin
        self._work = work
        self._numbers = itertools.count()
        work.mkdir()

    def _directory(self) -> Path:
        directory = self._work / str(next(self._numbers))
        directory.mkdir()
        return directory

    @contextmanager
    def cambfs(self, port: Port, runs: Sequence[int] = (), *more: str) -> Iterator[Cambfs]:
        """A new mount with an empty cache that lists these runs, and that has been asked for nothing."""
        options = [*more, *(["--runs", ",".join(map(str, runs))] if runs else [])]
        home = self._directory()
        with _Trusting(home, port, self.origin.authority, *options) as mount:
            yield mount
            self._check_log(mount)
        shutil.rmtree(home)

    @contextmanager
    def warm(self, port: Port, runs: Sequence[int] = (), *more: str) -> Iterator[Cambfs]:
        """The same, once it has read a result: it has connections, and has seen what the API does."""
        with self.cambfs(port, runs, *more) as mount:
            self.warm_up(mount)
            yield mount

    def warm_up(self, mount: Cambfs) -> None:
        readers.whole(self.path(mount, self.fresh(SHORT)), self.origin.content.path(SHORT).stat().st_size)

    @contextmanager
    def rclone(self, runs: Sequence[int]) -> Iterator[Rclone]:
        """A mount that knows the sizes of these runs, which are of one series. Raises CannotMeasure."""
        if shutil.which("rclone") is None:
            raise CannotMeasure("rclone is not installed")
        with _Knowing(self._directory(), self.origin.authority, series_of(runs[0])) as mount:
            try:
                sizes = [entry.stat().st_size for entry in mount.path.iterdir()]
            except OSError as error:
                raise CannotMeasure(f"{OFF} lists nothing: {error.strerror}") from None
            if len(sizes) != len(runs) or not all(sizes):
                raise CannotMeasure(f"{OFF} lists {len(sizes)} of {len(runs)} results")
            yield mount

    def _check_log(self, mount: Cambfs) -> None:
        for line in mount.log.splitlines():
            if " WARNING " in line or " ERROR " in line:
                raise CannotMeasure(f"cambfs complained: {line}")

    def fresh(self, content: int = SMALL) -> int:
        """A run that nobody has asked for yet."""
        return self.origin.series([content])[0]

    def path(self, mount: Mount, run: int) -> Path:
        return mount.path / f"{run}.flac"

    def copy(self, runs: Sequence[int], make: Callable[[Path], Iterable[Sequence[str]]], copies: int = 0) -> float:
        """Starts the commands that `make` gives for a directory, all at once, and waits for all; compares what they
        left there with the results, or with so many `copies`, what they left in 0, 1 … below it."""
        directory = self._directory()
        commands = list(make(directory))
        begin = time.perf_counter()
        processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        errors = "".join(process.communicate(timeout=_LIMIT_S)[1] for process in processes)
        seconds = time.perf_counter() - begin
        if any(process.returncode for process in processes):
            raise CannotMeasure(f"fails: {(errors.splitlines() or ['it said nothing'])[-1]}")
        for place in [directory / str(number) for number in range(copies)] or [directory]:
            self._compare(place, runs)
        shutil.rmtree(directory)
        return seconds

    def _compare(self, directory: Path, runs: Sequence[int]) -> None:
        for run in runs:
            copied = directory / f"{run}.flac"
            if not copied.exists() or not filecmp.cmp(copied, self.origin.original(run), shallow=False):
                raise CannotMeasure("copies wrong bytes")

    def cp(self, paths: Sequence[Path], runs: Sequence[int]) -> float:
        """One `cp` of all of them."""
        return self.copy(runs, lambda directory: [["cp", *map(str, paths), str(directory)]])

    def cps(self, paths: Sequence[Path], runs: Sequence[int]) -> float:
        """A `cp` for each, all at once."""
        return self.copy(runs, lambda directory: [["cp", str(path), str(directory)] for path in paths])

    def cp_each(self, mounts: Sequence[Mount], runs: Sequence[int]) -> float:
        """One `cp` of all of them from each of the mounts, all at once."""

        def make(directory: Path) -> Iterator[list[str]]:
            for number, mount in enumerate(mounts):
                (directory / str(number)).mkdir()
                yield ["cp", *(str(self.path(mount, run)) for run in runs), str(directory / str(number))]

        return self.copy(runs, make, len(mounts))

    def curl(self, port: Port, runs: Sequence[int], *options: str) -> float:
        def make(directory: Path) -> list[list[str]]:
            pairs = [("-o", f"{directory}/{run}.flac", self.origin.url(port, run)) for run in runs]
            return [[*self._curl(), *options, *itertools.chain(*pairs)]]

        return self.copy(runs, make)

    def curl_parallel(self, port: Port, runs: Sequence[int]) -> float:
        return self.curl(port, runs, "--parallel", "--parallel-immediate", "--parallel-max", str(len(runs)))

    def curl_times(self, port: Port, runs: Sequence[int], variable: str) -> list[float]:
        """curl's own figure for each of these runs, one after the other on one connection: the first pays for it."""
        pairs = [("-o", os.devnull, self.origin.url(port, run)) for run in runs]
        command = [*self._curl(), "-w", f"%{{{variable}}}\\n", *itertools.chain(*pairs)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
        if done.returncode:
            raise CannotMeasure(f"fails: {done.stderr.strip()}")
        return [float(line) for line in done.stdout.split()]

    def _curl(self) -> list[str]:
        return ["curl", "-sS", "--fail", "--cacert", str(self.origin.authority), "-H", f"x-api-key: {KEY}"]
