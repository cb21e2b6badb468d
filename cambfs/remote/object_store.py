"""The storage behind the signed URLs: what it says of a result, and how far it is to be believed.

Whether its object is the file that the stream brings is not known beforehand. So it is believed only after the heads of
both were found equal once; one difference, and it is used for nothing for the rest of the mount.

Not the comparison itself, for which `run` has the bytes. Threads: any; `probe` and `open` wait for the network. `_lock`
guards the verdicts and is a leaf.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from dataclasses import dataclass
from threading import Event, Lock

from cachetools import TTLCache

from cambfs.errors import BadAnswer, LinkError, RemoteError, SignatureExpired, StorageUseless, TimedOut
from cambfs.names import RunId
from cambfs.remote.retry import retrying
from cambfs.remote.signer import Signer
from cambfs.remote.source import Body, SignedUrl, Source

log = logging.getLogger(__name__)

HEAD_BYTES = 4096
# For so long nobody waits again for a storage that could not be reached.
_UNREACHABLE_FOR_S = 30.0
# So long one run has for the first comparison, before others make one, too.
_PROOF_TAKES_S = 2.0
# A probe is remembered so long, for a run that is looked at and opened a moment later; each has HEAD_BYTES.
_PROBE_HOLDS_S = 60.0
_PROBES_KEPT = 1024
# A storage that is busy is asked again for so long, before the stream is fetched instead.
_PROBE_AGAIN_FOR_S = 2.0


@dataclass(frozen=True)
class Probe:
    """What the storage says of one result: its length in bytes, its first HEAD_BYTES (fewer when it is shorter),
    whether it gives ranges of it, and its validator and age (seconds since the epoch) if it tells."""

    total: int
    head: bytes
    ranges: bool
    etag: str | None
    modified_s: float | None


class Storage:
    def __init__(self, source: Source, signer: Signer, timeout_s: float, closing: Event) -> None:
        self._source = source
        self._signer = signer
        self._timeout_s = timeout_s
        self._closing = closing
        self._lock = Lock()  # guards all below
        self._proven = False
        self._distrusted = False
        self._unreachable_until = 0.0
        self._proof_due_at = 0.0
        self._probes: TTLCache[RunId, Probe] = TTLCache(_PROBES_KEPT, _PROBE_HOLDS_S, timer=time.monotonic)

    @property
    def usable(self) -> bool:
        """Whether it is worth asking."""
        return not self._distrusted and time.monotonic() >= self._unreachable_until

    @property
    def proven(self) -> bool:
        """Whether its objects are the files that the streams bring, as far as was compared."""
        return self._proven and not self._distrusted

    @property
    def distrusted(self) -> bool:
        return self._distrusted

    def claim_proof(self) -> bool:
        """Whether the caller should fetch a stream's head to compare: one does, the others wait for it a while."""
        with self._lock:
            now = time.monotonic()
            if self._proven or now < self._proof_due_at:
                return False
            self._proof_due_at = now + _PROOF_TAKES_S
            return True

    def give_up_proof(self) -> None:
        """Who claimed it has ended without a comparison: it is the next one's turn."""
        with self._lock:
            self._proof_due_at = 0.0

    def prove(self) -> None:
        """A stored head was the stream's."""
        with self._lock:
            self._proven = True

    def distrust(self, run_id: RunId, what: str) -> None:
        """A stored object was not the stream's: used for nothing from here on."""
        with self._lock:
            if self._distrusted:
                return
            self._distrusted = True
        log.warning("run %d: storage has another file than the stream (%s); it is not used any more", run_id, what)

    def forget(self, run_id: RunId) -> None:
        """What it said of this run is not believed any longer: the result has changed."""
        with self._lock:
            self._probes.pop(run_id, None)

    def probe(self, run_id: RunId) -> Probe:
        """The object's head, asked for unless it just was. Raises what signing raises; StorageUseless when the storage
        is to blame."""
        with self._lock:
            recent = self._probes.get(run_id)
        if recent is not None:
            return recent
        self._signed(run_id, None)
        try:
            probe = retrying(lambda: self._probe(run_id), _PROBE_AGAIN_FOR_S, self._closing)
        except RemoteError as error:
            raise StorageUseless(str(error)) from error
        with self._lock:
            self._probes[run_id] = probe
        return probe

    def _probe(self, run_id: RunId) -> Probe:
        try:
            with closing(self._open_signed(run_id, 0, HEAD_BYTES)) as body:
                if not body.total:  # an empty head would equal every stream's
                    raise StorageUseless(f"run {run_id}: storage has nothing, or does not tell how much")
                head = _read(body, min(HEAD_BYTES, body.total))
                if len(head) < min(HEAD_BYTES, body.total):
                    raise StorageUseless(f"run {run_id}: storage sends less than it says")
                return Probe(body.total, head, body.ranges, body.etag, body.modified_s)
        except LinkError as error:
            raise StorageUseless(f"storage: {error}") from error

    def open(self, run_id: RunId, probe: Probe, start: int, stop: int | None) -> Body:
        """The object's bytes from `start` on, of just the object that was probed. Raises BadAnswer when it is not,
        StorageUseless when it cannot be reached."""
        try:
            body = self._open_signed(run_id, start, stop)
        except LinkError as error:
            raise StorageUseless(f"storage: {error}") from error
        if (body.start, body.total, body.etag) != (start, probe.total, probe.etag):
            body.close()
            raise BadAnswer(f"run {run_id}: storage answers with something else than before", 206)
        return body

    def _open_signed(self, run_id: RunId, start: int, stop: int | None) -> Body:
        signed = self._signed(run_id, None)
        try:
            return self._open_stored(signed, start, stop)
        except SignatureExpired:
            return self._open_stored(self._signed(run_id, signed), start, stop)

    def _open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> Body:
        try:
            return self._source.open_stored(signed, start, stop)
        except LinkError:
            with self._lock:
                self._unreachable_until = time.monotonic() + _UNREACHABLE_FOR_S
            raise

    def _signed(self, run_id: RunId, refused: SignedUrl | None) -> SignedUrl:
        if refused is not None:
            self._signer.reject(run_id, refused)
        try:
            return self._signer.obtain(run_id).result(self._timeout_s).signed
        except FutureTimeout:
            raise TimedOut(f"run {run_id}: no file_url answer for {self._timeout_s:g} s") from None


def _read(body: Body, length: int) -> bytes:
    head = b""
    while len(head) < length and (data := body.read(length - len(head))):
        head += data
    return head
