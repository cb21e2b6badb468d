"""The downloads of one run: its stream, its ranges, its probe, and the check of its cached file. Starts and ends them.

Not which of them are needed (`demand`), nor where the bytes go (`run`). Threads: each transfer, probe and check works
in a thread of its own, holds a lease of the run, and calls the run's public methods. The run's lock guards everything
here: hold it for the methods below "Locked".
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from cambfs.errors import BadResponse, CambfsError, Closing, RateLimited, RemoteError, StorageUseless, TooLarge
from cambfs.names import RunId
from cambfs.remote.object_store import Probe
from cambfs.remote.source import Body
from cambfs.transfers.context import Context
from cambfs.transfers.parallel import PIECES, Split, pieces
from cambfs.transfers.transfer import Owner as TransferOwner
from cambfs.transfers.transfer import Transfer

log = logging.getLogger(__name__)

_MOST_SPANS = 2
# Where storage goes on with a stream, so much of it is compared: the result may have changed behind its head.
_OVERLAP_BYTES = 4096


class _NoRange(Exception):
    """The API or storage does not give the range now. The text says why."""


class Owner(TransferOwner, Protocol):
    """The run that is fetched."""

    def lease(self) -> AbstractContextManager[object]:
        """The run is in use from now on, until the context is left."""

    def ranges(self) -> tuple[str | None, Probe | None]:
        """Where ranges of this very result are available: the validator for the API's, the probe for storage's."""

    def lost_ranges(self, *, of_api: bool) -> None:
        """The API gives no ranges after all; or, unless `of_api`, neither source does."""

    def transfer_ended(self, transfer: Transfer, error: CambfsError | None) -> None: ...

    def probe_ended(self, probe: Probe | None, error: CambfsError | None) -> None:
        """`probe` is None where storage has no response; `error` is why the result is not available at all."""

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
        self._is_wanted = True
        self.is_probing = False
        self.checked_at = 0.0
        self._probe_began_at = -math.inf
        self._probe_failed = False
        self._is_checking = False
        self._spans: list[Transfer] = []
        self._spans_fail = False
        self._pieces: list[Transfer] = []  # those of the spans that bring a rest in parallel
        self._split: Split | None = None
        self._stored_from: int | None = None  # where the stream's last range from storage began

    # Locked.

    def transfers(self) -> list[Transfer]:
        return [*self._spans, self.stream] if self.stream is not None else list(self._spans)

    def progress_at(self) -> float:
        return max([self.checked_at, *(transfer.progress_at for transfer in self.transfers())])

    def note_wanted(self, is_wanted: bool) -> None:
        """Whether a caller wants the result, or it is fetched ahead."""
        self._is_wanted = is_wanted
        for transfer in self.transfers():
            transfer.note_wanted(is_wanted)

    def withdraw(self) -> None:
        """What was fetched ahead is not wanted any more."""
        for transfer in self.transfers():
            transfer.withdraw()

    def start_stream(self, start: int) -> None:
        """From `start` to the end. Does nothing when there is a stream."""
        if self.stream is None:
            self.stream = self._start(f"stream-{self._id}", self._open_stream, start, None)

    def start_span(self, offset: int, stop: int | None) -> None:
        """Does nothing when the bytes at `offset` are about to come, two ranges are being fetched beside the pieces, or
        a range has failed before."""
        spans = [span for span in self._spans if span not in self._pieces]
        if self._spans_fail or len(spans) >= _MOST_SPANS:
            return
        if any(self._is_about_to_bring(span, offset) for span in self._spans):
            return
        open_at = partial(self._open_span, stop=stop)
        self._spans.append(self._start(f"range-{self._id}-{offset}", open_at, offset, stop))

    def _is_about_to_bring(self, span: Transfer, offset: int) -> bool:
        """A piece may be so long that a place in it is far."""
        is_near = span not in self._pieces or not self._is_far_from(span.position, offset)
        return is_near and span.first_position <= offset < (span.stop_position or offset + 1)

    def are_pieces_worth(self, count: int) -> bool:
        """Whether the bytes that the stream brings next, so many, come faster as ranges."""
        stream, context = self.stream, self._context
        if stream is None or stream.begin_at is None or self._spans or self._spans_fail:
            return False
        is_free = context.speculation.is_allowed and context.slots.room >= PIECES - 1
        return is_free and context.parallel.is_worth(count, stream.bytes_per_s)

    def start_pieces(self, start: int, stop: int) -> None:
        """Of the bytes that the stream brings next, from `start` to `stop`."""
        assert self.stream is not None, "the first of them is the stream's"
        self._context.parallel.spend(stop - start)
        self._split = Split(self.stream.position, self.stream.bytes_per_s, time.monotonic())
        for first, end in pieces(start, stop):
            self._start_piece(first, end)

    def share_pieces(self) -> None:
        """Where one of the connections has done its part, another one takes half of the largest part that is left."""
        if not self._pieces or len(self.transfers()) >= PIECES or self._spans_fail:
            return
        slowest = max(self._pieces, key=_missing)
        if self._context.parallel.is_shared(_missing(slowest)):
            end = slowest.stop_position or 0
            slowest.stop_position = end - _missing(slowest) // 2
            self._start_piece(slowest.stop_position, end)

    def _start_piece(self, start: int, stop: int) -> None:
        open_at = partial(self._open_span, stop=stop)
        self._pieces.append(self._start(f"range-{self._id}-{start}", open_at, start, stop))
        self._spans.append(self._pieces[-1])

    def is_in_pieces(self, offset: int) -> bool:
        """Whether one of the pieces brings the byte, and has not stalled."""
        since = time.monotonic() - self._context.tuning.stalled_after_s
        lively = [one for one in self._pieces if one.brought_at > since]
        return any(one.first_position <= offset < (one.stop_position or 0) for one in lively)

    def start_probe(self) -> None:
        """Does nothing when storage had no response before, or is not usable."""
        if self.is_probing or self._probe_failed or not self._context.store.usable:
            return
        try:
            self._work(f"size-{self._id}", self._run_probe)
            self.is_probing = True
            self._probe_began_at = time.monotonic()
        except CambfsError as error:
            log.warning("run %d: storage cannot be asked: %s", self._id, error)
            self._probe_failed = True

    @property
    def is_probe_recent(self) -> bool:
        """Storage was asked so short a time ago that it is worth waiting for what it says."""
        takes_s = min(self._context.tuning.probe_takes_s, self._context.timeout_s / 2)  # some time is left then
        return time.monotonic() - self._probe_began_at <= takes_s

    @property
    def is_probe_slow(self) -> bool:
        return self.is_probing and not self.is_probe_recent

    def start_check(self) -> None:
        """Of the cached file. Does nothing while a check is under way."""
        if not self._is_checking:
            self._work(f"check-{self._id}", self._run_check)
            self._is_checking = True

    def is_far(self, offset: int) -> bool:
        """Whether the stream takes too long to reach `offset`, or has left it to the pieces."""
        stream = self.stream
        if stream is None or stream.begin_at is None:
            return stream is None and bool(self._pieces)
        self._learn_rate(stream, stream.begin_at)
        return self._is_far_from(stream.position, offset)

    def _is_far_from(self, position: int, offset: int) -> bool:
        ahead, tuning, bytes_per_s = offset - position, self._context.tuning, self._context.api.bytes_per_s
        return ahead >= tuning.far_bytes and bytes_per_s is not None and ahead > tuning.far_s * bytes_per_s

    def seconds_for(self, count: int) -> float:
        """How long the stream takes for so many bytes; 0 while no rate is known. Without the lock."""
        stream, bytes_per_s = self.stream, self._context.api.bytes_per_s
        if stream is not None and stream.begin_at is not None:
            is_shown = time.monotonic() - stream.begin_at > self._context.tuning.rate_after_s
            bytes_per_s = stream.bytes_per_s if is_shown else bytes_per_s
        return count / bytes_per_s if bytes_per_s else 0.0

    def _learn_rate(self, stream: Transfer, begin_at: float) -> None:
        streaming_s = time.monotonic() - begin_at
        if streaming_s > self._context.tuning.rate_after_s:
            self._context.api.bytes_per_s = stream.bytes_per_s

    def forget(self, transfer: Transfer, error: CambfsError | None) -> bool:
        """A transfer has ended. Returns whether it was the stream."""
        self._judge_split()
        if transfer is not self.stream:
            self._spans.remove(transfer)
            self._pieces = [one for one in self._pieces if one is not transfer]
            self._spans_fail = self._spans_fail or error is not None
            return False
        if transfer.begin_at is not None:
            self._learn_rate(transfer, transfer.begin_at)
        self.stream = self._stored_from = None
        if error is not None:
            self._probe_failed = False
        return True

    def _judge_split(self) -> None:
        split, self._split = self._split, None
        if split is not None and self.stream is not None:
            self._context.parallel.judge(split, self.stream.position)

    def forget_probe(self, is_known: bool, error: CambfsError | None) -> None:
        """A probe has ended."""
        self.is_probing = False
        self._probe_failed = not is_known and (error is None or self.stream is not None)

    def forget_check(self) -> None:
        self._is_checking = False

    def _start(self, name: str, open_at: Callable[[int], Body], start: int, stop: int | None) -> Transfer:
        transfer = Transfer(name, self._owner, open_at, self._context.slots, self._context.timeout_s, start, stop)
        transfer.note_wanted(self._is_wanted)
        self._work(name, partial(self._run_transfer, transfer))
        return transfer

    def _work(self, name: str, work: Callable[[], None]) -> None:
        lease = self._owner.lease()

        def work_with_lease() -> None:
            with lease:
                work()

        try:
            self._context.workers.start(name, work_with_lease)
        except CambfsError:
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

    def _run_probe(self) -> None:
        probe: Probe | None = None

        def ask() -> None:
            nonlocal probe
            try:
                probe = self._context.store.probe(self._id)
            except Closing:
                raise
            except CambfsError as error:  # also when the API does not sign: the stream may work
                log.debug("run %d: storage does not report the size: %s", self._id, error)
            if probe is not None and probe.total > self._context.max_result_bytes:
                raise TooLarge(f"run {self._id}: the result is larger than {self._context.max_result_bytes} bytes")

        error = self._error_of(ask)
        self._owner.probe_ended(probe, error)

    def _open_stream(self, position: int) -> Body:
        if not self._is_wanted and not self._context.speculation.is_allowed:  # since it began to pause
            raise RateLimited(f"run {self._id}: not fetched ahead of a busy API", 429)
        stored_from, self._stored_from = self._stored_from, None
        if stored_from is not None and position - stored_from < self._context.tuning.stored_worth_bytes:
            self._owner.lost_ranges(of_api=False)  # storage broke off, too: back to the API
        body = self._open_range(position, overlap=_OVERLAP_BYTES) if position > 0 else None
        if body is not None and body.is_stored:
            self._stored_from = position
        if body is None:
            self._context.parallel.earn()
            body = self._context.source.open_stream(self._id)
            self._context.api.stream_has_length = body.total is not None
            self._context.api.stream_tells_time = body.modified_s is not None
        return body

    def _open_span(self, position: int, stop: int | None) -> Body:
        body = self._open_range(position, stop)
        if body is not None and body.start == position:
            return body
        if body is not None:
            body.close()
        raise BadResponse(f"run {self._id}: ranges of it are no longer available", 200)

    def _open_range(self, position: int, stop: int | None = None, *, overlap: int = 0) -> Body | None:
        """From the API or from storage; None where neither gives ranges. A source that fails is not asked again.
        Storage's range begins `overlap` bytes earlier."""
        etag, probe = self._owner.ranges()
        try:
            if etag is not None:
                return self._open_api_range(position, etag)
            if probe is not None:
                return self._open_stored_range(probe, max(position - overlap, 0), stop)
        except _NoRange as error:
            log.info("run %d: no range of it: %s", self._id, error)
            self._owner.lost_ranges(of_api=False)
        return None

    def _open_api_range(self, position: int, etag: str) -> Body:
        try:
            body = self._context.source.open_stream(self._id, position, etag)
        except BadResponse as error:
            raise _NoRange(str(error)) from None
        if body.start != position:
            self._owner.lost_ranges(of_api=True)
        return body

    def _open_stored_range(self, probe: Probe, start: int, stop: int | None) -> Body:
        try:
            return self._context.store.open(self._id, probe, start, stop)
        except (RemoteError, StorageUseless) as error:
            raise _NoRange(str(error)) from None


def _missing(piece: Transfer) -> int:
    return (piece.stop_position or 0) - piece.position
