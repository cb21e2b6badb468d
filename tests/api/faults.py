"""The faults of the API, and how often they happen. `misbehaving` and `wire` put them on the wire.

Threads: tests add and clear from theirs, the server's thread takes; a lock is held for each.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["stream", "sign", "bulk", "stored", "redirected", "task", "other"]

BEFORE_HEADERS = -1


@dataclass(frozen=True)
class Fault:
    """One way to go wrong, for requests of kind `target` and run `run_id` (None: any; bulk calls have no run).

    kind  reset    the connection is reset; the `after_bytes` before it do arrive
          cut      the connection ends in order, but early: within a chunk, short of the Content-Length. With
                   `after_bytes` at the body's end or past it, only the last chunk is missing
          stall    nothing more is sent until Server.release()
          drip     from `after_bytes` on, one byte every `interval_s`
          status   `status`, `headers` and `body` instead of the response
          length   the Content-Length says `lie_bytes` more than there are (negative: fewer); the connection stays open
          content  200 and `body` as `content_type`, framed as the response that it takes the place of
    after_bytes    bytes of this response's body, from where it starts; BEFORE_HEADERS: not even the status line is sent
    times          for so many requests; None: until Server.heal()
    """

    kind: Literal["reset", "cut", "stall", "drip", "status", "length", "content"]
    target: Kind = "stream"
    run_id: int | None = None
    after_bytes: int = 0
    times: int | None = 1
    interval_s: float = 0.01
    lie_bytes: int = 0
    status: int = 500
    body: bytes = b"Internal Server Error"
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)


class Faults:
    """The faults that are to come; of those that fit a request the oldest is taken. `taken`: those that were."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[tuple[Fault, int | None]] = []
        self.taken: list[Fault] = []

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._pending.append((fault, fault.times))

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def take(self, kind: Kind, run_id: int | None, *, is_success: bool) -> Fault | None:
        """Applies a fault to a response. Only a `status` replaces an error response."""
        with self._lock:
            for index, (fault, left) in enumerate(self._pending):
                if fault.target == kind and fault.run_id in (None, run_id) and (is_success or fault.kind == "status"):
                    self._use(index, fault, left)
                    self.taken.append(fault)
                    return fault
        return None

    def _use(self, index: int, fault: Fault, left: int | None) -> None:
        if left is None:
            return
        if left > 1:
            self._pending[index] = (fault, left - 1)
        else:
            del self._pending[index]
