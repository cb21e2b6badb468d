"""The downloads of one run: its stream, its ranges, its probe, and the check of its cached file. Starts and ends them.

`demand` decides which of them are needed, `responses` knows where the bytes come from, `intake` where they go. Threads:
each transfer, probe and check works in a thread of its own, holds a lease of the run, and calls the intake's public
methods. The run's lock guards everything here: hold it for the methods below "Locked".
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from cambfs.errors import CambfsError, Closing, NotRepeated, RateLimited, TooLarge
from cambfs.names import RunId
from cambfs.remote.object_store import Probe, Tail
from cambfs.remote.source import Body
from cambfs.spans.beside import Beside
from cambfs.transfers.context import Context
from cambfs.transfers.responses import Owner as RangesOwner
from cambfs.transfers.responses import Responses
from cambfs.transfers.sharing import Owner as SharingOwner
from cambfs.transfers.sharing import Sharing
from cambfs.transfers.transfer import Owner as TransferOwner
from cambfs.transfers.transfer import Transfer

log = logging.getLogger(__name__)

_MOST_SPANS = 2

# One of the requests of `ObjectStore`.
Ask = Callable[[RunId, Callable[[], bool]], Probe | Tail]


class Owner(TransferOwner, RangesOwner, SharingOwner, Protocol):
    """The run that is fetched."""

    @property
    def is_awaited(self) -> bool:
        """Whether it is open, or a caller waits for it. Without the lock."""

    def lease(self) -> AbstractContextManager[object]:
        """The run is in use from now on, until the context is left."""

    def transfer_ended(self, transfer: Transfer, error: CambfsError | None) -> None: ...

    def probe_ended(self, answer: Probe | Tail | None, error: CambfsError | None) -> None:
        """`answer` is None where storage has no response; `error` is why the result is not available at all."""

    def check_cached(self) -> None:
        """Compares the cached file with its checksum. Raises CambfsError when that is interrupted."""

    def check_ended(self, error: CambfsError | None) -> None: ...


class Downloader:
    """Methods that start a thread raise CambfsError when none is available. `checked_at` is when the check last made
    progress, in time.monotonic seconds."""

    def __init__(self, run_id: RunId, context: Context, owner: Owner) -> None:
        self._id = run_id
        self._context = context
        self._owner = owner
        self.stream: Transfer | None = None
        self._stream_wanted_at = -math.inf
        self._is_wanted = True
        self.is_probing = False
        self.checked_at = 0.0
        self._probe_began_at = -math.inf
        self._probe_failed = False
        self._is_probe_put_off = False  # its request failed while no caller waited; the next caller asks again
        self._is_checking = False
        self._spans: list[Transfer] = []
        self._spans_fail = False
        self.beside = Beside(self._start_beside)
        self._sharing = self._new_sharing() if context.shared is not None else None
        self._responses = Responses(run_id, context, owner, self._sharing)

    def _new_sharing(self) -> Sharing:
        context = self._context
        assert context.shared is not None, "only with a shared tier"
        takes_s = context.tuning.probe_takes_s, context.timeout_s / 2  # some time is left then
        return Sharing(self._id, context.shared, context.closing, *takes_s, context.api, self._owner, self._work)

    # Locked.

    def transfers(self) -> list[Transfer]:
        return [*self.ranges(), self.stream] if self.stream is not None else self.ranges()

    def ranges(self) -> list[Transfer]:
        return [*self._spans, *self.beside]

    def progress_at(self) -> float:
        return max([self.checked_at, *(transfer.progress_at for transfer in self.transfers())])

    def note_wanted(self, is_wanted: bool) -> None:
        """`is_wanted` is false while the result is only fetched ahead."""
        if is_wanted and not self._is_wanted:
            self._stream_wanted_at = time.monotonic()
        self._is_wanted = is_wanted
        for transfer in self.transfers():
            transfer.note_wanted(is_wanted)

    def withdraw(self) -> None:
        """The result is not fetched ahead any more."""
        for transfer in self.transfers():
            transfer.withdraw()

    def start_stream(self, start: int) -> None:
        """From `start` to the end. Does nothing when there is a stream."""
        if self.stream is None:
            if self._sharing is not None:
                self._sharing.expect()
            self._stream_wanted_at = time.monotonic()
            self.stream = self._start(f"stream-{self._id}", self._open_stream, start, None)

    def start_span(self, offset: int, stop: int | None) -> None:
        """Does nothing when the bytes at `offset` are on their way, two other ranges are being fetched, or a range has
        failed before."""
        if self._spans_fail or len(self._spans) >= _MOST_SPANS:
            return
        going = [span for span in self._spans if not span.stopping]
        if any(span.first_position <= offset < (span.stop_position or offset + 1) for span in going):
            return
        open_at = partial(self._responses.open_range, stop=stop)
        self._spans.append(self._start(f"range-{self._id}-{offset}", open_at, offset, stop))

    def _start_beside(self, start: int, stop: int | None) -> Transfer:
        open_at = self._responses.opener_beside(stop)
        return self._start(f"beside-{self._id}-{start}", open_at, start, stop)

    def start_probe(self, ask: Ask) -> None:
        """Does nothing when storage is being asked, had no response before, or is not usable."""
        if self.is_probing or self._probe_failed or not self._context.store.trust.usable:
            return
        try:
            self._work(f"size-{self._id}", partial(self._run_probe, ask))
            self.is_probing = True
            self._probe_began_at = time.monotonic()
        except CambfsError as error:
            log.warning("run %d: storage cannot be asked: %s", self._id, error)
            self._probe_failed = True

    @property
    def is_header_to_come(self) -> bool:
        """The first response of a stream is worth waiting for."""
        if self.stream is None or self.stream.begin_at is not None:
            return False
        takes_s = min(self._context.tuning.header_takes_s, self._context.timeout_s / 2)
        return time.monotonic() - self._stream_wanted_at <= takes_s

    @property
    def may_storage_tell(self) -> bool:
        """Storage may tell the size without a stream."""
        store = self._context.store
        return store.trust.proven and (self.is_probing or (store.trust.usable and not self._probe_failed))

    @property
    def is_probe_recent(self) -> bool:
        """Storage was asked so recently that it is worth waiting for its response."""
        takes_s = min(self._context.tuning.probe_takes_s, self._context.timeout_s / 2)  # some time is left then
        return time.monotonic() - self._probe_began_at <= takes_s

    @property
    def is_probe_slow(self) -> bool:
        return self.is_probing and not self.is_probe_recent

    @property
    def is_size_to_come(self) -> bool:
        """Another machine, which fetches the result, may be about to tell its size and time."""
        return self._sharing is not None and self._sharing.is_size_to_come

    @property
    def is_idle(self) -> bool:
        """The stream lingers, or pauses behind callers, and another machine could go on with it."""
        if self.stream is None or self.stream.is_wanted:
            return False
        return time.monotonic() - self.stream.received_at > self._context.tuning.leads_idle_s

    def start_check(self) -> None:
        """Of the cached file. Does nothing while a check is under way."""
        if not self._is_checking:
            self._work(f"check-{self._id}", self._run_check)
            self._is_checking = True

    @property
    def has_link_alone(self) -> bool:
        """Whether transfers beside the stream take nothing from others: no other result is fetched for callers, and no
        range for a reader elsewhere in this one; no server is busy; and no other machine sends the stream."""
        if self.stream is None or self.stream.is_shared or self._spans:
            return False
        return self._context.speculation.is_allowed and self._context.slots.is_left_to(1 + len(self.beside))

    def is_far(self, offset: int) -> bool:
        """Whether the stream takes too long to reach `offset`."""
        stream, tuning = self.stream, self._context.tuning
        if stream is None or stream.begin_at is None:
            return False
        ahead, bytes_per_s = offset - stream.position, self._learn_rate(stream, stream.begin_at)
        return ahead >= tuning.far_bytes and bytes_per_s is not None and ahead > tuning.far_s * bytes_per_s

    def _learn_rate(self, stream: Transfer, begin_at: float) -> float | None:
        """Of the stream, or of an earlier one while it is too young; None when that is not known either."""
        if time.monotonic() - begin_at <= self._context.tuning.rate_after_s:
            return self._context.api.bytes_per_s
        if not stream.is_shared:
            self._context.api.bytes_per_s = stream.bytes_per_s
        return stream.bytes_per_s

    def forget(self, transfer: Transfer, error: CambfsError | None) -> bool:
        """A transfer has ended. Returns whether it was the stream."""
        if transfer in self.beside:
            self.beside.forget(transfer, error)
            return False
        if transfer is not self.stream:
            self._spans.remove(transfer)
            self._spans_fail = self._spans_fail or (error is not None and not transfer.stopping)
            return False
        if transfer.begin_at is not None:
            self._learn_rate(transfer, transfer.begin_at)
        self.stream = None
        if self._sharing is not None:
            self._sharing.end()
        self._responses.forget_stream()
        if error is not None:
            self._probe_failed = False
        return True

    def forget_probe(self, is_known: bool, error: CambfsError | None) -> None:
        """A probe has ended."""
        self.is_probing = False
        is_failure = error is None or self.stream is not None
        self._probe_failed = is_failure and not (is_known or self._is_probe_put_off)

    def forget_check(self) -> None:
        self._is_checking = False

    def _start(self, name: str, open_at: Callable[[int], Body], start: int, stop: int | None) -> Transfer:
        transfer = Transfer(name, self._owner, open_at, self._context.slots, self._context.timeout_s, start, stop)
        transfer.note_wanted(self._is_wanted)
        self._context.slots.join(transfer)
        try:
            self._work(name, partial(self._run_transfer, transfer))
        except BaseException:  # a place that stays behind would hold up the transfers of all runs
            self._context.slots.leave(transfer)
            raise
        return transfer

    def _work(self, name: str, work: Callable[[], None]) -> None:
        lease = self._owner.lease()

        def work_with_lease() -> None:
            with lease:
                work()

        try:
            self._context.workers.start(name, work_with_lease)
        except BaseException:
            with lease:
                raise

    # In the threads of transfers, probes and checks, not locked.

    def _run_transfer(self, transfer: Transfer) -> None:
        self._owner.transfer_ended(transfer, self._error_of(transfer.pull))

    def _run_check(self) -> None:
        self._owner.check_ended(self._error_of(self._owner.check_cached))

    def _error_of(self, work: Callable[[], None]) -> CambfsError | None:
        try:
            work()
        except CambfsError as error:
            return error
        except Exception:
            log.exception("unexpected error in run %d", self._id)
            return CambfsError("an internal error, see the log")
        return None

    def _run_probe(self, ask: Ask) -> None:
        answer: Probe | Tail | None = None

        def probe() -> None:
            nonlocal answer
            try:
                self._is_probe_put_off = False
                answer = ask(self._id, lambda: self._owner.is_awaited)
            except Closing:
                raise
            except NotRepeated:
                self._is_probe_put_off = True
            except CambfsError as error:  # also when the API does not sign: the stream may work
                log.debug("run %d: storage does not report the size: %s", self._id, error)
            if answer is not None and answer.total > self._context.max_result_bytes:
                raise TooLarge(f"run {self._id}: the result is larger than {self._context.max_result_bytes} bytes")

        error = self._error_of(probe)
        self._owner.probe_ended(answer, error)

    def _open_stream(self, position: int) -> Body:
        if not self._is_wanted and not self._context.speculation.is_allowed:  # since it began to pause
            raise RateLimited(f"run {self._id}: not fetched ahead of a busy API", 429)
        return self._responses.open_stream(position)
