"""One run in use: what is wanted of it, and so what is fetched. All users of a run share one object.

Not which runs there are (`library`), nor the requests. `content` is what has arrived, `waiters` who waits for more,
`downloader` who brings it.

Threads: callers wait for bytes or the size; transfers, probes and checks, in threads of their own, bring both. One
lock, that of `_changed`, guards all three; it is notified whenever a waiter might go on. The order of locks is: a
run's, the library's, the cache's; the slots' is a leaf. No request is made, and neither the network nor a
transfer waited for, under any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from threading import Condition, RLock
from typing import Protocol, TypeVar

from cambfs.deadline import Deadline
from cambfs.errors import BrokenBody, CacheDamaged, CambfsError, NotWhole, ResultChanged
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.object_store import Probe
from cambfs.remote.source import Body
from cambfs.runs.content import Content
from cambfs.runs.context import Context
from cambfs.runs.downloader import Downloader
from cambfs.runs.sizing import Sizing
from cambfs.runs.transfer import Transfer
from cambfs.runs.waiters import Waiters

# After one of these errors the downloaded bytes are discarded.
_WORTHLESS = (ResultChanged, CacheDamaged, NotWhole)

T = TypeVar("T")


class Owner(Protocol):
    """What a run needs from the library."""

    def lease(self, run: Run) -> AbstractContextManager[object]:
        """The run is in use from now on, until the context is left."""

    def learn(self, run_id: RunId, info: RunInfo | None, is_unverified: bool) -> None:
        """The size is known, or (None) is not the one that was said; `is_unverified`: only because storage was right
        about another run."""

    def detach(self, run: Run, error: CambfsError) -> None:
        """The downloaded bytes are discarded. The next use of the run starts again."""

    def failed(self, run: Run, error: CambfsError) -> None:
        """An attempt to fetch it has failed for good."""


class Run:
    """`users` is the library's business and guarded by its lock."""

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
        self._downloader = Downloader(run_id, context, self)
        self._told = info, is_unverified
        self._handles = 0
        self._was_exceeded = False  # a response had more bytes than storage said
        self._proves_storage = False  # the other runs wait for this one's comparison

    # What callers ask, each in its own thread.

    def info(self, deadline: Deadline) -> RunInfo:
        """The exact size, waited for. Raises CambfsError."""
        return self._wait(deadline, lambda: self._content.sizing.info, self._want_size)

    def want_probe(self) -> None:
        """Asks storage for the size if that may help, and does not wait."""
        with self._changed:
            if not self._is_over:
                self._want_probe()

    def open(self, deadline: Deadline) -> None:
        """Adds a handle as soon as it is known that there is audio. Raises CambfsError, and then there is no handle."""
        with self._changed:
            self._handles += 1
            if self._handles == 1:
                self._changed.notify_all()  # a transfer may linger because nobody had it open
        try:
            self._wait(deadline, lambda: self._content.is_begun or None, self._want_audio)
            with self._changed:
                self._want_audio()
        except BaseException:
            self.close_handle()
            raise

    def is_unchanged(self) -> bool:
        """Whether the cached file that has its bytes, if one has, is as it was. It ends the run when it is not, and the
        next to use it starts anew."""
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
            self._handles -= 1

    @property
    def _is_over(self) -> bool:
        return self._waiters.final_error is not None

    @property
    def generation(self) -> int:
        """The same for as long as the bytes are. Of an open run."""
        with self._changed:
            return self._content.spool.generation

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """Fills the buffer, or as much of it as there is up to the end of the result, and says how much: 0 at the end.
        Raises CambfsError rather than give less, and leaves undefined bytes in the buffer then."""
        wanted = offset + len(buffer)
        # What is whole stays so: no lock, for most reads come here.
        stop = None if self._is_over else self._content.stop_if_whole(wanted)
        if stop is None:
            stop = self._wait(
                deadline,
                lambda: self._content.stop_if_there(offset, wanted),
                lambda: self._want_bytes(offset, wanted),
            )
        if stop <= offset:
            return 0
        with self._worthless_if_damaged():
            self._content.spool.readinto(offset, buffer[: stop - offset])
        return stop - offset

    def retire(self) -> None:
        """Called once, without users: what was fetched goes to the cache."""
        if self._proves_storage and not self._context.store.proven:
            self._context.store.give_up_proof()
        if self._is_worth_keeping():
            self._content.release()
        else:
            self._content.discard()

    def _is_worth_keeping(self) -> bool:
        return not isinstance(self._waiters.final_error, _WORTHLESS)

    def unlink(self) -> None:
        """Gives up the temporary name of its bytes, if they have one."""
        with self._changed:
            self._content.unlink()

    def stop(self, error: CambfsError) -> None:
        """Ends its transfers soon; everybody who waits, and every later operation, gets the error."""
        with self._changed:
            self._waiters.end(error)
            size = self._content.size
            # What is only about to say that it has ended may do so: then the result is kept.
            is_there = self._is_worth_keeping() and size is not None and self._content.filled.covers(0, size)
            transfers = [] if is_there else self._downloader.transfers()
            self._changed.notify_all()
        for transfer in transfers:
            transfer.stop()

    def _wait(self, deadline: Deadline, ready: Callable[[], T | None], want: Callable[[], None]) -> T:
        with self._worthless_if_damaged(), self._changed:
            self._content.load()
            self._tell()
            return self._waiters.wait(deadline, ready, lambda: self._check_or(want), self._downloader.progress_at)

    @contextmanager
    def _worthless_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except CacheDamaged as damage:
            self._end(damage)
            raise

    def _check_or(self, want: Callable[[], None]) -> None:
        """What is in the cache may have to be read through before anything else is wanted."""
        if self._content.must_be_checked:
            self._downloader.start_check()
        else:
            want()

    # What sets going what is waited for. Locked, and called again and again while somebody waits.

    def _want_audio(self) -> None:
        if self._content.is_whole or self._is_over:
            return
        self._want_stream()
        if self._content.size is None and self._context.api.stream_has_length is False:
            self._want_size()

    def _want_size(self) -> None:
        is_header_to_come = self._downloader.stream is not None and not self._content.is_begun
        if not (is_header_to_come and self._context.api.stream_has_length):
            self._want_probe()
        self._judge()
        if self._content.size is None and self._is_stream_needed():
            self._want_stream()

    def _want_stream(self) -> None:
        """From the first byte that is missing, or once more from the first."""
        start = 0 if self._content.needs_another_response else self._content.filled.filled_until(0)
        self._downloader.start_stream(start)

    def _want_probe(self) -> None:
        if self._content.sizing.probe is None:
            self._downloader.start_probe()

    def _is_stream_needed(self) -> bool:
        """Whether the size cannot be known without the stream: storage does not tell it, or is not believed yet."""
        store, has_answered = self._context.store, self._content.sizing.probe is not None
        if self._downloader.stream is not None:
            return False
        if self._downloader.is_probe_slow or (not self._downloader.is_probing and not has_answered):
            return True
        if store.proven:
            return has_answered  # and yet the size is not known: it is no FLAC, or another
        if not store.distrusted and not self._proves_storage:
            self._proves_storage = store.claim_proof()
        return store.distrusted or self._proves_storage

    def _want_bytes(self, offset: int, stop: int) -> None:
        self._want_stream()
        missing = self._content.missing(offset, stop)
        if missing is None or not self._downloader.is_far(missing[0]):
            return
        offset, stop = missing
        if not self._content.has_ranges:
            self._want_probe()
            return
        reads_on = offset > 0 and self._content.filled.covers(offset - 1, offset)
        goal = None if reads_on else max(stop, offset + self._context.tuning.span_bytes)
        self._downloader.start_span(offset, goal)

    # What is learnt. Locked.

    def _judge(self) -> None:
        """Something came that may tell the size."""
        is_same = self._content.judge()
        if is_same:
            self._context.store.prove()
        elif is_same is False:
            self._context.store.distrust(self.id)
        self._tell()

    def _tell(self) -> None:
        """The library knows what is known here."""
        told = self._content.sizing.info, self._content.sizing.is_unverified
        if told != self._told:
            self._told = told
            self._owner.learn(self.id, *told)

    # What transfers bring, in their threads.

    def lease(self) -> AbstractContextManager[object]:
        return self._owner.lease(self)

    def ranges(self) -> tuple[str | None, Probe | None]:
        with self._changed:
            if not self._content.has_ranges and not self._content.is_validated:
                self._hear_storage()  # a response broke; perhaps storage can go on with it
            return self._content.etag, self._content.sizing.stored_ranges

    def _hear_storage(self) -> None:
        self._want_probe()
        self._changed.wait_for(self._is_storage_heard, min(self._context.timeout_s, self._context.tuning.end_takes_s))
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
            self._tell()
            self._changed.notify_all()
            if self._content.size is None:
                self._want_probe()
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
        if transfer.stop_position is not None and position >= transfer.stop_position:
            return False
        is_stream = transfer is self._downloader.stream
        if is_stream and self._content.needs_another_response:
            return self._is_wanted()  # what is there already is compared
        if position < transfer.first_position:
            return self._is_wanted()  # so is what overlaps
        there_ahead = self._content.filled.filled_until(position) - position
        if there_ahead and not is_stream:
            return False
        if there_ahead >= self._context.tuning.span_bytes and self._content.has_ranges:
            return False
        if not self._is_wanted():
            self._linger(transfer)
        return self._is_wanted()

    def _linger(self, transfer: Transfer) -> None:
        transfer.note_wanted(False)
        self._changed.wait_for(lambda: self._is_wanted() or self._is_over, self._context.tuning.linger_s)
        transfer.note_wanted(True)

    def _is_wanted(self) -> bool:
        if self._handles or self._waiters:
            return True
        size, came = self._content.size, self._content.filled.total
        return size is not None and came > 0 and size - came <= max(self._context.tuning.nearly_bytes, size // 10)

    def end(self, transfer: Transfer, position: int, body: Body) -> int | None:
        with self._changed:
            if self._content.is_doubtful(position, body):
                self._hear_storage()
            if self._content.proof(position, body) is not None:
                self._note_end(position, body)
                return None
            if transfer is not self._downloader.stream:
                return None  # a range came to the end; whether it is one the stream will show
            try:
                return self._content.ask_again_from(position, body)
            except NotWhole:
                if self._content.sizing.stored_bytes not in (None, position):
                    self._context.store.refute(self.id)
                raise

    def _is_storage_heard(self) -> bool:
        return not self._downloader.is_probing or self._is_over

    def _note_end(self, position: int, body: Body) -> None:
        error = self._content.sizing.end(position, body.modified_s)
        if isinstance(error, NotWhole):
            self._context.store.refute(self.id)
        if error is not None and self._handles:
            self._invalidate(error)  # now: a reader that sees the new size would take it for the end
            raise error
        self._tell()
        self._changed.notify_all()

    def is_complete(self) -> bool:
        with self._changed:
            return self._content.is_complete

    def transfer_ended(self, transfer: Transfer, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        info = self._note_ended(transfer, error)
        if info is not None:
            self._context.commits.add(partial(self._commit, self.lease(), info))

    def _commit(self, lease: AbstractContextManager[object], info: RunInfo) -> None:
        with lease:
            self._content.keep(info)

    def _note_ended(self, transfer: Transfer, error: CambfsError | None) -> RunInfo | None:
        """The facts, when the result is whole now and should be kept."""
        with self._changed:
            self._changed.notify_all()
            was_stream = self._downloader.forget(transfer, error)
            if was_stream and error is not None and not self._is_over:
                self._fail(error)
            info = self._content.note_whole() if self._is_worth_keeping() else None
            if self._handles and error is None:
                with suppress(CambfsError):  # the next read tries again and gets the error
                    self._want_audio()
            return info

    # What probes and checks bring, in their threads.

    def probe_ended(self, probe: Probe | None, error: CambfsError | None) -> None:
        with self._changed:
            self._downloader.forget_probe(probe is not None, error)
            if error is None:
                self._content.sizing.probe = probe
                try:
                    self._judge()
                except CacheDamaged as damage:
                    error = damage
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
        """Everybody who waits shares this failure; the next operation starts anew."""
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
        self._owner.detach(self, error)  # before anybody hears of it, and asks again
