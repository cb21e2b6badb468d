"""The branch `/by-name`: folders and symbolic links under the names of the runs file, and a playlist in each folder.

It waits for nothing and makes no request: a link stands for a run or task that may not exist. `library` learns which
folder was listed, or which playlist was opened, so that it can ask ahead. A change of the file is visible at once: each
call uses the current names, and the kernel caches neither links nor attributes. Folders and links have the time of the
file. It is the same in every mount, and a scanner that trusts the time of a folder looks into it again after each
change. Threads: any; no state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.links.playlists import Playlist, Playlists, Track
from cambfs.names import RunId, TaskId, inode_of_path
from cambfs.run_list import Names
from cambfs.run_list.folders import Folder, Target
from cambfs.run_list.paths import NamePath
from cambfs.runs.library import Library
from cambfs.vfs.nodes import DIRECTORY_MODE, FILE_MODE, LINK_MODE, Attributes, Branch, Entry
from cambfs.vfs.open_files import OpenControl, OpenFile

NAME = "by-name"
_ROOT = f"/{NAME}"
_PLAYLIST = "playlist.m3u8"
_ENDINGS = ("flac", "wav")
_SPECIAL_IN_URLS = frozenset("#?%")


class _Node(NamedTuple):
    """A folder, or with a `name` a file in it. `depth` is the number of folders above the file, with by-name."""

    folder: Folder
    depth: int
    name: str
    mtime_ns: int


class ByName(Branch):
    """`with_wav`: listings show a link to the `.wav` beside each one to the `.flac`. It opens without that, too.
    `run_of` returns the run that a task has made, None while that is not known; `refresh` asks for the tasks that are
    pending."""

    def __init__(
        self,
        library: Library,
        names: Callable[[], Names],
        playlists: Playlists,
        *,
        run_of: Callable[[TaskId], RunId | None],
        refresh: Callable[[], None],
        with_wav: bool = False,
    ) -> None:
        self._library = library
        self._names = names
        self._playlists = playlists
        self._run_of = run_of
        self._refresh = refresh
        self._listed_endings = _ENDINGS if with_wav else _ENDINGS[:1]

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:  # noqa: ARG002
        node = self._find(path)
        ino = inode_of_path(path)
        if not node.name:
            return Attributes(ino, DIRECTORY_MODE, 2 + len(node.folder.folders), 0, node.mtime_ns)
        if node.name == _PLAYLIST:
            return self._playlist_of(node).attributes(path, node.mtime_ns)
        return Attributes(ino, LINK_MODE, 1, len(self._link(node)), node.mtime_ns)

    def open(self, path: str, _deadline: Deadline) -> OpenFile:
        node = self._find(path)
        if node.name != _PLAYLIST:
            raise NoSuchName(f"{path!r} is not a file")
        # A copy of the folder has the playlist, too, and goes on in its own order.
        played = _each_once(run_id for _, run_id in self._titles(node))
        self._library.expect(played, *self._orders(path.removesuffix(f"/{_PLAYLIST}"), node.folder))
        return OpenControl(self._playlist_of(node).text)

    def readlink(self, path: str, _deadline: Deadline) -> str:
        node = self._find(path)
        if node.name in ("", _PLAYLIST):
            raise NoSuchName(f"{path!r} is not a symbolic link")
        return self._link(node)

    def listed_mode(self) -> int | None:
        return DIRECTORY_MODE if self._names().root.all_titles else None

    def names(self, path: str) -> Iterator[Entry]:
        node = self._find(path)
        if node.name:
            raise NoSuchName(f"{path!r} is not a directory")
        self._refresh()
        self._library.expect(*self._orders(path, node.folder))
        return self._entries(path, node.folder)

    def _orders(self, path: str, folder: Folder) -> Iterator[list[RunId]]:
        """The orders in which programs go through a folder: that of the listing, as find and tar do; that of the names,
        as shells and rsync; that of the inodes, as cp."""
        known = ((title, self._known(target)) for title, target in folder.titles.items())
        titles = {title: run_id for title, run_id in known if isinstance(run_id, int)}
        yield _each_once(titles.values())
        yield _each_once(titles[title] for title in sorted(titles))
        for ending in self._listed_endings:
            inodes = {title: inode_of_path(f"{path}/{title}.{ending}") for title in titles}
            yield _each_once(titles[title] for title in sorted(titles, key=inodes.__getitem__))

    def _find(self, path: str) -> _Node:
        root, mtime_ns = self._names()
        parts = path.removeprefix(_ROOT).split("/")[1:]
        if root.all_titles and (folder := root.find(parts)) is not None:
            return _Node(folder, len(parts), "", mtime_ns)
        above = root.find(parts[:-1])
        if above is not None and root.all_titles and _is_file(above, parts[-1]):
            return _Node(above, len(parts), parts[-1], mtime_ns)
        raise NoSuchName(f"{path!r} is not a name in the runs file")

    def _known(self, target: Target) -> Target:
        """The run, as soon as it is known which one a task has made."""
        return target if isinstance(target, int) else self._run_of(target) or target

    def _entries(self, path: str, folder: Folder) -> Iterator[Entry]:
        # Folders come last: a program that enters one lists it, and its runs are then expected instead of these.
        for title, target in folder.titles.items():
            if not isinstance(self._known(target), int):
                continue  # programs that list links also read them, and would wait for the task
            for ending in self._listed_endings:
                yield f"{title}.{ending}", inode_of_path(f"{path}/{title}.{ending}"), LINK_MODE
        yield _PLAYLIST, inode_of_path(f"{path}/{_PLAYLIST}"), FILE_MODE
        for name in folder.folders:
            yield name, inode_of_path(f"{path}/{name}"), DIRECTORY_MODE

    def _link(self, node: _Node) -> str:
        title, _, ending = node.name.rpartition(".")
        return _way(node.depth, self._known(node.folder.titles[title]), ending)

    def _playlist_of(self, node: _Node) -> Playlist:
        return self._playlists.make(
            Track(_track_path(node.depth, path, run_id), path.title, run_id) for path, run_id in self._titles(node)
        )

    def _titles(self, node: _Node) -> Iterator[tuple[NamePath, RunId]]:
        """Those in the folder and in all folders below, without pending tasks."""
        for path, target in node.folder.all_titles:
            if isinstance(run := self._known(target), int):
                yield path, run


def _each_once(runs: Iterable[RunId]) -> list[RunId]:
    """A run may have several names."""
    return list(dict.fromkeys(runs))


def _is_file(folder: Folder, name: str) -> bool:
    title, _, ending = name.rpartition(".")
    return name == _PLAYLIST or (ending in _ENDINGS and title in folder.titles)


def _way(depth: int, target: Target, ending: str) -> str:
    """The path from a folder to the file of a run or task."""
    return f"{'../' * depth}{'' if isinstance(target, int) else 'tasks/'}{target}.{ending}"


def _track_path(depth: int, path: NamePath, target: Target) -> str:
    """The path under its name, so that the playlist also works in a copy of the folder. Players disagree on some
    characters: mpv takes an entry as it stands, VLC as part of a URL. Such an entry has the number."""
    named = "/".join((*path.folders[depth - 1 :], f"{path.title}.flac"))
    return named if _SPECIAL_IN_URLS.isdisjoint(named) else _way(depth, target, "flac")
