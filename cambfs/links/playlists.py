"""Playlists in the format M3U, in UTF-8: the text of one, and the branch `/all.m3u8`. `by_name` has those of folders.

A text is made anew at each open. Durations come from the audio that is here, without a request. The time of a playlist
is when the mount learned the last duration in it. With the time of the runs file, rsync would take a copy with -1 for
the same file, as a duration of two digits is equally long. Threads: any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.flac import duration_s
from cambfs.names import Kind, RunId, file_name, inode_of_path
from cambfs.run_list import Names
from cambfs.runs.library import Library
from cambfs.vfs.nodes import FILE_MODE, Attributes, Branch
from cambfs.vfs.open_files import OpenControl, OpenFile

ALL = "all.m3u8"


class _Duration(NamedTuple):
    """In whole seconds, because not every player reads fractions; and when the mount learned it."""

    seconds: int
    learned_ns: int


_UNKNOWN = _Duration(-1, 0)


class Track(NamedTuple):
    """`path` is relative to the playlist."""

    path: str
    title: str
    run_id: RunId


class Playlist(NamedTuple):
    """`learned_ns` is when the last duration in it became known, 0 when none is."""

    text: bytes
    learned_ns: int

    def attributes(self, path: str, names_mtime_ns: int) -> Attributes:
        mtime_ns = max(names_mtime_ns, self.learned_ns)
        return Attributes(inode_of_path(path), FILE_MODE, 1, len(self.text), mtime_ns)


class Playlists:
    """Makes playlists."""

    def __init__(self, library: Library) -> None:
        self._library = library
        # Of runs whose first bytes were here once. Any thread adds to it, and a run keeps its first value.
        self._durations: dict[RunId, _Duration] = {}

    def make(self, tracks: Iterable[Track]) -> Playlist:
        lines, learned_ns, available = ["#EXTM3U"], 0, self._library.cached_or_in_use()
        for path, title, run_id in tracks:
            duration = self._duration(run_id, available)
            learned_ns = max(learned_ns, duration.learned_ns)
            # Behind ./ no name is taken for a comment, or for a URL.
            lines += [f"#EXTINF:{duration.seconds},{title}", f"./{path}"]
        return Playlist(("\n".join(lines) + "\n").encode(), learned_ns)

    def _duration(self, run_id: RunId, available: Container[RunId]) -> _Duration:
        if (known := self._durations.get(run_id)) is not None:
            return known
        if run_id not in available:
            return _UNKNOWN
        arrived = self._library.arrived(run_id)
        found = duration_s(arrived.head) if arrived is not None else None
        if found is None:
            return _UNKNOWN
        return self._durations.setdefault(run_id, _Duration(round(found), time.time_ns()))


class AllResults(Branch):
    """The branch of `/all.m3u8`: the listed runs, in the order of the listing, with the titles of the runs file."""

    def __init__(self, library: Library, names: Callable[[], Names], playlists: Playlists) -> None:
        self._library = library
        self._names = names
        self._playlists = playlists

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:  # noqa: ARG002
        return self._playlist(path).attributes(path, self._names().mtime_ns)

    def open(self, path: str, _deadline: Deadline) -> OpenFile:
        text = self._playlist(path).text
        self._library.expect(self._library.listed())  # a player opens them in this order
        return OpenControl(text)

    def _playlist(self, path: str) -> Playlist:
        if path != f"/{ALL}":
            raise NoSuchName(f"{path!r}: {ALL} is not a directory")
        titles = {title.target: title.path.title for title in reversed(self._names().root.all_titles)}
        runs = self._library.listed()
        return self._playlists.make(
            Track(file_name(run, Kind.FLAC), titles.get(run, f"Run {run}"), run) for run in runs
        )

    def listed_mode(self) -> int | None:
        """It always opens, but without names the root lists results alone."""
        return FILE_MODE if self._names().root.all_titles else None
