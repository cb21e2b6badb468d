"""Signed URLs: requested once, shared while they are valid, renewed when storage refuses one.

Some are requested before a caller waits for them. Such a request is made once, and none is begun while the API is busy.
If it fails temporarily, its future fails with NotRepeated. A caller that shared it then asks again, on its own account.

Not the objects behind them (`object_store`). Threads: any may call. Requests run in threads named `sign-…`, or in the
thread that calls `obtain`. `_lock` guards the tables; no other lock is taken, and no request made, under it.
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

from cambfs.clock import since_boot_s
from cambfs.errors import CambfsError, NotRepeated, RemoteError, TimedOut
from cambfs.names import RunId
from cambfs.remote.retry import always, retrying
from cambfs.remote.source import SignedUrl, Source
from cambfs.remote.speculation import Speculation
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

# A URL is used only in this first part of its life, so that some time is left.
_LIFE_USED = 0.8
# How much of them is kept: 100,000 of the usual length. The other parts of an entry weigh about as much as a short URL.
_KEPT_BYTES = 64 << 20
_ENTRY_BYTES = 300
# After so many requests in a row that failed to the end of their time, the next ones are made once: a listing, which
# asks for one URL after the other, would take the timeout for each.
_PATIENT_FAILURES = 2
# If the API does not respond to one of those, either, though it may to other requests, none is made for so long.
_SILENT_FOR_S = 10.0
# Anything else may be about these runs, or about now.
_NO_SUCH_ENDPOINT = (404, 405, 501)
BULK_MOST = 5  # run ids a call, says the API's documentation; and two at the least


@dataclass(frozen=True)
class Signature:
    """`signed_ns` is when it came, since the epoch."""

    signed: SignedUrl
    signed_ns: int


def _expires_at(_run_id: RunId, signature: Signature, now_s: float) -> float:
    return now_s + signature.signed.life_s * _LIFE_USED


def _never() -> bool:
    return False


def _weight_bytes(signature: Signature) -> int:
    return _ENTRY_BYTES + len(json.dumps(signature.signed.response))


class Signer:
    def __init__(
        self, source: Source, workers: Workers, timeout_s: float, closing: Event, speculation: Speculation
    ) -> None:
        self._source = source
        self._speculation = speculation
        self._workers = workers
        self._timeout_s = timeout_s
        self._closing = closing
        self._lock = Lock()  # guards all below
        self._fresh: TLRUCache[RunId, Signature] = TLRUCache(
            _KEPT_BYTES, ttu=_expires_at, timer=since_boot_s, getsizeof=_weight_bytes
        )
        self._asked: dict[RunId, Future[Signature]] = {}
        self._bulk = True
        self._failures = 0  # temporary ones in a row
        self._silent_until = 0.0

    def fresh(self, run_id: RunId) -> Signature | None:
        """A valid one, without a request; None when there is none."""
        with self._lock:
            return self._fresh.get(run_id)

    def is_requested(self, run_id: RunId) -> bool:
        """Whether there is a valid one, or a request for one is under way."""
        with self._lock:
            return self._known(run_id) is not None

    def request(self, run_id: RunId, is_awaited: Callable[[], bool] = always) -> Future[Signature]:
        """A valid one; concurrent callers share the request, which is repeated only while `is_awaited` of the first of
        them. The future fails with CambfsError: with NotRepeated, a caller that still waits should ask again."""
        future, is_new = self._future(run_id)
        if is_new:
            self._start_one(run_id, is_awaited)
        return future

    def obtain(self, run_id: RunId, is_awaited: Callable[[], bool] = always) -> Future[Signature]:
        """As `request`, but a necessary request is made before this returns."""
        future, is_new = self._future(run_id)
        if is_new:
            self._ask_one(run_id, is_awaited)
        return future

    def reject(self, run_id: RunId, refused: SignedUrl) -> None:
        """Storage refuses it. The next caller gets a new one."""
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
            future = self._asked[run_id] = Future()
            return future, True

    def request_many(self, run_ids: Iterable[RunId]) -> None:
        """Asks for those of which none is known, in bulk where the API can, before a caller waits for them. The futures
        come from `request`."""
        with self._lock:
            wanted = [run_id for run_id in run_ids if self._known(run_id) is None]
            self._asked.update({run_id: Future() for run_id in wanted})
        for first in range(0, len(wanted), BULK_MOST):
            batch = wanted[first : first + BULK_MOST]
            self._start(f"sign-{batch[0]}-and-{len(batch) - 1}", partial(self._ask_many, batch), batch)

    def _start_one(self, run_id: RunId, is_awaited: Callable[[], bool]) -> None:
        self._start(f"sign-{run_id}", partial(self._ask_one, run_id, is_awaited), [run_id])

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

    def _ask_one(self, run_id: RunId, is_awaited: Callable[[], bool]) -> None:
        def ask() -> SignedUrl:
            self._refuse_if_silent(run_id)
            if not is_awaited():
                self._refuse_if_busy()
            return self._source.sign(run_id)

        try:
            signed = retrying(ask, self._patience_s(), self._closing, is_awaited)
        except CambfsError as error:
            self._note_failure(error)
            self._settle(run_id).set_exception(error)
        except Exception as error:
            log.exception("run %d: unexpected error while asking for a signed URL", run_id)
            self._settle(run_id).set_exception(CambfsError(f"an internal error: {type(error).__name__}, see the log"))
        else:
            self._settle(run_id, signed)

    def _patience_s(self) -> float:
        """How long a temporary failure is repeated."""
        with self._lock:
            return self._timeout_s if self._failures < _PATIENT_FAILURES else 0.0

    def _note_failure(self, error: CambfsError) -> None:
        if isinstance(error.__cause__, TimedOut):
            error = error.__cause__  # its caller did not wait any longer, but the request took all of its time
        with self._lock:
            if error.temporary and error.down_for_s is None:
                self._failures += 1
                if isinstance(error, TimedOut) and self._failures > _PATIENT_FAILURES:
                    self._silent_until = time.monotonic() + _SILENT_FOR_S
            elif isinstance(error, RemoteError):
                self._failures = 0  # the API has judged the run, or the key

    def _refuse_if_silent(self, run_id: RunId) -> None:
        with self._lock:
            left_s = self._silent_until - time.monotonic()
        if left_s > 0:
            error = TimedOut(f"run {run_id}: the API sends no signed URLs; it is asked again in {max(left_s, 1):.0f} s")
            error.down_for_s = left_s
            raise error

    def _ask_many(self, batch: Sequence[RunId]) -> None:
        signed_urls = self._bulk_responses(batch) if self._bulk and len(batch) > 1 else {}
        for run_id, signed in signed_urls.items():
            self._settle(run_id, signed)
        for run_id in batch:
            if run_id not in signed_urls:  # each in its own thread: one that stalls does not hold back the others
                self._start_one(run_id, _never)

    def _refuse_if_busy(self) -> None:
        if not self._speculation.is_allowed:
            raise NotRepeated("the API is busy, and no caller waits for the URL")

    def _bulk_responses(self, batch: Sequence[RunId]) -> dict[RunId, SignedUrl]:
        try:
            return dict(self._source.sign_many(batch))
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
                self._failures, self._silent_until = 0, 0.0
        if signed is not None:
            future.set_result(signature)
        return future
