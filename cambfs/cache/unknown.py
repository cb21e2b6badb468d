"""The runs that the API did not know when it was last asked.

No lock of its own: the library holds its lock for every method.
"""

from __future__ import annotations

import math

from cachetools import LRUCache, TTLCache

from cambfs.clock import since_boot_s
from cambfs.errors import CambfsError
from cambfs.names import RunId

# As many as can be declared.
_UNLISTED_KEPT = 1_000_000


class UnknownRuns:
    """For `forget_after_s`, an unknown run fails without a request. It stays out of listings until it is found, or
    until `clear`."""

    def __init__(self, forget_after_s: float) -> None:
        self._errors: TTLCache[RunId, CambfsError] = TTLCache(math.inf, forget_after_s, timer=since_boot_s)
        self._unlisted: LRUCache[RunId, bool] = LRUCache(_UNLISTED_KEPT)

    def add(self, run_id: RunId, error: CambfsError) -> None:
        self._errors[run_id] = error
        self._unlisted[run_id] = True

    def found(self, run_id: RunId) -> None:
        self._unlisted.pop(run_id, None)

    def clear(self) -> None:
        self._errors.clear()
        self._unlisted.clear()

    def check(self, run_id: RunId) -> None:
        """Raises the error of the last request, if that is recent."""
        error = self._errors.get(run_id)
        if error is not None:
            raise error.with_traceback(None)

    def fails(self, run_id: RunId) -> bool:
        """Whether `check` raises."""
        return run_id in self._errors

    def remove_from(self, found: set[RunId]) -> None:
        found.difference_update(self._unlisted)
