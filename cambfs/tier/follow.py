"""The bytes of one run as another machine fetches them, or has fetched them: a `remote.source.Body`.

No byte leaves it before its frame was checked. When the other machine stops, the log is gone or the engine fails, it
ends as a response with a part of the result does, and the transfer asks for the rest at once.

Threads: the transfer reads; `close` may be called from any. No lock.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from threading import Event

from cambfs.model import RunInfo
from cambfs.shared.counts import Counts
from cambfs.shared.engine import LEASE_S, EngineDown
from cambfs.tier.run_log import RunLog
from cambfs.tier.seals import Header, SealBroken

log = logging.getLogger(__name__)

# How long until the log is read again when it had nothing new: the first time, and at most.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.1
# The rate of the other machine is that of so many seconds.
_WINDOW_S = 3.0

Hear = Callable[[RunInfo, str], None]
"""Is told the size and time that the other machine trusts, with "", and the proof of the end when all bytes came."""


Reject = Callable[[RunLog, SealBroken | None], None]
"""Gets a log that is of no use: it is forged, or (None) a part of it is gone."""


IsEnough = Callable[[float], bool]
"""Gets the bytes per second that the other machine brings. False: the rest is fetched without it."""


def always(_: float) -> bool:
    return True


class SharedBody:
    is_stored, is_shared = False, True
    framed = True
    start = 0

    def __init__(
        self, run_log: RunLog, header: Header, hear: Hear, reject: Reject, counts: Counts, is_enough: IsEnough
    ) -> None:
        """`run_log` was read up to its header."""
        self.stop: int | None = None
        self.total = header.total
        self.etag = header.etag
        self.ranges = header.ranges
        self.content_type = header.content_type
        self.modified_s = header.modified_s
        self._log = run_log
        self._hear = hear
        self._reject = reject
        self._counts = counts
        self._is_enough = is_enough
        self._window_at: float | None = None  # when it began; None before this machine had all that was there
        self._window_bytes = 0
        self._piece = memoryview(b"")
        self._sha256 = hashlib.sha256()
        self._told: RunInfo | None = None
        self._closed = Event()
        self._progress_at = time.monotonic()
        self._pause_s = FIRST_PAUSE_S

    def read(self, limit: int) -> bytes:
        """As `Body.read`. At an end that is not that of the result, `stop` says where it is, and `total` is None."""
        self._tell()
        while not self._piece:
            try:
                if self._is_all_there():
                    return self._end()
                is_going_on = not self._closed.is_set() and (self._next_frame() or self._wait())
            except EngineDown as error:
                log.debug("run %d: not read from the shared cache any more: %s", self._log.run_id, error)
                is_going_on = False
            except SealBroken as error:
                self._reject(self._log, error)
                is_going_on = False
            if not is_going_on:
                self.stop, self.total = self._log.frames.position, None
                return b""
        piece, self._piece = self._piece[:limit], self._piece[limit:]
        return bytes(piece)

    def close(self) -> None:
        self._closed.set()

    def _is_all_there(self) -> bool:
        facts = self._log.facts
        return facts is not None and facts.is_whole and self._log.frames.position >= facts.size

    def _end(self) -> bytes:
        facts = self._log.facts
        assert facts is not None, "they say where the end is"
        if self._sha256.hexdigest() != facts.sha256:
            raise SealBroken(f"run {self._log.run_id}: the bytes are not those of the facts")
        self._hear(facts.info, facts.proof)
        return b""

    def _next_frame(self) -> bool:
        data = self._log.read()
        self._tell()
        if data is None:
            return False
        self._sha256.update(data)
        self._counts.add("received_bytes", len(data))
        self._piece = memoryview(data)
        self._window_bytes += len(data)
        self._progress_at = time.monotonic()
        self._pause_s = FIRST_PAUSE_S
        return True

    def _tell(self) -> None:
        facts = self._log.facts
        if facts is not None and facts.info != self._told:
            self._told = facts.info
            self._hear(facts.info, "")

    def _wait(self) -> bool:
        """Whether more may come, after a pause."""
        if self._is_all_there():
            return True
        if self._log.is_whole:
            self._reject(self._log, None)
            return False
        if not self._log.is_held or time.monotonic() - self._progress_at > LEASE_S:
            return False
        if self._pause_s >= LONGEST_PAUSE_S and not self._log.is_there():
            return False
        if not self._is_fast_enough():
            return False
        self._closed.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True

    def _is_fast_enough(self) -> bool:
        """Called while it waits for the other machine, of which it has all."""
        now = time.monotonic()
        if self._window_at is not None and now - self._window_at < _WINDOW_S:
            return True
        is_enough = self._window_at is None or self._is_enough(self._window_bytes / (now - self._window_at))
        self._window_at, self._window_bytes = now, 0
        return is_enough
