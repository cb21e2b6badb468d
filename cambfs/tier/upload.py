"""Puts the bytes of one run into the engine while this machine fetches them, for the others to follow.

It goes on with the log of a machine that has stopped, if that has the same bytes. The stream never waits for it, and a
failure of the engine ends it.

Threads: `run` works in one, named share-RUN, from before the API is asked. It holds no lock while it waits for the
engine.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.shared.counts import Counts
from cambfs.shared.engine import EngineDown
from cambfs.tier.run_log import Account, RunLog
from cambfs.tier.seals import FRAME_BYTES, Facts, Frames, Header, SealBroken, new_upload, seal_facts

log = logging.getLogger(__name__)

# How often it looks for the first bytes, and later for more: so long bytes may wait until a frame is full.
_FIRST_LOOK_S, _LOOK_S = 0.02, 0.1
# How often the lease is renewed while the API has not responded, or this machine has fewer bytes than the log.
_RENEW_AFTER_S = 1.0
# An engine that loses the log again and again is too small.
_MOST_UPLOADS = 3


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a run is here: `bytes` from 0 on without a gap; `info` as far as it is trusted; `proof` is "" before all
    is here and its end is proven. `is_over`: no more will come. `is_wrong`: the bytes must not be used."""

    bytes: int
    info: RunInfo | None
    proof: str
    content_type: str
    is_over: bool = False
    is_wrong: bool = False


class Origin(Protocol):
    """The run that is fetched."""

    def reach(self, wait_s: float) -> Reach:
        """How far it is, after at most `wait_s`."""

    def bytes_at(self, start: int, count: int) -> bytes:
        """Bytes that are here."""


@dataclass(frozen=True, slots=True)
class Lead:
    """The lease of a run, under its token, where the account has it: this machine fetches it."""

    run_id: RunId
    token: bytes
    account: Account


class _Lost(Exception):
    """Another machine has the lease, or the engine loses whatever is put there."""


class Upload:
    def __init__(
        self,
        lead: Lead,
        response: Future[Header | None],
        origin: Origin,
        max_result_bytes: int,
        counts: Counts,
        drop: Callable[[Account, RunId, SealBroken], None],
    ) -> None:
        """`response` gets what the API's response tells, or None when there is none. Its `upload` is ignored. `drop`
        removes a forged log."""
        self._engine = lead.account.engine
        self._key = lead.account.key
        self._lead = lead
        self._run_id = lead.run_id
        self._response = response
        self._told_total: int | None = None
        self._origin = origin
        self._max_result_bytes = max_result_bytes
        self._counts = counts
        self._drop = drop
        self._uploads = 0
        self._told: RunInfo | None = None
        self._put_at = 0.0  # when the lease was last renewed, in time.monotonic seconds
        self._start(Frames(self._key, self._run_id), b"")  # until it has looked

    def _start(self, frames: Frames, digest: bytes) -> None:
        """With a log that ends where `frames` does, and has bytes of this digest."""
        self._frames = frames
        self._begun_with, self._begun_digest = frames.position, digest
        self._hashed_bytes, self._sha256 = 0, hashlib.sha256()

    def run(self) -> None:
        """Returns when all is there, or this machine does not fetch the run any more. Raises nothing."""
        try:
            self._share()
        except _Lost:
            log.debug("run %d: not shared any more", self._run_id)
        except EngineDown as error:
            self._counts.note_failure(error)
            log.debug("run %d: not shared: %s", self._run_id, error)
        finally:
            with suppress(EngineDown):
                self._engine.release(self._run_id, self._lead.token)

    def _share(self) -> None:
        self._read_log()
        response = self._await_response()
        if response is not None:
            self._counts.add("led")  # not a run that the API does not have
            self._told_total = response.total
            if self._frames.header is None:
                self._begin()
            self._follow_stream()

    def _follow_stream(self) -> None:
        """Returns when the lease is not needed any more."""
        while True:
            reach = self._origin.reach(_LOOK_S if self._frames.position else _FIRST_LOOK_S)
            if reach.is_wrong:
                self._engine.drop(self._run_id)
                return
            self._tell(reach)
            if self._is_too_large(reach):
                return
            self._put(reach)
            if self._is_finished(reach) or reach.is_over:
                return

    def _read_log(self) -> None:
        """What is there is gone on with, if it is sound."""
        run_log, sha256 = RunLog(self._lead.account, self._run_id), hashlib.sha256()
        try:
            while (data := run_log.read()) is not None:
                sha256.update(data)
        except SealBroken as error:
            self._drop(self._lead.account, self._run_id, error)
        else:
            self._start(run_log.frames, sha256.digest())

    def _await_response(self) -> Header | None:
        while True:
            try:
                return self._response.result(_RENEW_AFTER_S)
            except FutureTimeout:
                self._renew()

    def _renew(self) -> None:
        if not self._append(self._frames.offset, b""):
            raise _Lost

    def _begin(self) -> None:
        """A new log, which replaces any other."""
        self._uploads += 1
        self._told = None
        frames = Frames(self._key, self._run_id)
        header = self._response.result()
        assert header is not None, "without a response nothing is begun"
        frame = frames.seal_header(header._replace(upload=new_upload()))
        self._start(frames, hashlib.sha256().digest())
        if self._uploads > _MOST_UPLOADS or not self._append(0, frame):
            raise _Lost

    def _append(self, offset: int, data: bytes) -> bool:
        """Also renews the lease."""
        self._put_at = time.monotonic()
        return self._engine.append(self._run_id, self._lead.token, offset, data)

    def _is_too_large(self, reach: Reach) -> bool:
        sizes = self._told_total or 0, reach.bytes, reach.info.size if reach.info is not None else 0
        return max(sizes) > self._max_result_bytes

    def _tell(self, reach: Reach) -> None:
        """The size and the time, as soon as they are trusted."""
        if reach.info is not None and reach.info != self._told and not reach.proof:
            self._told = reach.info
            self._engine.tell(self._run_id, self._lead.token, self._facts(reach.info, reach.content_type))

    def _facts(self, info: RunInfo, content_type: str, sha256: str = "", proof: str = "") -> bytes:
        header = self._frames.header
        assert header is not None, "the facts are those of an upload"
        facts = Facts(info.size, info.mtime_ns, content_type, header.upload, sha256, proof)
        return seal_facts(self._key, self._run_id, facts)

    def _put(self, reach: Reach) -> None:
        """All that is due, once the bytes that the log has from another machine are compared."""
        if self._begun_with:
            self._compare(reach)
        if not self._begun_with:
            while self._is_due(count := min(reach.bytes - self._frames.position, FRAME_BYTES), reach):
                self._put_frame(count)

    def _compare(self, reach: Reach) -> None:
        stop = min(reach.bytes, self._begun_with)
        if self._hashed_bytes < stop:
            while self._hashed_bytes < stop:
                self._hash(self._origin.bytes_at(self._hashed_bytes, min(stop - self._hashed_bytes, FRAME_BYTES)))
            if time.monotonic() - self._put_at >= _RENEW_AFTER_S:
                self._renew()
        if stop == self._begun_with and self._sha256.digest() == self._begun_digest:
            self._begun_with = 0
        elif stop == self._begun_with or reach.proof:
            log.info("run %d: the shared cache has other bytes of it", self._run_id)
            self._engine.drop(self._run_id)  # the facts, too
            self._begin()

    def _hash(self, data: bytes) -> None:
        self._sha256.update(data)
        self._hashed_bytes += len(data)

    def _is_due(self, count: int, reach: Reach) -> bool:
        if count <= 0:
            return False
        is_first, is_last = self._frames.position == 0, reach.is_over or bool(reach.proof)
        return is_first or is_last or count == FRAME_BYTES or time.monotonic() - self._put_at >= _LOOK_S

    def _put_frame(self, count: int) -> None:
        data, offset = self._origin.bytes_at(self._frames.position, count), self._frames.offset
        if self._append(offset, self._frames.seal(data)):
            self._hash(data)
            self._counts.add("sent_bytes", len(data))
        else:
            self._begin()  # if the lease is still there, the log was evicted

    def _is_finished(self, reach: Reach) -> bool:
        if not reach.proof or reach.info is None or self._frames.position != reach.info.size:
            return False
        facts = self._facts(reach.info, reach.content_type, self._sha256.hexdigest(), reach.proof)
        if self._engine.finish(self._run_id, self._lead.token, facts):
            self._counts.note_taken()
        return True
