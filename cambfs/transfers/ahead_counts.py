"""Counts what was fetched before any caller wanted it, and how much of that was opened since. The rest is waste so far.

Threads: any. The lock is a leaf.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock

from cachetools import LRUCache

from cambfs.names import RunId

# Results that were fetched ahead longer ago count as waste, even if they are opened later.
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class ReadAheadCounts:
    """`results` had bytes before they were opened, `bytes` in all. The others count those that are still unopened."""

    results: int = 0
    bytes: int = 0
    unopened_results: int = 0
    unopened_bytes: int = 0


class AheadCounts:
    def __init__(self) -> None:
        self._lock = Lock()  # guards all below
        self._unopened: LRUCache[RunId, int] = LRUCache(_REMEMBERED)
        self._results = self._bytes = 0
        self._opened_results = self._opened_bytes = 0

    def received(self, run_id: RunId, count: int) -> None:
        """`count` bytes of an unopened result came."""
        with self._lock:
            before = self._unopened.get(run_id)
            self._unopened[run_id] = (before or 0) + count
            self._results += before is None
            self._bytes += count

    def opened(self, run_id: RunId) -> None:
        with self._lock:
            count = self._unopened.pop(run_id, None)
            if count is not None:
                self._opened_results += 1
                self._opened_bytes += count

    def counts(self) -> ReadAheadCounts:
        with self._lock:
            unopened = self._results - self._opened_results, self._bytes - self._opened_bytes
            return ReadAheadCounts(self._results, self._bytes, *unopened)
