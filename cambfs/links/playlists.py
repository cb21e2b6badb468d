"""Playlists in the format M3U, in UTF-8: the text of one, and the branch `/all.m3u8`. `by_name` has those of folders.

A text is made anew at each open. Durations come from the audio that is here, without a request. Threads: any.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.flac import duration_s
from cambfs.names import Kind, RunId, file_name, inode_of_path
from cambfs.run_list import Names
from cambfs.runs.library import Library
from cambfs.vfs.nodes import FILE_MODE, Attributes, Entry
from cambfs.vfs.open_files import OpenControl, OpenFile

ALL = "all.m3u8"
_UNKNOWN_S = -1


class Track(NamedTuple):
    """`path` is relative to the playlist."""

    path: str
    title: str
    run_id: RunId


class Playlists:
    """Makes texts."""

    def __init__(self, library: Library) -> None:
        self._library = library
        # Of runs whose first bytes were here once. Any thread adds to it, and the same run always gets the same value.
        self._durations_s: dict[RunId, int] = {}

    def text(self, tracks: Iterable[Track]) -> bytes:
        lines, available = ["#EXTM3U"], self._library.cached_or_in_use()
        for path, title, run_id in tracks:
            # Behind ./ no name is taken for a comment, or for a URL.
            lines += [f"#EXTINF:{self._duration_s(run_id, available)},{title}", f"./{path}"]
        return ("\n".join(lines) + "\n").encode()

    def _duration_s(self, run_id: RunId, available: Container[RunId]) -> int:
        """In whole seconds: not every player reads fractions."""
        if (known := self._durations_s.get(run_id)) is not None:
            return known
        if run_id not in available:
            return _UNKNOWN_S
        arrived = self._library.arrived(run_id)
        found = duration_s(arrived.head) if arrived is not None else None
        if found is None:
            return _UNKNOWN_S
        return self._durations_s.setdefault(run_id, round(found))


class AllResults:
    """The branch of `/all.m3u8`: the listed runs, in the order of the listing, with the titles of the runs file."""

    def __init__(self, library: Library, names: Callable[[], Names], playlists: Playlists) -> None:
        self._library = library
        self._names = names
        self._playlists = playlists

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:  # noqa: ARG002
        return Attributes(inode_of_path(path), FILE_MODE, 1, len(self._text(path)), self._names().mtime_ns)

    def open(self, path: str, _deadline: Deadline) -> OpenFile:
        return OpenControl(self._text(path))

    def _text(self, path: str) -> bytes:
        if path != f"/{ALL}":
            raise NoSuchName(f"{path!r}: {ALL} is no directory")
        titles = {title.target: title.path.title for title in reversed(self._names().root.all_titles)}
        runs = self._library.listed()
        return self._playlists.text(
            Track(file_name(run, Kind.FLAC), titles.get(run, f"Run {run}"), run) for run in runs
        )

    def readlink(self, path: str, _deadline: Deadline) -> str:
        raise NoSuchName(f"{path!r} is no symbolic link")

    def names(self, path: str) -> Iterator[Entry]:
        raise NoSuchName(f"{path!r} is no directory")

    def is_private(self, _path: str) -> bool:
        return False
