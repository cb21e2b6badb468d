"""The object store behind the signed URLs: what it says of a result.

How far that is believed is in `store_trust`. A probe is the head and the end of an object: two requests at the same
time. Beside a stream of a trusted storage, the end alone may be enough, which is one request.

Threads: any; `probe`, `probe_end` and `open` wait for the network. `_lock` guards the probes and is a leaf.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import TypeVar

from cachetools import TTLCache

from cambfs import audio
from cambfs.audio import End
from cambfs.clock import since_boot_s
from cambfs.errors import (
    BadResponse,
    CambfsError,
    KeyRefused,
    LinkError,
    NotRepeated,
    RemoteError,
    SignatureExpired,
    StorageUseless,
    TimedOut,
    UnknownRun,
)
from cambfs.names import RunId
from cambfs.remote.retry import always, retrying
from cambfs.remote.signer import Signer
from cambfs.remote.source import Body, SignedUrl, Source
from cambfs.remote.store_trust import StoreTrust
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

T = TypeVar("T")

HEAD_BYTES = 4096
# Where the last frame of most FLAC files lies. A server sends ten packets at once on a new connection, of which two
# belong to TLS, and the rest a round trip later. Objects with longer frames make it longer: those of 24-bit stereo have
# up to 26 KB.
_TAIL_BYTES = 10 * 1024
_MOST_TAIL_BYTES = 32 * 1024
# How long a probe is remembered, for a `stat` and an open soon after; each holds HEAD_BYTES.
_PROBE_HOLDS_S = 60.0
_PROBES_KEPT = 1024
# How long a busy storage is asked again before the stream is fetched instead. A storage that takes longer for the few
# bytes of a probe is not useful, either.
_PROBE_AGAIN_FOR_S = 2.0
_PROBE_TAKES_S = 2.0
# Requests that callers wait for take the connections that are open.
_CALLERS_FIRST_S = 0.02
# The object is gone. That says nothing about ranges.
_GONE = (404, 410)


@dataclass(frozen=True)
class Probe:
    """What the storage says of one result: its length in bytes, its first HEAD_BYTES (fewer when it is shorter), what
    the object's own structure says of its end, whether it gives ranges of it, and its validator and age (seconds since
    the epoch) if it tells."""

    total: int
    head: bytes
    end: End
    ranges: bool
    etag: str | None
    modified_s: float | None


@dataclass(frozen=True)
class Tail:
    """The end of an object: its bytes from `start` on, its length, and its validator and age as in Probe."""

    start: int
    total: int
    content: bytes
    etag: str | None
    modified_s: float | None


class ObjectStore:
    def __init__(self, source: Source, signer: Signer, workers: Workers, timeout_s: float, closing: Event) -> None:
        self._source = source
        self._signer = signer
        self._workers = workers
        self._timeout_s = timeout_s
        self._closing = closing
        self.trust = StoreTrust()
        # Hints of how to ask; a late one costs a request.
        self._gives_tails = True  # it supports ranges that count from the end
        self._tail_bytes = _TAIL_BYTES
        self._is_counted = False  # the object that was probed last ends with the last sample that its head counts
        self._lock = Lock()  # guards _probes
        self._probes: TTLCache[RunId, Probe] = TTLCache(_PROBES_KEPT, _PROBE_HOLDS_S, timer=since_boot_s)

    @property
    def ends_suffice(self) -> bool:
        """Whether the end of an object is likely to tell its size, beside the head of the stream."""
        return self.trust.proven and self._gives_tails and self._is_counted

    def refute(self, run_id: RunId) -> None:
        """The object of this run has another length than the stream. It is not used again."""
        self.trust.refute(run_id)
        self.forget(run_id)

    def forget(self, run_id: RunId) -> None:
        """Forgets what it said of this run: the result has changed."""
        with self._lock:
            self._probes.pop(run_id, None)

    def probe(self, run_id: RunId, is_awaited: Callable[[], bool] = always) -> Probe:
        """The head and the end of the object, requested unless that was just done. Raises what signing raises, and
        StorageUseless when storage fails; NotRepeated when that may pass, and no caller waits for it."""
        recent = self._recent(run_id)
        if recent is not None:
            return recent
        probe = self._asked(run_id, is_awaited, self._probe)
        with self._lock:
            self._probes[run_id] = probe
        self._is_counted = audio.is_counted(probe.head, probe.end)
        return probe

    def probe_end(self, run_id: RunId, is_awaited: Callable[[], bool] = always) -> Probe | Tail:
        """The end of the object alone, which is one request and not two. The probe if that was just made, or if storage
        has no ranges that count from the end. Raises as `probe`."""
        recent = self._recent(run_id)
        if recent is not None:
            return recent
        if self._gives_tails:
            try:
                return self._asked(run_id, is_awaited, self._end)
            except StorageUseless:
                if self._gives_tails:
                    raise
        return self.probe(run_id, is_awaited)

    def _recent(self, run_id: RunId) -> Probe | None:
        if self.trust.is_refuted(run_id):
            raise StorageUseless(f"run {run_id}: storage has another length than the stream")
        with self._lock:
            return self._probes.get(run_id)

    def _asked(self, run_id: RunId, is_awaited: Callable[[], bool], ask: Callable[[RunId], T]) -> T:
        self._sign_for_probe(run_id, is_awaited)
        if not is_awaited():
            self._closing.wait(_CALLERS_FIRST_S)
        try:
            return retrying(lambda: ask(run_id), _PROBE_AGAIN_FOR_S, self._closing, is_awaited)
        except RemoteError as error:
            raise StorageUseless(str(error)) from error

    def _sign_for_probe(self, run_id: RunId, is_awaited: Callable[[], bool]) -> None:
        try:
            self._signed(run_id, None, is_awaited)
        except (UnknownRun, KeyRefused, NotRepeated):
            raise
        except CambfsError as error:
            self.trust.note_not_signed(error)
            raise
        self.trust.note_signed()

    def _probe(self, run_id: RunId) -> Probe:
        give_up_at = time.monotonic() + _PROBE_TAKES_S
        tail = self._ask_for_tail(run_id, give_up_at)
        try:
            with closing(self._open_signed(run_id, 0, HEAD_BYTES)) as body:
                if not body.total:  # an empty head would equal every stream's
                    raise StorageUseless(f"run {run_id}: storage has no bytes, or does not report how many")
                head = _read(body, min(HEAD_BYTES, body.total), give_up_at)
                found = Probe(body.total, head, End.UNKNOWN, body.ranges, body.etag, body.modified_s)
            return replace(found, end=self._end_of(run_id, found, tail, give_up_at))
        except LinkError as error:
            raise StorageUseless(f"storage: {error}") from error

    def _end(self, run_id: RunId) -> Tail:
        try:
            return self._tail(run_id, time.monotonic() + _PROBE_TAKES_S)
        except LinkError as error:
            raise StorageUseless(f"storage: {error}") from error

    def _ask_for_tail(self, run_id: RunId, give_up_at: float) -> Future[Tail]:
        """The last bytes of the object, requested beside its head: that saves a round trip."""
        future: Future[Tail] = Future()

        def ask() -> None:
            try:
                future.set_result(self._tail(run_id, give_up_at))
            except Exception as error:  # they are requested again, by offset
                future.set_exception(error)

        if self._gives_tails:
            try:
                self._workers.start(f"tail-{run_id}", ask)
                return future
            except CambfsError as error:
                log.info("run %d: %s", run_id, error)
        future.set_exception(StorageUseless("not asked for"))
        return future

    def _tail(self, run_id: RunId, give_up_at: float) -> Tail:
        try:
            with closing(self._open_signed(run_id, -self._tail_bytes, None)) as body:
                if not body.ranges or body.total is None:
                    self._gives_tails = False
                    raise StorageUseless("storage has no ranges")
                content = _read(body, body.total - body.start, give_up_at)
                return Tail(body.start, body.total, content, body.etag, body.modified_s)
        except BadResponse as error:
            self._gives_tails = self._gives_tails and error.status in _GONE
            raise

    def _end_of(self, run_id: RunId, found: Probe, asked: Future[Tail], give_up_at: float) -> End:
        """What the object's last bytes say of its end."""
        head, total = found.head, found.total
        start = max(total - audio.tail_bytes_wanted(head), len(head))
        if start >= total or not audio.tail_bytes_wanted(head):
            return audio.end_of(head, head, total)
        if not found.ranges:
            return End.UNKNOWN
        with suppress(CambfsError, FutureTimeout):
            tail = asked.result(max(give_up_at - time.monotonic(), 0.0))
            end = audio.end_of(head, tail.content, total)
            # What looks broken may be a frame that begins before the tail.
            if (tail.total, tail.etag) == (total, found.etag) and (end is not End.BROKEN or tail.start <= start):
                return end
        with closing(self.open(run_id, found, start, total)) as body:
            end = audio.end_of(head, head + _read(body, total - start, give_up_at), total)
        if end is not End.BROKEN:
            self._tail_bytes = max(self._tail_bytes, min(total - start, _MOST_TAIL_BYTES))
        return end

    def open(self, run_id: RunId, probe: Probe, start: int, stop: int | None, *, is_spare: bool = False) -> Body:
        """The object's bytes from `start` on, of just the object that was probed. Raises BadResponse when it is not,
        StorageUseless when it cannot be reached. `is_spare`: it is one more connection beside others, and storage may
        refuse just that, so its failure says nothing about the next request."""
        try:
            body = self._open_signed(run_id, start, stop, is_spare=is_spare)
        except LinkError as error:
            raise StorageUseless(f"storage: {error}") from error
        if (body.start, body.total, body.etag) != (start, probe.total, probe.etag):
            body.close()
            raise BadResponse(f"run {run_id}: storage sends a different object than before", 206)
        if is_spare:
            self._source.connect_stored()  # for the seek that would end it, or the next one beside it
        return body

    def _open_signed(self, run_id: RunId, start: int, stop: int | None, *, is_spare: bool = False) -> Body:
        signed = self._signed(run_id, None)
        try:
            return self._open_stored(signed, start, stop, is_spare)
        except SignatureExpired:
            return self._open_stored(self._signed(run_id, signed), start, stop, is_spare)

    def _open_stored(self, signed: SignedUrl, start: int, stop: int | None, is_spare: bool) -> Body:
        try:
            return self._open_once_more_if_lost(signed, start, stop)
        except LinkError as error:
            if not is_spare:
                self.trust.note_unreachable(error)
            raise

    def _open_once_more_if_lost(self, signed: SignedUrl, start: int, stop: int | None) -> Body:
        """A busy server may close one of many connections. That says nothing about the others."""
        try:
            return self._source.open_stored(signed, start, stop)
        except LinkError as error:
            if isinstance(error, TimedOut) or error.down_for_s is not None:
                raise
            log.info("asked again: %s", error)
            return self._source.open_stored(signed, start, stop)

    def _signed(self, run_id: RunId, refused: SignedUrl | None, is_awaited: Callable[[], bool] = always) -> SignedUrl:
        if refused is not None:
            self._signer.reject(run_id, refused)
        while True:
            try:
                return self._signer.obtain(run_id, is_awaited).result(self._timeout_s).signed
            except NotRepeated:
                if not is_awaited():
                    raise
            except FutureTimeout:
                raise TimedOut(f"run {run_id}: no file_url response for {self._timeout_s:g} s") from None


def _read(body: Body, length: int, give_up_at: float) -> bytes:
    """Raises StorageUseless when it ends before, or takes too long."""
    data = b""
    while len(data) < length:
        if time.monotonic() > give_up_at:
            raise StorageUseless("storage is too slow")
        piece = body.read(length - len(data))
        if not piece:
            raise StorageUseless("storage sends less than it says")
        data += piece
    return data
