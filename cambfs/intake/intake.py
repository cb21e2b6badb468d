"""One run in use, as its downloads see it: what it has of its result, and what they bring.

`content` holds the bytes, `waiters` the callers that wait, `interest` says how much they want, `demand` decides what to
fetch and `downloader` fetches it. The other side, which callers see, is `runs.run`.

Threads: transfers, probes, checks and uploads come in here, each in its own. One lock, that of `changed`, guards
everything; it is notified whenever a waiter might go on. Locks are taken in this order: a run's, the library's, the
cache's. No lock is held over a request or while waiting for a transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from threading import Condition, RLock
from typing import Protocol

from cambfs.errors import BrokenBody, CacheDamaged, CambfsError, NotWhole, ResultChanged
from cambfs.intake.content import Content
from cambfs.intake.demand import Demand
from cambfs.intake.interest import Interest
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.object_store import Probe, Tail
from cambfs.remote.source import Body
from cambfs.sizes.sizing import Sizing
from cambfs.tier.upload import Reach
from cambfs.transfers.context import Context
from cambfs.transfers.downloader import Downloader
from cambfs.transfers.transfer import Transfer
from cambfs.waiters import Waiters

# After one of these errors the downloaded bytes are discarded.
_WORTHLESS = (ResultChanged, CacheDamaged, NotWhole)


class Owner(Protocol):
    """The run. All but `lease` are called under its lock."""

    def lease(self) -> AbstractContextManager[object]:
        """The run is in use from now on, until the context is left."""

    def learn(self, info: RunInfo | None, is_unverified: bool) -> None:
        """The size is known, or (None) the size that was reported is wrong. `is_unverified`: only storage reported it,
        and storage was right about another run."""

    def detach(self, error: CambfsError) -> None:
        """The downloaded bytes are discarded. The next use of the run starts again."""

    def failed(self, error: CambfsError) -> None:
        """An attempt to fetch it has failed for good."""


class Intake:
    """`changed` guards the other attributes."""

    def __init__(
        self, run_id: RunId, context: Context, owner: Owner, info: RunInfo | None, is_unverified: bool
    ) -> None:
        self._id = run_id
        self._context = context
        self._owner = owner
        lock = RLock()
        self.changed = Condition(lock)  # guards all below
        sizing = Sizing(run_id, context.store, info, is_unverified)
        self.content = Content(run_id, context.cache, sizing, context.max_result_bytes)
        self.waiters = Waiters(lock, self.changed)
        self.interest = Interest(self.waiters, context.tuning)
        self.downloader = Downloader(run_id, context, self)
        self.demand = Demand(context, self.content, self.downloader)
        self._reported = info, is_unverified
        self._was_exceeded = False  # a response had more bytes than storage said

    # For the run, locked.

    def is_wanted(self) -> bool:
        """Whether to fetch more of the result."""
        return self.interest.is_wanted(self.content.size, self.content.filled.total)

    def judge(self) -> None:
        """New bytes or a probe may tell the size."""
        is_same = self.content.judge()
        if is_same:
            self._context.store.trust.prove()
        elif is_same is False:
            self._context.store.trust.distrust(self._id)
        self.tell()

    def tell(self) -> None:
        """Passes size and time on to the library."""
        sizing = self.content.sizing
        if not self.demand.is_time_to_come():
            sizing.settle_time()
        info = sizing.info
        reported = info, info is not None and sizing.is_unverified
        if reported != self._reported:
            self._reported = reported
            self._owner.learn(*reported)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether the bytes may be right. Of a run that has ended, its error tells."""
        return not isinstance(self.waiters.final_error, _WORTHLESS)

    # For the run, not locked.

    def stop_unwanted_ranges(self) -> None:
        """Ends ranges of which no more is wanted, also those that have stalled. A stream waits for a new reader."""
        with self.changed:
            unwanted = [] if self.is_wanted() else self.downloader.ranges()
        for transfer in unwanted:
            transfer.stop()

    def stop(self, error: CambfsError) -> None:
        """Ends its transfers soon. All waiting and later operations get the error."""
        with self.changed:
            self.waiters.end(error)
            size = self.content.size
            # A transfer that has brought the last byte may end by itself: then the result is kept.
            is_there = self.is_worth_keeping and size is not None and self.content.filled.covers(0, size)
            transfers = [] if is_there else self.downloader.transfers()
            self.changed.notify_all()
        for transfer in transfers:
            transfer.stop()

    def discard(self, error: CambfsError) -> None:
        """Discards the downloaded bytes. Reading open files raises the error; the next open starts again."""
        with self.changed:
            self._invalidate(error)
        self.stop(error)

    def _invalidate(self, error: CambfsError) -> None:
        """Locked."""
        self.waiters.end(error)
        self.content.invalidate()
        self._owner.detach(error)  # before a reader gets the error, and asks again

    # For transfers, in their threads.

    @property
    def is_awaited(self) -> bool:
        return self.interest.is_awaited

    @property
    def expected_bytes(self) -> int | None:
        return self.content.sizing.expected_bytes

    @property
    def has_waiters(self) -> bool:
        return len(self.waiters) > 0

    def lease(self) -> AbstractContextManager[object]:
        return self._owner.lease()

    def ranges(self) -> tuple[str | None, Probe | None]:
        with self.changed:
            # A response broke; perhaps storage can go on with it.
            self._await_storage(lambda: self.content.has_ranges or self.content.is_validated)
            return self.content.etag, self.content.sizing.stored_ranges

    def _await_storage(self, is_enough: Callable[[], bool]) -> None:
        wait_until = time.monotonic() + min(self._context.timeout_s, self._context.tuning.end_takes_s)
        for _ in range(2):  # the end of the object may be under way, and then all that storage knows is needed
            if not is_enough():
                self.demand.probe()
                self.changed.wait_for(self._is_probe_over, max(wait_until - time.monotonic(), 0.0))
                self.judge()

    def lost_ranges(self, *, of_api: bool) -> None:
        with self.changed:
            if of_api:
                self.content.forget_api_ranges()
            else:
                self.content.forget_ranges()

    def begin(self, body: Body) -> None:
        with self.changed:
            self.waiters.check()
            self.content.begin(body)
            if self.content.size is None or not self.content.sizing.is_time_told:
                self.demand.measure()
            self.tell()
            self.changed.notify_all()
            self.waiters.yield_to_readers()

    def receive(self, transfer: Transfer, position: int, data: bytes) -> bool:
        stop = position + len(data)
        with self.changed:
            if self.content.sizing.is_storage_exceeded_by(stop):
                self._note_exceeded()
            spool, known = self.content.place(position, len(data))
        self.content.write(spool, known, position, data)
        with self.changed:
            self.content.add(position, stop)
            if self.interest.is_next and self.interest.is_unasked:
                self._context.ahead_counts.received(self._id, len(data))
            self.judge()
            self.waiters.wake()
            self.waiters.yield_to_readers()
            return self._is_more_wanted(transfer, stop)

    def _note_exceeded(self) -> None:
        """The stream has more than storage said. Raises BrokenBody the first time, and the API is asked again, alone;
        NotWhole when its next response has more, too."""
        what = f"run {self._id}: storage said {self.content.size} bytes, and the stream has more"
        if self._was_exceeded:
            self._context.store.refute(self._id)
            raise NotWhole(what)
        self._was_exceeded = True
        self.content.forget_ranges()
        raise BrokenBody(what)

    def _is_more_wanted(self, transfer: Transfer, position: int) -> bool:
        if self.demand.is_comparing(transfer, position):
            return self.is_wanted()
        if self.demand.is_reached(transfer, position):
            return False
        if self.interest.is_next:
            transfer.note_wanted(self.interest.is_awaited)
        if not self.is_wanted() and self.interest.may_return and transfer is self.downloader.stream:
            self._linger(transfer)
        return self.is_wanted()

    def _linger(self, transfer: Transfer) -> None:
        transfer.note_wanted(False)
        self.changed.wait_for(lambda: self.is_wanted() or self.waiters.is_over, self._context.tuning.linger_s)
        transfer.note_wanted(True)

    def is_repeated(self) -> bool:
        """A stream that was only expected to be needed is not: a caller that needs it starts another one."""
        with self.changed:
            return not self.interest.disown_stream()

    def may_change_connection(self) -> bool:
        with self.changed:
            # Their bytes make the link look faster than the stream, and they fetch the rest already.
            if self.downloader.beside.has_begun:
                return False
            has_api_ranges = self.content.etag is not None and self._context.api.gives_ranges
            if not has_api_ranges and self.content.sizing.stored_ranges is None:
                self.demand.probe()
            return has_api_ranges or self.content.sizing.stored_ranges is not None

    def end(self, transfer: Transfer, position: int, body: Body) -> int | None:
        with self.changed:
            self._await_storage(lambda: not self.content.is_doubtful(position, body))
            if self.content.prove(position, body):
                self._note_end(position)
                return None
            if transfer is not self.downloader.stream:
                return None  # a range came to the end; whether it is one the stream will show
            try:
                return self.content.ask_again_from(position, body)
            except NotWhole:
                if self.content.sizing.stored_bytes not in (None, position):
                    self._context.store.refute(self._id)
                raise

    def _is_probe_over(self) -> bool:
        return not self.downloader.is_probing or self.waiters.is_over

    def _note_end(self, position: int) -> None:
        error = self.content.sizing.end(position)
        if isinstance(error, NotWhole):
            self._context.store.refute(self._id)
        if error is not None and self.interest.is_open:
            self._invalidate(error)  # at once: a reader that sees the new size would take it for the end
            raise error
        self.tell()
        self.changed.notify_all()

    def is_complete(self) -> bool:
        with self.changed:
            return self.content.is_complete

    def transfer_ended(self, transfer: Transfer, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        info = self._awaited_facts() if self._note_ended(transfer, error) else None
        if info is not None:
            self._context.commits.add(partial(self._commit, self.lease(), info))

    def _awaited_facts(self) -> RunInfo | None:
        """Those of a whole result. Storage has a moment to say when it was made."""
        with self.changed:
            takes_s = self._context.tuning.probe_takes_s
            self.changed.wait_for(lambda: self.waiters.is_over or not self.demand.is_time_to_come(), takes_s)
            self.content.sizing.settle_time()
            self.tell()
            return self.content.sizing.info

    def _commit(self, lease: AbstractContextManager[object], info: RunInfo) -> None:
        with lease:
            self.content.keep(info)

    def _note_ended(self, transfer: Transfer, error: CambfsError | None) -> bool:
        """Whether the result is whole now and should be kept."""
        with self.changed:
            self.changed.notify_all()
            may_storage_tell = self.downloader.may_storage_tell
            was_stream = self.downloader.forget(transfer, error)
            if was_stream and error is not None and not self.waiters.is_over:
                self._settle_time()  # a stat that waited for just that has its size
                if not self.interest.withhold(error, may_storage_tell=may_storage_tell):
                    self._fail(error)
            is_to_be_kept = self.is_worth_keeping and self.content.note_whole()
            if self.interest.is_open and error is None and not self.waiters.is_over:
                with suppress(CambfsError):  # the next read tries again and gets the error
                    self.demand.audio()
                    self.demand.ranges_beside()
            return is_to_be_kept

    def _settle_time(self) -> None:
        """The stream reports nothing more. Storage still may."""
        if not self.downloader.is_probing:
            self.content.sizing.settle_time()
            self.tell()

    # For a run that is shared with other machines, in the threads of its stream and its upload.

    def hear(self, info: RunInfo, proof: str) -> None:
        with self.changed:
            self.content.hear(info, proof)
            self.tell()
            self.changed.notify_all()

    def note_unshared(self) -> None:
        with self.changed:
            self.changed.notify_all()  # a caller may want storage to be asked
            with suppress(CambfsError):
                if not self.waiters.is_over:
                    self.demand.audio()  # and so may what is fetched ahead

    def reach(self, wait_s: float) -> Reach:
        with self.changed:
            self.changed.wait(wait_s)
            reach = self.content.reach()
            is_ended = self.downloader.stream is None and not (reach.proof and reach.info is None)
            is_over = self.waiters.is_over or self.downloader.is_idle or is_ended
            return replace(reach, is_over=is_over, is_wrong=not self.is_worth_keeping)

    def bytes_at(self, start: int, count: int) -> bytes:
        return self.content.spool.read(start, count)

    # For probes and checks, in their threads.

    def probe_ended(self, answer: Probe | Tail | None, error: CambfsError | None) -> None:
        with self.changed:
            self.downloader.forget_probe(answer is not None, error)
            if error is None:
                self.content.sizing.answered(answer)
                try:
                    self.judge()
                except CacheDamaged as damage:
                    error = damage
                if answer is not None and self.content.sizing.is_end_refuted and not self.waiters.is_over:
                    self.demand.probe()
            if answer is None and error is None:
                error = self.interest.take_withheld()
        self._note_worker_ended(error)

    def check_cached(self) -> None:
        def is_cancelled() -> bool:
            self.downloader.checked_at = time.monotonic()
            return self.waiters.is_over

        is_right = self.content.check(is_cancelled)
        with self.changed:
            self.content.checked(is_right)
            self.tell()

    def check_ended(self, error: CambfsError | None) -> None:
        with self.changed:
            self.downloader.forget_check()
        self._note_worker_ended(error)

    def _note_worker_ended(self, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        with self.changed:
            if error is not None and self.downloader.stream is None:
                self._fail(error)
            self.changed.notify_all()

    def _fail(self, error: CambfsError) -> None:
        """All waiting operations share this failure. The next one starts again."""
        self.waiters.fail(error)
        self._owner.failed(error)

    def _end_if_worthless(self, error: CambfsError | None) -> None:
        if isinstance(error, _WORTHLESS):
            self.discard(error)
