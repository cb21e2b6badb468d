"""Recognises a program that goes through a listing in order, and picks the runs to request ahead of it.

It only decides; the caller sends the requests. No lock of its own: the owner guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cambfs.names import RunId

# How many runs ahead, at first and once the program has gone on: as a kernel reads ahead in a file. A run takes two
# round trips, so a listing gets no more than this in that time.
_FIRST_RUNS = 64
_MOST_RUNS = 128
# The window moves on by so many at least: in full requests for several runs each, and long before a program has reached
# its end, so that there are always requests under way.
_STEP_RUNS = 30


class Lookahead:
    """For one listing at a time, and one kind of request."""

    def __init__(self) -> None:
        self.begin(())

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._listed = listed
        self._until = 0
        self._most = _FIRST_RUNS
        self._marker: RunId | None = None  # where the window moves on

    def is_due(self, run_id: RunId) -> bool:
        """Whether to ask for a window though this run is known. Without the owner's lock."""
        return run_id == self._marker

    def window(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId]:
        """The runs to request after an unknown run was looked up, or one that `is_due`: none for a look at a single
        run, else the next unknown runs of the listing."""
        while self._until < len(self._listed) and is_known(self._listed[self._until]):
            self._until += 1
        first, behind = self._until, max(0, self._until - _MOST_RUNS)
        if run_id not in self._listed[behind : first + 1]:
            return []
        place = self._listed.index(run_id, behind)
        until = min(len(self._listed), place + self._most)
        if until - first < min(_STEP_RUNS, len(self._listed) - first):
            return []
        self._until, self._most = until, _MOST_RUNS
        self._mark(max(place + 1, until - _MOST_RUNS + _STEP_RUNS))
        return [run for run in self._listed[first:until] if not is_known(run)]

    def _mark(self, place: int) -> None:
        self._marker = self._listed[place] if self._until < len(self._listed) else None
