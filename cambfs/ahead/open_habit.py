"""Guesses whether a look at one result is followed by its open, as with `cp` and players, or not, as with `stat`.

If it is, the audio is requested beside the size, which saves a round trip or two. No lock of its own: the owner guards
it.
"""

from __future__ import annotations

from collections import deque

from cambfs.names import RunId

_REMEMBERED = 64


class OpenHabit:
    """So many looks in a row without an open as `most_unopened` show a program that only looks."""

    def __init__(self, most_unopened: int) -> None:
        self._most_unopened = most_unopened
        self._looked_at: deque[RunId] = deque(maxlen=_REMEMBERED)
        self._unopened = 0

    def listed(self) -> None:
        """A directory was listed. Programs that look at all it has, in whatever order, follow."""
        self._unopened = self._most_unopened

    def looked_at(self, run_id: RunId) -> bool:
        """A caller asks for the size of a single result. Returns whether its open is likely to follow."""
        self._looked_at.append(run_id)
        self._unopened += 1
        return self._unopened <= self._most_unopened

    def opened(self, run_id: RunId) -> None:
        """A caller has opened a result."""
        if run_id in self._looked_at:
            self._unopened = 0
