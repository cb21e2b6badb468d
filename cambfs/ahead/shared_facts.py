"""Which runs a mount asks the shared tier about, so that it need not ask the API for their size.

It only decides; the caller sends the request. No lock of its own: the owner guards it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cachetools import TTLCache

from cambfs.ahead.lookahead import Lookahead
from cambfs.clock import since_boot_s
from cambfs.names import RunId

# One round trip to the tier. They are small, and the tier is near.
_RUNS = 256
# How long a run that the tier did not know is not asked for again.
_UNKNOWN_FOR_S = 2.0
_REMEMBERED = 10_000


class SharedFacts:
    def __init__(self) -> None:
        self._lookahead = Lookahead(_RUNS)
        self._asked: TTLCache[RunId, bool] = TTLCache(_REMEMBERED, _UNKNOWN_FOR_S, timer=since_boot_s)

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        self._lookahead.begin(listed)

    def wanted(self, run_id: RunId, is_known: Callable[[RunId], bool]) -> list[RunId]:
        """The runs to ask about when this one is looked at: itself, and the next ones of a listing in its order."""
        if run_id in self._asked:
            return []
        window = self._lookahead.window(run_id, is_known)
        wanted = [run_id, *(run for run in window if run != run_id and run not in self._asked)]
        self._asked.update(dict.fromkeys(wanted, True))
        return wanted
