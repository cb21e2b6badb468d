"""The branch `/.cambfs`: files about the mount. The content of a file is made anew at each open.

Threads: any; no state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.vfs.nodes import DIRECTORY_MODE, SECRET_MODE, Attributes, Branch, Entry
from cambfs.vfs.open_files import OpenControl, OpenFile

NAME = ".cambfs"
# All other numbers belong to runs. This one, and those below it, belong to the last possible run ids.
_INODE = 2**64 - 1


class Controls(Branch):
    """`files`: name → a function that returns the content. They have the mode of the URLs, because both are private to
    the user."""

    def __init__(self, files: Mapping[str, Callable[[], bytes]]) -> None:
        self._files = files
        self._inodes = {name: _INODE - 1 - place for place, name in enumerate(files)}
        self._made_ns = time.time_ns()

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:  # noqa: ARG002
        if path == f"/{NAME}":
            return Attributes(_INODE, DIRECTORY_MODE, 2, 0, self._made_ns)
        name = self._name(path)
        return Attributes(self._inodes[name], SECRET_MODE, 1, len(self._files[name]()), time.time_ns())

    def open(self, path: str, _deadline: Deadline) -> OpenFile:
        return OpenControl(self._files[self._name(path)]())

    def names(self, _path: str) -> Iterator[Entry]:
        return iter([(name, ino, SECRET_MODE) for name, ino in self._inodes.items()])

    def is_private(self, path: str) -> bool:
        return path != f"/{NAME}"

    def _name(self, path: str) -> str:
        name = path.removeprefix(f"/{NAME}/")
        if name not in self._files:
            raise NoSuchName(f"{path!r} is not a file about the mount")
        return name
