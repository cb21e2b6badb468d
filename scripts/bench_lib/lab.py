"""The environment of measurements: a working directory, the audio, the server, and the mounts on it.

The `rows_…` measure. No threads.
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
from bench_lib.audio import CHAPTER, MIXED, SENTENCE, SIZES, Audio, Kind
from bench_lib.figures import BARE, CURL, LOOP, SCRIPT, CannotMeasure
from bench_lib.mounts import Bare, Cambfs, Mounted, Rclone
from bench_lib.server import Profile, Server

# rclone's listings, and how many of each kind a round takes.
_LISTINGS = {"sizes": (SIZES, 1), "mixed": (MIXED, 10), "chapters": ((CHAPTER,), 1)}


@dataclass(frozen=True)
class Stage:
    """One server's mounts, all at once, so that measurements can alternate between them. `unmounted` has the reason for
    each missing one."""

    lab: Lab
    profile: Profile
    cambfs: Cambfs
    mounts: Mapping[str, Mounted]

    def url(self, kind: Kind) -> str:
        """Measures with a result that no contender has read."""
        return self.lab.server.audio_url(self.profile, int(self.cambfs.fresh(kind).stem))

    def of_mounts(self, kind: Kind, action: Callable[[Path], float]) -> dict[str, Callable[[], float]]:
        """For each mount: the action on a result that is new to it."""

        def contender(mount: Mounted) -> Callable[[], float]:
            return lambda: action(mount.fresh(kind))

        return {name: contender(mount) for name, mount in self.mounts.items()}

    def copies(self, kind: Kind) -> dict[str, Callable[[], float]]:
        """For every contender: copying a cold result to a file."""
        original = self.lab.audio.path(kind)
        target = self.lab.work / "copy.flac"
        contenders = self.of_mounts(kind, lambda path: readers.cp(path, target, original))
        contenders[CURL] = lambda: readers.curl(self.url(kind), target, original)
        contenders[SCRIPT] = lambda: readers.script(self.url(kind), target, original)
        contenders[LOOP] = lambda: readers.script_loop(self.url(kind), target, original)
        return contenders


class Lab:
    def __init__(self, work: Path, rounds: int, is_quick: bool) -> None:
        self.work = work
        self.rounds = rounds
        self.is_quick = is_quick
        self._generations = itertools.count()
        self.audio = Audio(work / "audio")
        self._scratch = work / f"scratch-{os.getpid()}"
        self._scratch.mkdir()
        self._homes = self._scratch / "homes"
        self.server = Server(self._scratch / "nginx", self.audio.directory)
        for name, (kinds, a_round) in _LISTINGS.items():
            self.server.list_for_peers(name, kinds, (rounds + 2) * a_round)

    def close(self) -> None:
        self.server.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def home(self) -> Path:
        """A new directory for a mount, until `sweep`."""
        home = self._homes / f"{next(self._generations)}"
        home.mkdir(parents=True)
        return home

    def sweep(self) -> None:
        """Removes the leftovers of ended mounts."""
        shutil.rmtree(self._homes, ignore_errors=True)

    def few(self, most: int) -> int:
        """The rounds of something that takes long: at most `most`, and fewer with --quick."""
        return min(self.rounds, max(1, most // 2) if self.is_quick else most)

    def cambfs(self, profile: Profile, *options: str, home: Path | None = None) -> Cambfs:
        """Not mounted yet: for a `with`."""
        return Cambfs(home or self.home(), self.server.url(profile), *options)

    def rclone(self, mode: str, profile: Profile, listing: str) -> Rclone:
        """Not mounted yet: for a `with`."""
        return Rclone(mode, self.home(), self.server.url(profile), listing)

    def bare(self, profile: Profile) -> Bare:
        """Not mounted yet: for a `with`."""
        return self._bare(f"{self.server.url(profile)}/apis", 0)

    def bare_local(self, listed: int = 0) -> Bare:
        """Of the local files. Not mounted yet: for a `with`."""
        return self._bare(str(self.audio.directory), listed)

    def _bare(self, source: str, listed: int) -> Bare:
        sizes = {kind: self.audio.size(kind) for kind in {*SIZES, *MIXED}}
        return Bare(self.home(), source, sizes, (SENTENCE, listed))

    @contextmanager
    def stage(
        self, profile: Profile, listing: str, modes: Iterable[str] = ("off", "full"), *, has_bare: bool = False
    ) -> Iterator[Stage]:
        """`listing` is the listing for rclone."""
        with ExitStack() as stack:
            cambfs = stack.enter_context(self.cambfs(profile))
            mounts: dict[str, Mounted] = {cambfs.name: cambfs}
            for mode in modes:
                rclone = stack.enter_context(self.rclone(mode, profile, listing))
                rclone.list()
                mounts[rclone.name] = rclone
            if has_bare and not self.is_quick:
                mounts[BARE] = stack.enter_context(self.bare(profile))
            # The first result of a mount probes the API; this one is not measured.
            readers.whole(cambfs.fresh(SENTENCE), self.audio.size(SENTENCE))
            yield Stage(self, profile, cambfs, mounts)
            self._check_log(cambfs)

    def _check_log(self, cambfs: Cambfs) -> None:
        # The figure of a mount that logged a warning may measure something else.
        for line in cambfs.log.splitlines():
            if " WARNING " in line or " ERROR " in line:
                raise CannotMeasure(f"cambfs complained: {line}")
