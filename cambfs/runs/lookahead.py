"""Recognises a reader that goes through a listing in order, and says which runs to ask for ahead of it.

It only decides; the caller asks. No threads: the owner guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cambfs.names import RunId

# How many runs ahead. A kernel's readahead for a directory, so to speak.
_RUNS = 64


class Lookahead:
    """Of one listing at a time, and one kind of question."""

    def __init__(self) -> None:
        self._listed: Sequence[RunId] = ()
        self._until = 0

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._listed = listed
        self._until = 0

    def window(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId]:
        """The runs to ask for when one is asked about whose answer is not known: none when it is just a look at one of
        them, else those that come next, as far as they are not known."""
        while self._until < len(self._listed) and is_known(self._listed[self._until]):
            self._until += 1  # nobody waits for what is known, so nobody comes here from there
        first, behind = self._until, max(0, self._until - _RUNS)
        if run_id not in self._listed[behind : first + 1]:
            return []
        place = self._listed.index(run_id, behind)
        if first - place > _RUNS // 2:
            return []
        self._until = min(len(self._listed), place + _RUNS)
        return [run for run in self._listed[first : self._until] if not is_known(run)]
