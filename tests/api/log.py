"""The API's request log: one record per request, those under way included.

Threads: the server's thread writes, any thread reads; a lock is held for each.
"""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, replace
from typing import Any, Literal

from tests.api.faults import Kind

Origin = Literal["api", "storage"]


@dataclass(frozen=True)
class Record:
    """One request, as it stood when the log was read.

    kind      the kind of request; "other" when it fits no endpoint
    query     as sent, so with the signature of a signed URL
    range     the Range header, or None
    had_key   the key was sent, in any header or in the address
    status    0 until the response's status is known
    sent      bytes of the response's body handed to the connection so far
    time_s    when it arrived, as time.monotonic() counts
    """

    origin: Origin
    method: str
    path: str
    query: str
    range: str | None
    had_key: bool
    time_s: float
    kind: Kind = "other"
    run_id: int | None = None
    status: int = 0
    sent: int = 0


class Log:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._records: dict[int, Record] = {}

    def open(self, record: Record) -> int:
        with self._lock:
            number = next(self._numbers)
            self._records[number] = record
            return number

    def update(self, number: int, **changes: Any) -> None:
        """Changes one record; nothing when the log has been cleared since."""
        with self._lock:
            if number in self._records:
                self._records[number] = replace(self._records[number], **changes)

    def clear(self) -> None:
        with self._lock:
            self._records.clear()

    def snapshot(self) -> tuple[Record, ...]:
        with self._lock:
            return tuple(self._records.values())
