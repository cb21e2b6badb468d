"""The tree: passes each path to the branch that has it.

The adapter serves it through FUSE. Threads: any; no state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from cambfs.deadline import Deadline
from cambfs.names import inode_of_path
from cambfs.vfs.nodes import Attributes, Branch, Entry
from cambfs.vfs.open_files import OpenFile
from cambfs.vfs.results import Results
from cambfs.vfs.wav_files import ENDING

_ROOT = "/"


class Tree:
    """`branches`: the first name of a path → its branch. All other names of the root belong to the results, and those
    of WAVs to `wavs`. The root lists the branches that have a `listed_mode`. Every method raises NoSuchName for a
    path that is not there, and other CambfsErrors."""

    def __init__(
        self,
        results: Results,
        branches: Mapping[str, Branch],
        wavs: Branch | None = None,
    ) -> None:
        self._results = results
        self._branches = branches
        self._wavs = wavs

    def _branch(self, path: str) -> Branch:
        first = path[1:].partition("/")[0]
        of_root = self._wavs if self._wavs is not None and first.endswith(ENDING) else self._results
        return self._branches.get(first, of_root)

    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool = True) -> Attributes:
        """As Branch.attributes."""
        return self._branch(path).attributes(path, deadline, is_lookup_possible=is_lookup_possible)

    def check_exists(self, path: str, deadline: Deadline) -> None:
        """Waits until it is known that the node exists."""
        self.attributes(path, deadline, is_lookup_possible=False)

    def open(self, path: str, deadline: Deadline) -> OpenFile:
        """Waits until the first bytes are here, or known to come. The caller closes the file."""
        return self._branch(path).open(path, deadline)

    def readlink(self, path: str, deadline: Deadline) -> str:
        """The target of a symbolic link."""
        return self._branch(path).readlink(path, deadline)

    def is_private(self, path: str) -> bool:
        """Whether only the user of the mount, and root, may read the file."""
        return self._branch(path).is_private(path)

    def names(self, path: str) -> Iterator[Entry]:
        """The entries of a directory as they are now, without `.` and `..`."""
        # Not a generator, so that a folder that has gone is an error of this call.
        entries = self._branch(path).names(path)
        if path != _ROOT:
            return entries
        wavs = iter(()) if self._wavs is None else self._wavs.names(path)
        return chain(entries, wavs, self._branch_entries())

    def _branch_entries(self) -> Iterator[Entry]:
        for name, branch in self._branches.items():
            if (mode := branch.listed_mode()) is not None:
                yield name, inode_of_path(f"/{name}"), mode

    def usage(self) -> tuple[int, int]:
        """The bytes of all results whose size is known, and the number of their files."""
        return self._results.usage()
