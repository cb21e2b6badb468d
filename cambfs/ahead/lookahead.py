"""Recognises a program that goes through a listing in order, and picks the runs to request ahead of it.

It only decides; the caller sends the requests. No lock of its own: the owner guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cambfs.names import RunId

# How many runs ahead at first, before the program has gone on: as a kernel reads ahead in a file. A program that opens
# what it looks at waits for the first size alone.
_FIRST_RUNS = 5


class Lookahead:
    """For one listing at a time, and one kind of request. The window has `most_runs`, and moves on by `step_runs` at
    least: long before a program has reached its end, so that there are always requests under way."""

    def __init__(self, most_runs: int, step_runs: int) -> None:
        self._most_runs = most_runs
        self._step_runs = step_runs
        self.begin(())

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._listed = listed
        self._until = 0
        self._most = _FIRST_RUNS
        self._marker: RunId | None = None  # where the window moves on
        self._last: RunId | None = None
        self._is_opening = False  # the last one was opened

    def is_due(self, run_id: RunId) -> bool:
        """Whether to ask for a window though this run is known. Without the owner's lock."""
        return run_id == self._marker

    def opened(self, run_id: RunId) -> None:
        """A program that opens what it looked up last goes through the results. Their sizes come with them."""
        if run_id == self._last:
            self._is_opening, self._marker = True, None

    def window(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId] | None:
        """The runs to request after an unknown run was looked up, or one that `is_due`: the next unknown runs of the
        listing, as far as they are not requested yet; None for a look at a single run."""
        behind = max(0, self._until - self._most_runs)
        while self._until < len(self._listed) and is_known(self._listed[self._until]):
            self._until += 1
        first = self._until
        if run_id not in self._listed[behind : first + 1]:
            return None
        was_opening, self._is_opening, self._last = self._is_opening, False, run_id
        if was_opening:
            return None
        place = self._listed.index(run_id, behind)
        until = min(len(self._listed), place + self._most)
        if until - first < min(self._step_runs, self._most, len(self._listed) - first):
            if run_id == self._marker:  # the runs behind the window are known, so it moves on later
                self._mark(max(place + 1, first + self._step_runs - self._most_runs))
            return []
        self._until, self._most = until, self._most_runs
        self._mark(max(place + 1, until - self._most_runs + self._step_runs))
        return [run for run in self._listed[first:until] if not is_known(run)]

    def _mark(self, place: int) -> None:
        self._marker = self._listed[place] if self._until < len(self._listed) else None
