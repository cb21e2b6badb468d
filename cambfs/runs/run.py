"""One run in use: what is wanted of it, and so what is fetched. Whoever asks for a run shares this.

Not which runs there are (`library`), what has arrived (`content`), how the size is known (`sizing`), who waits
(`waiters`), or who is fetching it (`downloader`).

Threads: callers wait for bytes or the size; transfers and probes, in threads of their own, bring both. The content's
`changed` guards all of this, too, and is notified whenever a waiter might go on. The order of locks is: a run's
`changed`, the library's, the cache's. No request is made, and neither the network nor a transfer waited for, under any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

from cambfs.cache.spool import Room
from cambfs.errors import CacheDamaged, CambfsError, Closing, ResultChanged
from cambfs.model import Facts
from cambfs.names import RunId
from cambfs.remote.source import Body
from cambfs.runs.content import Content
from cambfs.runs.deadline import Patience
from cambfs.runs.downloader import SPAN_BYTES, Fetching, Means
from cambfs.runs.transfer import Transfer
from cambfs.runs.waiters import Waiters

# A stream that nobody wants any more waits this long for somebody, then ends.
LINGER_S = 2.0
# What is left of a result that is finished all the same.
_NEARLY_BYTES = 1 << 20

T = TypeVar("T")


class Owner(Protocol):
    """What a run needs from the library."""

    def learn(self, run_id: RunId, facts: Facts | None, is_believed: bool) -> None:
        """The size is known, or (None) is not the one that was said; `is_believed`: only because storage was right
        about another run."""

    def worker_begins(self, run: Run) -> None:
        """A thread works for the run, and uses it."""

    def worker_ends(self, run: Run) -> None:
        """It does no more."""

    def detach(self, run: Run, error: CambfsError) -> None:
        """What was fetched is worth nothing: the next to ask starts anew."""

    def failed(self, run: Run, error: CambfsError) -> None:
        """An attempt to fetch it has failed for good."""


class Run:
    """`users` is the library's business and guarded by its lock."""

    def __init__(self, run_id: RunId, means: Means, owner: Owner, facts: Facts | None, is_believed: bool) -> None:
        self.id = run_id
        self.users = 0
        self._means = means
        self._owner = owner
        limit_bytes = means.max_result_bytes
        content = Content(run_id, means.cache, means.storage, facts, is_believed, owner.learn, limit_bytes)
        self._content = content
        self._changed = content.changed  # guards all below
        self._waiters = Waiters(content.lock, content.changed)
        self._fetching = Fetching(run_id, means, content, self, self._worker_begins, self._worker_ended)
        self._handles = 0
        self._proves_storage = False  # the other runs wait for this one's comparison

    # What callers ask, each in its own thread.

    def facts(self, patience: Patience) -> Facts:
        """The exact size, waited for. Raises CambfsError."""
        return self._wait(patience, lambda: self._content.sizing.facts, self._want_size)

    def want_probe(self) -> None:
        """Asks storage for the size if that may help, and does not wait."""
        with self._changed:
            if not self._waiters.is_over:
                self._fetching.start_probe()

    def open(self, patience: Patience) -> None:
        """Adds a handle as soon as it is known that there is audio. Raises CambfsError, and then there is no handle."""
        with self._changed:
            self._handles += 1
            self._changed.notify_all()
        try:
            self._wait(patience, lambda: self._content.is_begun or None, self._want_audio)
            with self._changed:
                self._want_audio()
        except BaseException:
            self.close_handle()
            raise

    def is_unchanged(self) -> bool:
        """Whether the cached file that has its bytes, if one has, is as it was. It ends the run when it is not, and the
        next to use it starts anew."""
        try:
            with self._worthless_if_damaged(), self._changed:
                self._content.check_unchanged()
        except CacheDamaged:
            return False
        return True

    def close_handle(self) -> None:
        with self._changed:
            self._handles -= 1
            self._changed.notify_all()

    @property
    def serial(self) -> int:
        """The same for as long as the bytes are. Of an open run."""
        with self._changed:
            return self._content.spool.serial

    def readinto(self, offset: int, length: int, room: Room, patience: Patience) -> int:
        """Puts `length` bytes into a room for just these, or as many as there are up to the end of the result, and says
        how many: 0 at the end, and no room is asked for. Raises CambfsError rather than give fewer."""
        self._means.keeping.note_use()
        wanted = offset + length
        # What is whole stays so: no lock, for most reads come here.
        stop = None if self._waiters.is_over else self._content.stop_if_whole(wanted)
        if stop is None:
            stop = self._wait(
                patience,
                lambda: self._content.stop_if_there(offset, wanted),
                lambda: self._want_bytes(offset, wanted),
            )
        if stop <= offset:
            return 0
        with self._worthless_if_damaged(), room(stop - offset) as buffer:
            self._content.spool.readinto(offset, buffer)
        return stop - offset

    def retire(self) -> None:
        """Called once, without users: what was fetched goes to the cache."""
        if self._proves_storage and not self._means.storage.proven:
            self._means.storage.give_up_proof()
        if self._is_worth_keeping():
            self._content.give_back()
        else:
            self._content.throw_away()

    def _is_worth_keeping(self) -> bool:
        return not self._waiters.is_over or isinstance(self._waiters.over, Closing)

    def leave_disk(self) -> None:
        """Gives up the temporary name of its bytes, if they have one."""
        with self._changed:
            self._content.leave_disk()

    def stop(self, error: CambfsError) -> None:
        """Ends its transfers soon; everybody who waits, and every later operation, gets the error."""
        with self._changed:
            self._waiters.end(error)
            size = self._content.size
            # What is only about to say that it has ended may do so: then the result is kept.
            is_there = self._is_worth_keeping() and size is not None and self._content.filled.covers(0, size)
            transfers = [] if is_there else self._fetching.transfers()
            self._changed.notify_all()
        for transfer in transfers:
            transfer.stop()

    def _wait(self, patience: Patience, ready: Callable[[], T | None], want: Callable[[], None]) -> T:
        with self._worthless_if_damaged(), self._changed:
            self._content.load()
            return self._waiters.wait(patience, ready, lambda: self._check_or(want), self._progress_at)

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
            self._fetching.start_check(lambda: self._waiters.is_over)
        else:
            want()

    def _progress_at(self) -> float:
        return max([self._fetching.checked_at, *(transfer.progress_at for transfer in self._fetching.transfers())])

    # What sets going what is waited for. Locked, and called again and again while somebody waits.

    def _want_audio(self) -> None:
        if self._content.is_whole or self._waiters.is_over:
            return
        self._fetching.start_stream()
        if self._content.size is None and self._means.habits.stream_has_length is False:
            self._want_size()

    def _want_size(self) -> None:
        is_header_to_come = self._fetching.stream is not None and not self._content.is_begun
        if not (is_header_to_come and self._means.habits.stream_has_length):
            self._fetching.start_probe()
        self._content.judge()
        if self._content.size is None and self._is_stream_needed():
            self._fetching.start_stream()

    def _is_stream_needed(self) -> bool:
        """Whether the size cannot be known without the stream: storage does not tell it, or is not believed yet."""
        storage, has_answered = self._means.storage, self._content.sizing.probe is not None
        if self._fetching.stream is not None:
            return False
        if not self._fetching.is_probing and not has_answered:
            return True
        if storage.proven:
            return has_answered  # and yet the size is not known: it is no FLAC, or another
        if not storage.distrusted and not self._proves_storage:
            self._proves_storage = storage.claim_proof()
        return storage.distrusted or self._proves_storage

    def _want_bytes(self, offset: int, stop: int) -> None:
        self._fetching.start_stream()
        offset, stop = self._content.filled.gap(offset, stop) or (offset, stop)
        if not self._fetching.is_far(offset):
            return
        if self._content.has_ranges:
            self._fetching.start_span(offset, stop)
        else:
            self._fetching.start_probe()

    # What transfers bring (they know this as their sink) and probes, in their threads.

    def begin(self, body: Body) -> None:
        with self._changed:
            if self._waiters.over is not None:
                raise self._waiters.over.with_traceback(None)
        self._content.begin(body)
        with self._changed:
            if self._content.size is None:
                self._fetching.start_probe()
            self._waiters.let_go_on()

    def write(self, position: int, data: bytes) -> None:
        self._means.keeping.note_use()
        self._content.write(position, data)

    def add(self, start: int, stop: int) -> None:
        with self._changed:
            self._content.add(start, stop)
            self._waiters.wake()

    def wants_more(self, transfer: Transfer, position: int) -> bool:
        with self._changed:
            self._waiters.let_go_on()
            return self._is_more_wanted(transfer, position)

    def _is_more_wanted(self, transfer: Transfer, position: int) -> bool:
        if transfer.stop_position is not None and position >= transfer.stop_position:
            return False
        there_ahead = self._content.filled.filled_until(position) - position
        if there_ahead and transfer is not self._fetching.stream:
            return False
        if there_ahead >= SPAN_BYTES and self._content.has_ranges:
            return False
        if not self._is_wanted():
            self._changed.wait_for(lambda: self._is_wanted() or self._waiters.is_over, LINGER_S)
        return self._is_wanted()

    def _is_wanted(self) -> bool:
        if self._handles or self._waiters.is_any:
            return True
        size, came = self._content.size, self._content.filled.total
        return size is not None and came > 0 and size - came <= max(_NEARLY_BYTES, size // 10)

    def end(self, position: int, body: Body) -> None:
        is_doubtful = self._content.is_doubtful(position, body)
        if is_doubtful:
            with self._changed:
                self._fetching.start_probe()
                self._changed.wait_for(self._is_storage_heard, self._means.timeout_s)
        self._content.end(position, body, is_doubtful=is_doubtful)

    def _is_storage_heard(self) -> bool:
        return not self._fetching.is_probing or self._waiters.is_over

    def is_complete(self) -> bool:
        with self._changed:
            return self._content.is_complete

    def finish(self, transfer: Transfer, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        try:
            facts = self._note_finished(transfer, error)
            if facts is not None:
                self._owner.worker_begins(self)
                self._means.keeping.add(partial(self._keep, facts))
        finally:
            self._owner.worker_ends(self)

    def _keep(self, facts: Facts) -> None:
        try:
            self._content.keep(facts)
        finally:
            self._owner.worker_ends(self)

    def _note_finished(self, transfer: Transfer, error: CambfsError | None) -> Facts | None:
        """The facts, when the result is whole now and should be kept."""
        with self._changed:
            self._changed.notify_all()
            was_stream = self._fetching.forget(transfer, error)
            if was_stream and error is not None and not self._waiters.is_over:
                self._fail(error)
            facts = self._content.note_whole() if self._is_worth_keeping() else None
            if self._handles and error is None:
                with suppress(CambfsError):  # whoever reads will try again, and hear of it
                    self._want_audio()
            return facts

    def _worker_begins(self) -> None:
        self._owner.worker_begins(self)

    def _worker_ended(self, error: CambfsError | None) -> None:
        self._end_if_worthless(error)
        with self._changed:
            if error is not None and self._fetching.stream is None:
                self._fail(error)
            self._changed.notify_all()
        self._owner.worker_ends(self)

    def _fail(self, error: CambfsError) -> None:
        """Everybody who waits shares this failure; the next operation starts anew."""
        self._waiters.fail(error)
        self._owner.failed(self, error)

    def _end_if_worthless(self, error: CambfsError | None) -> None:
        if isinstance(error, (ResultChanged, CacheDamaged)):
            self._end(error)

    def _end(self, error: CambfsError) -> None:
        """What was fetched is worth nothing: who has it open gets the error, who opens it next starts anew."""
        with self._changed:
            self._waiters.end(error)
            self._content.condemn()
            self._owner.detach(self, error)  # before anybody hears of it, and asks again
        self.stop(error)
