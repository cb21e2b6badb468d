"""Recognises a program that goes through a listing in order, and picks the runs to request ahead of it.

It only decides; the caller sends the requests. No lock of its own: the owner guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cambfs.names import RunId

# How many runs ahead: like a kernel's readahead, for a directory.
_RUNS = 64


class Lookahead:
    """For one listing at a time, and one kind of request: `runs` ahead."""

    def __init__(self, runs: int = _RUNS) -> None:
        self._runs = runs
        self._listed: Sequence[RunId] = ()
        self._until = 0

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._listed = listed
        self._until = 0

    def window(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId]:
        """The runs to request after an unknown run was looked up: none for a look at a single run, else the next
        unknown runs of the listing."""
        while self._until < len(self._listed) and is_known(self._listed[self._until]):
            self._until += 1  # callers do not wait for known runs, so they do not come here
        first, behind = self._until, max(0, self._until - self._runs)
        if run_id not in self._listed[behind : first + 1]:
            return []
        place = self._listed.index(run_id, behind)
        if first - place > self._runs // 2:
            return []
        self._until = min(len(self._listed), place + self._runs)
        return [run for run in self._listed[first : self._until] if not is_known(run)]
