"""One run in use: its readers, its bytes, and the downloads that bring them. All users of a run share one object.

`content` holds the bytes, `waiters` the callers that wait, `demand` decides what to fetch and `downloader` fetches it.

Threads: callers wait for bytes or the size. Transfers, probes and checks bring both, in threads of their own. One lock,
that of `_changed`, guards everything here; it is notified whenever a waiter might go on. Locks are taken in this order:
a run's, the library's, the cache's. No lock is held over a request or while waiting for a transfer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Condition, RLock
from typing import Protocol, TypeVar

from cambfs.deadline import Deadline
from cambfs.errors import BrokenBody, CacheDamaged, CambfsError, NotWhole, ResultChanged
from cambfs.intake.content import Content
from cambfs.intake.demand import Demand
from cambfs.intake.interest import Interest
from cambfs.model import Arrived, Progress, RunInfo
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

T = TypeVar("T")


class Owner(Protocol):
    """What a run needs from the library."""

    def lease(self, run: Run) -> AbstractContextManager[object]:
        """The run is in use from now on, until the context is left."""

    def learn(self, run_id: RunId, info: RunInfo | None, is_unverified: bool) -> None:
        """The size is known, or (None) the size that was reported is wrong. `is_unverified`: only storage reported it,
        and storage was right about another run."""

    def detach(self, run: Run, error: CambfsError) -> None:
        """The downloaded bytes are discarded. The next use of the run starts again."""

    def failed(self, run: Run, error: CambfsError) -> None:
        """An attempt to fetch it has failed for good."""


class Run:
    """`users` belongs to the library and is guarded by its lock."""

    def __init__(
        self, run_id: RunId, context: Context, owner: Owner, info: RunInfo | None, is_unverified: bool
    ) -> None:
        self.id = run_id
        self.users = 0
        self._context = context
        self._owner = owner
        lock = RLock()
        self._changed = Condition(lock)  # guards all below
        sizing = Sizing(run_id, context.store, info, is_unverified)
        self._content = Content(run_id, context.cache, sizing, context.max_result_bytes)
        self._waiters = Waiters(lock, self._changed)
        self._interest = Interest(self._waiters, context.tuning)
        self._downloader = Downloader(run_id, context, self)
        self._demand = Demand(context, self._content, self._downloader)
        self._reported = info, is_unverified
        self._was_exceeded = False  # a response had more bytes than storage said

    # For callers, each in its own thread.

    def info(self, deadline: Deadline) -> RunInfo:
        """Waits for the exact size and the time. Raises CambfsError."""
        return self._wait(deadline, lambda: self._content.sizing.info, self._demand.size)

    def head(self, deadline: Deadline) -> bytes:
        """Waits for the first HEAD_BYTES, or all of a shorter result. Raises CambfsError."""
        return self._wait(deadline, lambda: self._content.head or None, self._demand.head)

    def arrived(self) -> Arrived:
        with self._changed:
            return self._content.arrived()

    def progress(self) -> Progress | None:
        """None when nothing of it is being downloaded."""
        with self._changed:
            transfers = self._downloader.transfers()
            if not transfers:
                return None
            bytes_per_s = sum(transfer.bytes_per_s for transfer in transfers)
            return Progress(self.id, self._content.filled.total, self._content.size, bytes_per_s)

    def want_probe(self) -> None:
        """Asks storage for the size if that may help. Does not wait."""
        with self._changed:
            if not self._is_over:
                self._demand.measure()

    def fetch_ahead(self, most_bytes: int) -> None:
        """Fetches a result of at most `most_bytes` before it is opened, behind everything that callers wait for. Does
        not wait. The bytes are kept only if the result is complete or was opened. Raises CambfsError."""
        with self._changed:
            if self._may_guess():
                self._interest.guess_next(most_bytes, is_begun=self._content.is_begun)
                self._downloader.note_wanted(bool(self._waiters))
                self._demand.stream()

    def expect_open(self) -> None:
        """A caller that asks for the size is likely to open the result next: its audio is requested now. Does not
        wait. The stream ends soon unless it is opened. Raises CambfsError."""
        with self._changed:
            if self._may_guess():
                has_stream = self._downloader.stream is not None
                self._interest.guess_open(is_begun=self._content.is_begun, has_stream=has_stream)
                self._demand.audio()

    def _may_guess(self) -> bool:
        self._content.load()
        is_ready = self._content.is_whole or self._content.must_be_checked
        return not (is_ready or self._interest.is_open or self._is_over)

    def stop_ahead(self) -> None:
        """No open is expected any more."""
        with self._changed:
            self._interest.drop_next()
            if not self._is_wanted():
                self._downloader.withdraw()
            self._changed.notify_all()

    def note_in_sequence(self) -> None:
        """Its reader opens one result after the other. Without the lock."""
        self._interest.note_in_sequence()

    @property
    def is_pressing(self) -> bool:
        """Whether transfers ahead pause while a caller waits for this run. Without the lock, so it may be late."""
        size = self._content.size
        missing_bytes = 0 if size is None else size - self._content.filled.total
        return self._interest.is_pressing(missing_bytes, self._context.slots.link.bytes_per_s)

    @property
    def known_size(self) -> int | None:
        """Without the lock."""
        return self._content.size

    @property
    def is_open(self) -> bool:
        """Without the lock."""
        return self._interest.is_open

    @property
    def is_awaited(self) -> bool:
        return self._interest.is_awaited

    def open(self, deadline: Deadline) -> None:
        """Adds a handle as soon as the first audio or its headers are here. Raises CambfsError, and adds none."""
        with self._changed:
            was_open = self._interest.is_open
            self._interest.add_handle()
            if not was_open:
                self._changed.notify_all()  # a transfer may linger because the run was not open
        try:
            self._wait(deadline, lambda: self._content.is_begun or None, self._demand.audio)
            with self._changed:
                if not self._is_over:
                    self._demand.audio()
        except BaseException:
            self.close_handle()
            raise

    def is_unchanged(self) -> bool:
        """Whether the cached file with its bytes, if there is one, is unchanged. If not, the run ends and the next use
        starts again."""
        with self._changed:
            spool = self._content.kept_spool
        try:
            with self._worthless_if_damaged():
                if spool is not None:
                    spool.check_unchanged()  # not locked: it may read all of the file
        except CacheDamaged:
            return False
        return True

    def close_handle(self) -> None:
        with self._changed:
            self._interest.remove_handle()

    @property
    def _is_over(self) -> bool:
        return self._waiters.final_error is not None

    @property
    def generation(self) -> int:
        """Of an open run. It changes when the bytes do."""
        with self._changed:
            return self._content.spool.generation

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """Fills the buffer and returns the number of bytes: fewer than fit only at the end of the result, 0 beyond it.
        Raises CambfsError rather than return less; the content of the buffer is undefined then."""
        wanted = offset + len(buffer)
        # A complete result stays complete: most reads take no lock.
        stop = None if self._is_over else self._content.stop_if_whole(wanted)
        if stop is None:
            stop = self._wait(
                deadline,
                lambda: self._content.stop_if_there(offset, wanted),
                lambda: self._demand.bytes(offset, wanted),
            )
        if stop <= offset:
            return 0
        with self._worthless_if_damaged():
            self._content.spool.readinto(offset, buffer[: stop - offset])
        return stop - offset

    def check(self) -> None:
        """Raises the error that has ended the run, as `readinto` does. Without the lock."""
        self._waiters.check()

    def retire(self) -> None:
        """Called once, after the last use. The downloaded bytes go to the cache."""
        self._demand.end()
        if self._is_worth_keeping() and (self._content.is_whole or not self._interest.is_unasked):
            self._content.release()
        else:
            self._content.discard()

    def _is_worth_keeping(self) -> bool:
        return not isinstance(self._waiters.final_error, _WORTHLESS)

    def unlink(self) -> None:
        """Removes the temporary name of its bytes, if they have one."""
        with self._changed:
            self._content.unlink()

    def stop(self, error: CambfsError) -> None:
        """Ends its transfers soon. All waiting and later operations get the error."""
        with self._changed:
            self._waiters.end(error)
            size = self._content.size
            # A transfer that has brought the last byte may end by itself: then the result is kept.
            is_there = self._is_worth_keeping() and size is not None and self._content.filled.covers(0, size)
            transfers = [] if is_there else self._downloader.transfers()
            self._changed.notify_all()
        for transfer in transfers:
            transfer.stop()

    def _wait(self, deadline: Deadline, ready: Callable[[], T | None], want: Callable[[], None]) -> T:
        with self._worthless_if_damaged(), self._context.slots.foreground.waiting(self), self._changed:
            self._content.load()
            self._tell()
            self._downloader.note_wanted(True)
            return self._waiters.wait(deadline, ready, lambda: self._check_or(want), self._downloader.progress_at)

    @contextmanager
    def _worthless_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except CacheDamaged as damage:
            self._end(damage)
            raise

    def _check_or(self, want: Callable[[], None]) -> None:
        """A cached file may have to be checked before anything is fetched."""
        if self._content.must_be_checked:
            self._downloader.start_check()
        else:
            self._judge()  # storage may have been proven since, by another run
            want()

    # Sizes. Locked.

    def _judge(self) -> None:
        """New bytes or a probe may tell the size."""
        is_same = self._content.judge()
        if is_same:
            self._context.store.prove()
        elif is_same is False:
            self._context.store.distrust(self.id)
        self._tell()

    def _tell(self) -> None:
        """Passes size and time on to the library."""
        sizing = self._content.sizing
        if not self._demand.is_time_to_come():
            sizing.settle_time()
        info = sizing.info
        reported = info, info is not None and sizing.is_unverified
        if reported != self._reported:
            self._reported = reported
            self._owner.learn(self.id, *reported)

    def _settle_time(self) -> None:
        """The stream reports nothing more. Storage still may."""
        if not self._downloader.is_probing:
            self._content.sizing.settle_time()
            self._tell()

    # For transfers, in their threads.

    def lease(self) -> AbstractContextManager[object]:
        return self._owner.lease(self)

    def ranges(self) -> tuple[str | None, Probe | None]:
        with self._changed:
            # A response broke; perhaps storage can go on with it.
            self._await_storage(lambda: self._content.has_ranges or self._content.is_validated)
            return self._content.etag, self._content.sizing.stored_ranges

    def _await_storage(self, is_enough: Callable[[], bool]) -> None:
        wait_until = time.monotonic() + min(self._context.timeout_s, self._context.tuning.end_takes_s)
        for _ in range(2):  # the end of the object may be under way, and then all that storage knows is needed
            if not is_enough():
                self._demand.probe()
                self._changed.wait_for(self._is_probe_over, max(wait_until - time.monotonic(), 0.0))
                self._judge()

    def lost_ranges(self, *, of_api: bool) -> None:
        with self._changed:
            if of_api:
                self._content.forget_api_ranges()
            else:
                self._content.forget_ranges()

    def begin(self, body: Body) -> None:
        with self._changed:
            self._waiters.check()
            self._content.begin(body)
            if self._content.size is None or not self._content.sizing.is_time_told:
                self._demand.measure()
            self._tell()
            self._changed.notify_all()
            self._waiters.yield_to_readers()

    def receive(self, transfer: Transfer, position: int, data: bytes) -> bool:
        stop = position + len(data)
        with self._changed:
            if self._content.sizing.is_storage_exceeded_by(stop):
                self._note_exceeded()
            spool, known = self._content.place(position, len(data))
        self._content.write(spool, known, position, data)
        with self._changed:
            self._content.add(position, stop)
            if self._interest.is_next and self._interest.is_unasked:
                self._context.ahead_counts.received(self.id, len(data))
            self._judge()
            self._waiters.wake()
            self._waiters.yield_to_readers()
            return self._is_more_wanted(transfer, stop)

    def _note_exceeded(self) -> None:
        """The stream has more than storage said. Raises BrokenBody the first time, and the API is asked again, alone;
        NotWhole when its next response has more, too."""
        what = f"run {self.id}: storage said {self._content.size} bytes, and the stream has more"
        if self._was_exceeded:
            self._context.store.refute(self.id)
            raise NotWhole(what)
        self._was_exceeded = True
        self._content.forget_ranges()
        raise BrokenBody(what)

    def _is_more_wanted(self, transfer: Transfer, position: int) -> bool:
        if self._demand.is_comparing(transfer, position):
            return self._is_wanted()
        if self._demand.is_reached(transfer, position):
            return False
        if self._interest.is_next:
            transfer.note_wanted(self._interest.is_awaited)
        if not self._is_wanted() and self._interest.may_return:
            self._linger(transfer)
        return self._is_wanted()

    def _linger(self, transfer: Transfer) -> None:
        transfer.note_wanted(False)
        self._changed.wait_for(lambda: self._is_wanted() or self._is_over, self._context.tuning.linger_s)
        transfer.note_wanted(True)

    def _is_wanted(self) -> bool:
        return self._interest.is_wanted(self._content.size, self._content.filled.total)

    def is_repeated(self) -> bool:
        """A stream that was only expected to be needed is not: a caller that needs it starts another one."""
        with self._changed:
            return not self._interest.disown_stream()

    def has_ranges(self) -> bool:
        with self._changed:
            has_api_ranges = self._content.etag is not None and self._context.api.gives_ranges
            if not has_api_ranges and self._content.sizing.stored_ranges is None:
                self._demand.probe()
            return has_api_ranges or self._content.sizing.stored_ranges is not None

    def end(self, transfer: Transfer, position: int, body: Body) -> int | None:
        with self._changed:
            self._await_storage(lambda: not self._content.is_doubtful(position, body))
            if self._content.prove(position, body):
                self._note_end(position)
                return None
            if transfer is not self._downloader.stream:
                return None  # a range came to the end; whether it is one the stream will show
            try:
                return self._content.ask_again_from(position, body)
            except NotWhole:
                if self._content.sizing.stored_bytes not in (None, position):
                    self._context.store.refute(self.id)
                raise

    def _is_probe_over(self) -> bool:
        return not self._downloader.is_probing or self._is_over

    def _note_end(self, position: int) -> None:
        error = self._content.sizing.end(position)
        if isinstance(error, NotWhole):
            self._context.store.refute(self.id)
        if error is not None and self._interest.is_open:
            self._invalidate(error)  # at once: a reader that sees the new size would take it for the end
            raise error
        self._tell()
        self._changed.notify_all()

    def is_complete(self) -> bool:
        with self._changed:
            return self._content.is_complete

    def transfer_ended(self, transfer: Transfer, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        info = self._awaited_facts() if self._note_ended(transfer, error) else None
        if info is not None:
            self._context.commits.add(partial(self._commit, self.lease(), info))

    def _awaited_facts(self) -> RunInfo | None:
        """Those of a whole result. Storage has a moment to say when it was made."""
        with self._changed:
            takes_s = self._context.tuning.probe_takes_s
            self._changed.wait_for(lambda: self._is_over or not self._demand.is_time_to_come(), takes_s)
            self._content.sizing.settle_time()
            self._tell()
            return self._content.sizing.info

    def _commit(self, lease: AbstractContextManager[object], info: RunInfo) -> None:
        with lease:
            self._content.keep(info)

    def _note_ended(self, transfer: Transfer, error: CambfsError | None) -> bool:
        """Whether the result is whole now and should be kept."""
        with self._changed:
            self._changed.notify_all()
            may_storage_tell = self._downloader.may_storage_tell
            was_stream = self._downloader.forget(transfer, error)
            if was_stream and error is not None and not self._is_over:
                self._settle_time()  # a stat that waited for just that has its size
                if not self._interest.withhold(error, may_storage_tell=may_storage_tell):
                    self._fail(error)
            is_to_be_kept = self._is_worth_keeping() and self._content.note_whole()
            if self._interest.is_open and error is None and not self._is_over:
                with suppress(CambfsError):  # the next read tries again and gets the error
                    self._demand.audio()
            return is_to_be_kept

    # For a run that is shared with other machines, in the threads of its stream and its upload.

    def hear(self, info: RunInfo, proof: str) -> None:
        with self._changed:
            self._content.hear(info, proof)
            self._tell()
            self._changed.notify_all()

    def note_unshared(self) -> None:
        with self._changed:
            self._changed.notify_all()  # a caller may want storage to be asked
            with suppress(CambfsError):
                if not self._is_over:
                    self._demand.audio()  # and so may what is fetched ahead

    def reach(self, wait_s: float) -> Reach:
        with self._changed:
            self._changed.wait(wait_s)
            reach = self._content.reach()
            is_ended = self._downloader.stream is None and not (reach.proof and reach.info is None)
            is_over = self._is_over or self._downloader.is_idle or is_ended
            return replace(reach, is_over=is_over, is_wrong=not self._is_worth_keeping())

    def bytes_at(self, start: int, count: int) -> bytes:
        return self._content.spool.read(start, count)

    # For probes and checks, in their threads.

    def probe_ended(self, answer: Probe | Tail | None, error: CambfsError | None) -> None:
        with self._changed:
            self._downloader.forget_probe(answer is not None, error)
            if error is None:
                self._content.sizing.answered(answer)
                try:
                    self._judge()
                except CacheDamaged as damage:
                    error = damage
                if answer is not None and self._content.sizing.is_end_refuted and not self._is_over:
                    self._demand.probe()
            if answer is None and error is None:
                error = self._interest.take_withheld()
        self._note_worker_ended(error)

    def check_cached(self) -> None:
        def is_cancelled() -> bool:
            self._downloader.checked_at = time.monotonic()
            return self._is_over

        is_right = self._content.check(is_cancelled)
        with self._changed:
            self._content.checked(is_right)
            self._tell()

    def check_ended(self, error: CambfsError | None) -> None:
        with self._changed:
            self._downloader.forget_check()
        self._note_worker_ended(error)

    def _note_worker_ended(self, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        with self._changed:
            if error is not None and self._downloader.stream is None:
                self._fail(error)
            self._changed.notify_all()

    def _fail(self, error: CambfsError) -> None:
        """All waiting operations share this failure. The next one starts again."""
        self._waiters.fail(error)
        self._owner.failed(self, error)

    def _end_if_worthless(self, error: CambfsError | None) -> None:
        if isinstance(error, _WORTHLESS):
            self._end(error)

    def _end(self, error: CambfsError) -> None:
        """Discards the downloaded bytes. Reading open files raises the error; the next open starts again."""
        with self._changed:
            self._invalidate(error)
        self.stop(error)

    def _invalidate(self, error: CambfsError) -> None:
        """Locked."""
        self._waiters.end(error)
        self._content.invalidate()
        self._owner.detach(self, error)  # before a reader gets the error, and asks again
