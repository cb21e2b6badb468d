"""What is believed of the object store: whether it is reached, and whether its objects are the files of the streams.

It is unknown at first whether an object is the file that the stream brings. So storage is trusted only after the heads
of both were found equal once. Different bytes end that trust for the rest of the mount; a different length only for
that run. The comparison itself is in `sizes`, next to the bytes of the run. The requests are made in `object_store`.

Threads: any. `_lock` guards the verdicts and is a leaf.
"""

from __future__ import annotations

import logging
import time
from threading import Lock

from cambfs.errors import CambfsError, LinkError
from cambfs.names import RunId

log = logging.getLogger(__name__)

# How long an unreachable storage is not asked again.
_UNREACHABLE_FOR_S = 30.0
# How long one run has for the first comparison before others try, too.
_PROOF_TAKES_S = 2.0
# After so many failures in a row to sign, the API is not asked to sign for a while.
_FAILED_SIGNINGS = 3


class StoreTrust:
    def __init__(self) -> None:
        self._lock = Lock()  # guards all below
        self._proven = False
        self._distrusted = False
        self._unreachable_until = 0.0
        self._failed_signings = 0
        self._refuted: set[RunId] = set()  # runs whose object has another length than the stream
        self._proof_due_at = 0.0

    @property
    def usable(self) -> bool:
        """Whether storage is worth asking."""
        return not self._distrusted and time.monotonic() >= self._unreachable_until

    @property
    def proven(self) -> bool:
        """Whether its objects are the files that the streams bring, as far as compared."""
        return self._proven and not self._distrusted

    @property
    def distrusted(self) -> bool:
        return self._distrusted

    def claim_proof(self) -> bool:
        """Whether the caller should fetch the head of a stream to compare: one caller does, the others wait a while."""
        with self._lock:
            now = time.monotonic()
            if self._proven or now < self._proof_due_at:
                return False
            self._proof_due_at = now + _PROOF_TAKES_S
            return True

    def give_up_proof(self) -> None:
        """The caller that claimed the comparison has ended without it. The next one may try."""
        with self._lock:
            self._proof_due_at = 0.0

    def prove(self) -> None:
        """The head of an object was the stream's."""
        with self._lock:
            self._proven = True

    def distrust(self, run_id: RunId) -> None:
        """An object began with other bytes than the stream. Storage is not used any more."""
        with self._lock:
            if self._distrusted:
                return
            self._distrusted = True
        log.warning("run %d: storage has another file than the stream; it is not used any more", run_id)

    def refute(self, run_id: RunId) -> None:
        """The object of this run has another length than the stream."""
        with self._lock:
            self._refuted.add(run_id)
        log.warning("run %d: storage has another length than the stream; it is not used for this run", run_id)

    def is_refuted(self, run_id: RunId) -> bool:
        with self._lock:
            return run_id in self._refuted

    def note_signed(self) -> None:
        with self._lock:
            self._failed_signings = 0

    def note_not_signed(self, error: CambfsError) -> None:
        """The API gave no signed URL. When it is down, its breaker knows better for how long."""
        if error.down_for_s is not None:
            return
        with self._lock:
            self._failed_signings += 1
            if self._failed_signings >= _FAILED_SIGNINGS:
                self._leave_alone(_UNREACHABLE_FOR_S)

    def note_unreachable(self, error: LinkError) -> None:
        """A request to storage got no response. If other requests did meanwhile, only its own connection is lost."""
        if error.down_for_s is None and error.is_host_heard:
            return
        with self._lock:
            self._leave_alone(_UNREACHABLE_FOR_S if error.down_for_s is None else error.down_for_s)

    def _leave_alone(self, for_s: float) -> None:
        self._unreachable_until = time.monotonic() + for_s
