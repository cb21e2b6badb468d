"""The branch of the WAVs: `/<run_id>.wav`, which always open, and are listed if the user wants that.

`wav` has their sizes and bytes. Threads: any. `_lock` guards what was returned to the kernel; no other lock is taken
under it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from threading import Lock

from cachetools import TTLCache

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.model import RunInfo
from cambfs.names import RunId, inode_of_path, parse_run_id
from cambfs.vfs.nodes import ENTRY_TIMEOUT_S, FILE_MODE, PROVISIONAL_SIZE, Attributes, Entry
from cambfs.vfs.open_files import OpenAudio, OpenFile
from cambfs.wav.wavs import Wavs

ENDING = ".wav"


class WavFiles:
    """`listed` returns the runs whose WAVs the root lists, except for results that are known to have none. `timer`:
    seconds, as the kernel counts them."""

    def __init__(
        self, wavs: Wavs, listed: Callable[[], list[RunId]] = list, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._wavs = wavs
        self._listed = listed
        self._made_ns = time.time_ns()
        self._lock = Lock()  # guards the next one
        # As for results: a provisional size at most once while the kernel may remember the name.
        self._provisional: TTLCache[RunId, bool] = TTLCache(math.inf, ENTRY_TIMEOUT_S + 10, timer=timer)

    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:
        run_id = _run_id(path)
        info = self._wavs.info(run_id)
        if info is None and is_lookup_possible and self._is_first_response(run_id):
            info = RunInfo(PROVISIONAL_SIZE, self._made_ns)
        if info is None:
            info = self._wavs.wait_for_info(run_id, deadline)
        return Attributes(inode_of_path(path), FILE_MODE, 1, info.size, info.mtime_ns)

    def _is_first_response(self, run_id: RunId) -> bool:
        if self._wavs.was_reported(run_id):
            return False
        with self._lock:
            is_first = run_id not in self._provisional
            self._provisional[run_id] = True
            return is_first

    def open(self, path: str, deadline: Deadline) -> OpenFile:
        return OpenAudio(self._wavs.open(_run_id(path), deadline))

    def readlink(self, path: str, _deadline: Deadline) -> str:
        raise NoSuchName(f"{path!r} is no symbolic link")

    def is_private(self, _path: str) -> bool:
        return False

    def names(self, _path: str) -> Iterator[Entry]:
        names = (f"{run_id}{ENDING}" for run_id in self._listed() if not self._wavs.is_known_without(run_id))
        return ((name, inode_of_path(f"/{name}"), FILE_MODE) for name in names)


def _run_id(path: str) -> RunId:
    run_id = parse_run_id(path[1:].removesuffix(ENDING))
    if run_id is None:
        raise NoSuchName(f"{path!r} is not a run's file")
    return run_id
