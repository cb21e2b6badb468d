"""The branch of the WAVs: `/<run_id>.wav`, which always open, and are listed if the user wants that.

`wav` has their sizes and bytes. Threads: any; no state but that of `Provisional`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.model import RunInfo
from cambfs.names import RunId, inode_of_path, parse_run_id
from cambfs.vfs.nodes import FILE_MODE, PROVISIONAL_SIZE, Attributes, Branch, Entry, Provisional
from cambfs.vfs.open_files import OpenAudio, OpenFile
from cambfs.wav.wavs import Wavs

ENDING = ".wav"


class WavFiles(Branch):
    """`listed` returns the runs whose WAVs the root lists, except for results that are known to have none. `timer`
    is as for Provisional."""

    def __init__(
        self, wavs: Wavs, listed: Callable[[], list[RunId]] = list, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._wavs = wavs
        self._listed = listed
        self._made_ns = time.time_ns()
        self._provisional = Provisional(timer)

    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:
        run_id = _run_id(path)
        info = self._wavs.info(run_id)
        is_new = info is None and is_lookup_possible and not self._wavs.was_reported(run_id)
        if is_new and self._provisional.is_first(path):
            info = RunInfo(PROVISIONAL_SIZE, self._made_ns)
        if info is None:
            info = self._wavs.wait_for_info(run_id, deadline)
        return Attributes(inode_of_path(path), FILE_MODE, 1, info.size, info.mtime_ns)

    def open(self, path: str, deadline: Deadline) -> OpenFile:
        return OpenAudio(self._wavs.open(_run_id(path), deadline))

    def names(self, _path: str) -> Iterator[Entry]:
        names = (f"{run_id}{ENDING}" for run_id in self._listed() if not self._wavs.is_known_without(run_id))
        return ((name, inode_of_path(f"/{name}"), FILE_MODE) for name in names)


def _run_id(path: str) -> RunId:
    run_id = parse_run_id(path[1:].removesuffix(ENDING))
    if run_id is None:
        raise NoSuchName(f"{path!r} is not a run's file")
    return run_id
