"""Signed URLs: asked for once, shared while they hold, renewed when storage refuses one.

Not what is behind them (`object_store`). Threads: any may ask; the requests are made in threads named `sign-…`, or in
the thread that calls `obtain`. `_lock` guards the tables; nothing is locked under it, and no request made under it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock

from cachetools import TLRUCache

from cambfs.errors import CambfsError, RemoteError, Unreachable
from cambfs.names import RunId
from cambfs.remote.retry import retrying
from cambfs.remote.source import SignedUrl, Source
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

# A URL is handed out only in this first part of its life, so that there is time left to use it.
_LIFE_USED = 0.8
# How much of them is kept: 100,000 of the usual length. The other parts of an entry weigh about as much as a short URL.
_KEPT_BYTES = 64 << 20
_ENTRY_BYTES = 300
# After the API could not be reached at all, nobody waits for it again so soon: a listing has many names.
_OUTAGE_S = 2.0
# Anything else may be about these runs, or about now.
_NO_SUCH_ENDPOINT = (404, 405, 501)
# Of the timeout, what a question about several runs may take before they are asked for one by one.
_BULK_PATIENCE = 0.25
_BULK_MOST = 5  # run ids a call, says the API's documentation; and two at the least


@dataclass(frozen=True)
class Signature:
    """`signed_ns` is when it came, since the epoch."""

    signed: SignedUrl
    signed_ns: int


def _expires_at(_run_id: RunId, signature: Signature, now_s: float) -> float:
    return now_s + signature.signed.life_s * _LIFE_USED


def _weight_bytes(signature: Signature) -> int:
    return _ENTRY_BYTES + len(json.dumps(signature.signed.response))


class Signer:
    def __init__(self, source: Source, workers: Workers, timeout_s: float, closing: Event) -> None:
        self._source = source
        self._workers = workers
        self._timeout_s = timeout_s
        self._closing = closing
        self._lock = Lock()  # guards all below
        self._fresh: TLRUCache[RunId, Signature] = TLRUCache(
            _KEPT_BYTES, ttu=_expires_at, timer=time.monotonic, getsizeof=_weight_bytes
        )
        self._asked: dict[RunId, Future[Signature]] = {}
        self._bulk = True
        self._outage: Unreachable | None = None  # how the last attempt failed, if there was no response
        self._outage_until = 0.0

    def fresh(self, run_id: RunId) -> Signature | None:
        """One that holds still, without a request; None when there is none."""
        with self._lock:
            return self._fresh.get(run_id)

    def request(self, run_id: RunId) -> Future[Signature]:
        """One that holds; everybody who asks meanwhile shares the request. The future fails with a CambfsError, for
        2 s after the API could not be reached without a request."""
        future, is_new = self._future(run_id)
        if is_new:
            self._start_one(run_id)
        return future

    def obtain(self, run_id: RunId) -> Future[Signature]:
        """As `request`; where there is a request to make, it is made before this returns."""
        future, is_new = self._future(run_id)
        if is_new:
            self._ask_one(run_id)
        return future

    def reject(self, run_id: RunId, refused: SignedUrl) -> None:
        """Storage no longer takes it. The next caller gets a new one."""
        with self._lock:
            fresh = self._fresh.get(run_id)
            if fresh is not None and fresh.signed is refused:
                del self._fresh[run_id]

    def _future(self, run_id: RunId) -> tuple[Future[Signature], bool]:
        """Also whether the caller has to give it a result."""
        with self._lock:
            known = self._known(run_id)
            if known is not None:
                return known, False
            if self._outage is not None and time.monotonic() < self._outage_until:
                return _failed(Unreachable(f"run {run_id}: the API is out of reach", self._outage.errno)), False
            future = self._asked[run_id] = Future()
            return future, True

    def request_many(self, run_ids: Iterable[RunId]) -> None:
        """Asks for those of which none is known, in bulk where the API can. The futures come from `request`."""
        with self._lock:
            wanted = [run_id for run_id in run_ids if self._known(run_id) is None]
            self._asked.update({run_id: Future() for run_id in wanted})
        for first in range(0, len(wanted), _BULK_MOST):
            batch = wanted[first : first + _BULK_MOST]
            self._start(f"sign-{batch[0]}-and-{len(batch) - 1}", partial(self._ask_many, batch), batch)

    def _start_one(self, run_id: RunId) -> None:
        self._start(f"sign-{run_id}", partial(self._ask_one, run_id), [run_id])

    def _start(self, name: str, work: Callable[[], None], run_ids: Sequence[RunId]) -> None:
        try:
            self._workers.start(name, work)
        except CambfsError as error:
            for run_id in run_ids:
                self._settle(run_id).set_exception(error)

    def _known(self, run_id: RunId) -> Future[Signature] | None:
        fresh = self._fresh.get(run_id)
        if fresh is None:
            return self._asked.get(run_id)
        future: Future[Signature] = Future()
        future.set_result(fresh)
        return future

    def _ask_one(self, run_id: RunId) -> None:
        timeout_s = self._timeout_s if self._outage is None else 0.0
        try:
            signed = retrying(lambda: self._source.sign(run_id), timeout_s, self._closing)
        except CambfsError as error:
            if isinstance(error, Unreachable):
                self._note_outage(error)
            self._settle(run_id).set_exception(error)
        except Exception as error:
            log.exception("run %d: unexpected error while asking for a signed URL", run_id)
            self._settle(run_id).set_exception(CambfsError(f"an internal error: {type(error).__name__}, see the log"))
        else:
            self._note_outage(None)
            self._settle(run_id, signed)

    def _note_outage(self, error: Unreachable | None) -> None:
        with self._lock:
            self._outage = error
            self._outage_until = time.monotonic() + _OUTAGE_S

    def _ask_many(self, batch: Sequence[RunId]) -> None:
        answers = self._bulk_responses(batch) if self._bulk and len(batch) > 1 else {}
        for run_id, signed in answers.items():
            self._settle(run_id, signed)
        for run_id in batch:
            if run_id not in answers:  # each in its own thread: one that stalls does not hold back the others
                self._start_one(run_id)

    def _bulk_responses(self, batch: Sequence[RunId]) -> dict[RunId, SignedUrl]:
        timeout_s = self._timeout_s * _BULK_PATIENCE if self._outage is None else 0.0
        try:
            return dict(retrying(lambda: self._source.sign_many(batch), timeout_s, self._closing))
        except RemoteError as error:
            log.info("run %d and others: asking for signed URLs one by one: %s", batch[0], error)
            if error.status in _NO_SUCH_ENDPOINT:
                self._bulk = False
        except CambfsError as error:
            log.info("run %d and others: asking for signed URLs one by one: %s", batch[0], error)
        except Exception:
            log.exception("run %d and others: unexpected error while asking for signed URLs", batch[0])
        return {}

    def _settle(self, run_id: RunId, signed: SignedUrl | None = None) -> Future[Signature]:
        with self._lock:
            future = self._asked.pop(run_id)
            if signed is not None:
                signature = Signature(signed, time.time_ns())
                self._fresh[run_id] = signature
        if signed is not None:
            future.set_result(signature)
        return future


def _failed(error: CambfsError) -> Future[Signature]:
    future: Future[Signature] = Future()
    future.set_exception(error)
    return future
