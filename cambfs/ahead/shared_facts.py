"""Which runs a mount asks the shared tier about, so that it need not ask the API for their size.

It only decides; the caller sends the request. No lock of its own: the owner guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetools import TTLCache

from cambfs.clock import since_boot_s
from cambfs.names import RunId

# One round trip to the tier. They are small, and the tier is near.
_RUNS = 256
# How long a run that the tier did not know is not asked for again.
_UNKNOWN_FOR_S = 2.0
_REMEMBERED = 10_000


class SharedFacts:
    def __init__(self) -> None:
        self._asked: TTLCache[RunId, bool] = TTLCache(_REMEMBERED, _UNKNOWN_FOR_S, timer=since_boot_s)
        self.begin(())

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._listed = listed
        self._until = 0

    def wanted(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId]:
        """The runs to ask about when this one is looked at: itself, and the next ones of a listing in its order."""
        if run_id in self._asked:
            return []
        window = self._window(run_id, is_known)
        wanted = [run_id, *(run for run in window if run != run_id and run not in self._asked)]
        self._asked.update(dict.fromkeys(wanted, True))
        return wanted

    def _window(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId]:
        while self._until < len(self._listed) and is_known(self._listed[self._until]):
            self._until += 1  # looks at known runs do not come here
        first = self._until
        if first == len(self._listed) or self._listed[first] != run_id:
            return []
        self._until += _RUNS
        return [run for run in self._listed[first : self._until] if not is_known(run)]
