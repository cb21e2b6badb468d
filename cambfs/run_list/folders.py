"""The folders and titles that the names in a runs file make. A tree is built once for each version of the file.

Threads: any, once it is built, since nothing changes it afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cambfs.names import RunId, TaskId
from cambfs.run_list.paths import NamePath, twin_key
from cambfs.text import quoted

Target = RunId | TaskId


class Title(NamedTuple):
    path: NamePath
    target: Target


@dataclass(frozen=True, slots=True)
class Folder:
    """Its folders and titles by name. `all_titles` are those in it and in all folders below, in the file's order."""

    folders: dict[str, Folder] = field(default_factory=dict)
    titles: dict[str, Target] = field(default_factory=dict)
    all_titles: list[Title] = field(default_factory=list)

    def find(self, path: Sequence[str]) -> Folder | None:
        folder: Folder | None = self
        for name in path:
            folder = None if folder is None else folder.folders.get(name)
        return folder

    def count_folders(self) -> int:
        """All folders below it."""
        return sum(1 + folder.count_folders() for folder in self.folders.values())


class FolderBuilder:
    """Adds names to `root`, one after the other."""

    def __init__(self) -> None:
        self.root = Folder()
        self._lines: dict[str, int] = {}  # of each name and folder
        self._twins: dict[str, str] = {}  # names and folders by what they look like

    @property
    def count(self) -> int:
        """All names and folders so far."""
        return len(self._lines)

    def add(self, title: Title, number: int) -> list[str]:
        """Returns warnings. Raises ValueError when the name is taken."""
        path, text = title.path, str(title.path)
        if text in self._lines:
            raise ValueError(f"{quoted(text)} is the name in line {self._lines[text]} already")
        folder, warnings = self.root, self._note(text, number)
        folder.all_titles.append(title)
        for depth, name in enumerate(path.folders, 1):
            if name not in folder.folders:
                warnings += self._note("/".join(path.folders[:depth]) + "/", number)
                folder.folders[name] = Folder()
            folder = folder.folders[name]
            folder.all_titles.append(title)
        folder.titles[path.title] = title.target
        return warnings

    def _note(self, path: str, number: int) -> list[str]:
        """Warns of an earlier name or folder that differs from this one only in case or in its encoding."""
        self._lines[path] = number
        twin = self._twins.setdefault(twin_key(path), path)
        return [] if twin == path else [f"{quoted(path)} looks like {quoted(twin)} to some systems"]
