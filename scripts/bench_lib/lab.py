"""The place where measurements are made: a working directory, the audio, the server, and the mounts on it.

Not what is measured (`rows_…`). No threads.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_lib import readers
from bench_lib.audio import CHAPTER, MIXED, SIZES, Audio, Kind
from bench_lib.figures import CURL, SCRIPT, CannotMeasure
from bench_lib.mounts import Cambfs, Mounted, Rclone
from bench_lib.server import Profile, Server

# What rclone finds listed, of each kind: more than the rounds of one row ever need.
_LISTED = 200
_LISTINGS = {"sizes": SIZES, "mixed": MIXED, "chapters": (CHAPTER,)}


@dataclass(frozen=True)
class Stage:
    """One server's mounts, all at once, so that measurements can alternate between them. `unmounted` says of the others
    why there is none."""

    lab: Lab
    profile: Profile
    cambfs: Cambfs
    mounts: Mapping[str, Mounted]

    def url(self, kind: Kind) -> str:
        """Of a result that is new to everybody."""
        return self.lab.server.audio_url(self.profile, int(self.cambfs.fresh(kind).stem))

    def of_mounts(self, kind: Kind, action: Callable[[Path], float]) -> dict[str, Callable[[], float]]:
        """For each mount: the action on a result that is new to it."""

        def contender(mount: Mounted) -> Callable[[], float]:
            return lambda: action(mount.fresh(kind))

        return {name: contender(mount) for name, mount in self.mounts.items()}

    def copies(self, kind: Kind, *, with_script: bool = True) -> dict[str, Callable[[], float]]:
        """For everybody: copying a cold result to a file."""
        original = self.lab.audio.path(kind)
        target = self.lab.work / "copy.flac"
        contenders = self.of_mounts(kind, lambda path: readers.cp(path, target, original))
        contenders[CURL] = lambda: readers.curl(self.url(kind), target, original)
        if with_script:
            contenders[SCRIPT] = lambda: readers.script(self.url(kind), target, original)
        return contenders


class Lab:
    def __init__(self, work: Path, rounds: int, is_quick: bool) -> None:
        self.work = work
        self.rounds = rounds
        self.is_quick = is_quick
        self._serials = itertools.count()
        self.audio = Audio(work / "audio")
        self._scratch = work / f"scratch-{os.getpid()}"
        self._scratch.mkdir()
        self.server = Server(self._scratch / "nginx", self.audio.directory)
        for name, kinds in _LISTINGS.items():
            self.server.list_for_peers(name, kinds, _LISTED)

    def close(self) -> None:
        self.server.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def home(self) -> Path:
        """A new directory for a mount; it goes away with the lab."""
        home = self._scratch / f"home-{next(self._serials)}"
        home.mkdir()
        return home

    def few(self, most: int) -> int:
        """The rounds of something that takes long."""
        return min(self.rounds, most)

    def cambfs(self, profile: Profile, *options: str, home: Path | None = None) -> Cambfs:
        """Not mounted yet: for a `with`."""
        return Cambfs(home or self.home(), self.server.url(profile), *options)

    def rclone(self, mode: str, profile: Profile, listing: str) -> Rclone:
        """Not mounted yet: for a `with`."""
        return Rclone(mode, self.home(), self.server.url(profile), listing)

    @contextmanager
    def stage(self, profile: Profile, listing: str, modes: Iterable[str] = ("off", "full")) -> Iterator[Stage]:
        """`listing` is what rclone finds listed."""
        with ExitStack() as stack:
            cambfs = stack.enter_context(self.cambfs(profile))
            mounts: dict[str, Mounted] = {cambfs.name: cambfs}
            for mode in modes:
                rclone = stack.enter_context(self.rclone(mode, profile, listing))
                rclone.list()
                mounts[rclone.name] = rclone
            yield Stage(self, profile, cambfs, mounts)
            self._check_log(cambfs)

    def _check_log(self, cambfs: Cambfs) -> None:
        # A figure of a mount that complained may be a figure of something else.
        for line in cambfs.log.splitlines():
            if " WARNING " in line or " ERROR " in line:
                raise CannotMeasure(f"cambfs complained: {line}")
