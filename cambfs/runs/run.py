"""One run in use, as its callers see it. All users of a run share one object.

What it has, and what is fetched of it, is in `intake`.

Threads: callers wait here for bytes or the size, each in its own. One lock, that of `Intake.changed`, guards everything
here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from cambfs.deadline import Deadline
from cambfs.errors import CacheDamaged, CambfsError
from cambfs.intake.intake import Intake
from cambfs.model import Arrived, Progress, RunInfo
from cambfs.names import RunId
from cambfs.transfers.context import Context

T = TypeVar("T")


class Owner(Protocol):
    """The library. The methods are those of `intake.Owner`, and told which run calls them."""

    def lease(self, run: Run) -> AbstractContextManager[object]: ...

    def learn(self, run_id: RunId, info: RunInfo | None, is_unverified: bool) -> None: ...

    def detach(self, run: Run, error: CambfsError) -> None: ...

    def failed(self, run: Run, error: CambfsError) -> None: ...


class Run:
    """`users` belongs to the library and is guarded by its lock."""

    def __init__(
        self, run_id: RunId, context: Context, owner: Owner, info: RunInfo | None, is_unverified: bool
    ) -> None:
        self.id = run_id
        self.users = 0
        self._context = context
        self._owner = owner
        self._intake = intake = Intake(run_id, context, self, info, is_unverified)
        self._changed = intake.changed
        self._content, self._waiters, self._interest = intake.content, intake.waiters, intake.interest
        self._downloader, self._demand = intake.downloader, intake.demand

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
            if not self._waiters.is_over:
                self._demand.measure()

    def fetch_ahead(self, most_bytes: int) -> None:
        """Fetches a result of at most `most_bytes` before it is opened, behind everything that callers wait for. Does
        not wait. The bytes are kept only if the result is complete or was opened. Raises CambfsError."""
        with self._changed:
            if self._may_guess():
                self._interest.guess_next(most_bytes, is_begun=self._content.is_begun)
                self._downloader.note_wanted(bool(self._waiters))
                self._demand.audio()

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
        return not (is_ready or self._interest.is_open or self._waiters.is_over)

    def stop_ahead(self) -> None:
        """No open is expected any more."""
        with self._changed:
            self._interest.drop_next()
            if not self._intake.is_wanted():
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
                if not self._waiters.is_over:
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
        self._intake.stop_unwanted_ranges()

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
        stop = None if self._waiters.is_over else self._content.stop_if_whole(wanted)
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
        if self._intake.is_worth_keeping and (self._content.is_whole or not self._interest.is_unasked):
            self._content.release()
        else:
            self._content.discard()

    def unlink(self) -> None:
        """Removes the temporary name of its bytes, if they have one."""
        with self._changed:
            self._content.unlink()

    def stop(self, error: CambfsError) -> None:
        """As `Intake.stop`."""
        self._intake.stop(error)

    def _wait(self, deadline: Deadline, ready: Callable[[], T | None], want: Callable[[], None]) -> T:
        with self._worthless_if_damaged(), self._context.slots.foreground.waiting(self), self._changed:
            self._content.load()
            self._intake.tell()
            self._downloader.note_wanted(True)
            return self._waiters.wait(deadline, ready, lambda: self._check_or(want), self._downloader.progress_at)

    @contextmanager
    def _worthless_if_damaged(self) -> Iterator[None]:
        try:
            yield
        except CacheDamaged as damage:
            self._intake.discard(damage)
            raise

    def _check_or(self, want: Callable[[], None]) -> None:
        """A cached file may have to be checked before anything is fetched."""
        if self._content.must_be_checked:
            self._downloader.start_check()
        else:
            self._intake.judge()  # storage may have been proven since, by another run
            want()

    # For the intake.

    def lease(self) -> AbstractContextManager[object]:
        return self._owner.lease(self)

    def learn(self, info: RunInfo | None, is_unverified: bool) -> None:
        self._owner.learn(self.id, info, is_unverified)

    def detach(self, error: CambfsError) -> None:
        self._owner.detach(self, error)

    def failed(self, error: CambfsError) -> None:
        self._owner.failed(self, error)
