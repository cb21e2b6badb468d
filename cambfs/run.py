"""One run in use: who waits for it, and who is fetching it. Whoever asks for a run shares this.

Not which runs there are (`library`), what has arrived (`content`), how the size is known (`sizing`), or how bytes come
(`transfer`, `storage`).

Threads: callers wait here, in slices, for bytes or the size; transfers and probes, in threads of their own, bring both.
The content's `changed` guards all of this, too, and is notified whenever a waiter might go on. The order of locks is: a
run's `changed`, then the library's, then the cache's. No request is made and no transfer waited for under any of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread
from typing import Protocol, TypeVar

from cambfs.cache import Cache
from cambfs.content import Content
from cambfs.errors import (
    BadAnswer,
    CacheDamaged,
    CambfsError,
    Closing,
    ResultChanged,
    SignatureExpired,
    StorageUseless,
)
from cambfs.facts import Facts
from cambfs.names import RunId
from cambfs.patience import SLICE_S, Patience
from cambfs.slots import Slots
from cambfs.source import Body, Source
from cambfs.storage import Probe, Storage
from cambfs.transfer import Transfer

log = logging.getLogger(__name__)

# A stream that nobody wants any more waits this long for somebody, then ends.
LINGER_S = 2.0
# What is left of a result that is finished all the same.
_NEARLY_BYTES = 1 << 20
# A wanted byte is far when it is this far ahead of the stream, and would come this much later.
_FAR_BYTES = 1 << 20
_FAR_S = 0.3
# What is fetched for a reader that looks at one place; one that reads on from there gets a stream.
_SPAN_BYTES = 512 * 1024
_MOST_SPANS = 2

T = TypeVar("T")


class Owner(Protocol):
    """What a run needs from the library."""

    def learn(self, run_id: RunId, facts: Facts | None) -> None:
        """The size is known, or (None) is not the one that was said."""

    def worker_begins(self, run: Run) -> None:
        """A thread works for the run, and uses it."""

    def worker_ends(self, run: Run) -> None:
        """It does no more."""

    def detach(self, run: Run, error: CambfsError) -> None:
        """What was fetched is worth nothing: the next to ask starts anew."""

    def failed(self, run: Run, error: CambfsError) -> None:
        """An attempt to fetch it has failed for good."""


@dataclass
class Habits:
    """What the API was seen to do in this mount. One word, written by any thread: the last to learn is right."""

    stream_has_length: bool | None = None


@dataclass(frozen=True)
class Means:
    """What all runs of a mount share."""

    source: Source
    storage: Storage
    cache: Cache
    slots: Slots
    habits: Habits
    timeout_s: float
    max_result_bytes: int


class Run:
    """`users` is the library's business and guarded by its lock."""

    def __init__(self, run_id: RunId, means: Means, owner: Owner, facts: Facts | None) -> None:
        self.id = run_id
        self.users = 0
        self._means = means
        self._owner = owner
        self._content = Content(
            run_id, means.cache, means.storage, facts, owner.learn, means.max_result_bytes
        )
        self._changed = self._content.changed  # guards all below
        self._handles = 0
        self._waiting = 0
        self._stream: Transfer | None = None
        self._spans: list[Transfer] = []
        self._spans_fail = False
        self._probing = False
        self._probe_failed = False
        self._failures = 0
        self._failure: CambfsError | None = None
        self._over: CambfsError | None = None  # no operation succeeds any more

    # What callers ask, each in its own thread.

    def facts(self, patience: Patience) -> Facts:
        """The exact size, waited for. Raises CambfsError."""
        return self._wait(patience, lambda: self._content.sizing.facts, self._want_size)

    def want_probe(self) -> None:
        """Asks storage for the size if that may help, and does not wait."""
        with self._changed:
            self._start_probe()

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

    def close_handle(self) -> None:
        with self._changed:
            self._handles -= 1
            self._changed.notify_all()

    @property
    def serial(self) -> int:
        """The same for as long as the bytes are. Of an open run."""
        with self._changed:
            return self._content.spool.serial

    def read(self, offset: int, length: int, patience: Patience) -> bytes:
        """`length` bytes, or those up to the end of the result. Raises CambfsError rather than return fewer."""
        stop = self._wait(
            patience,
            lambda: self._content.stop_if_there(offset, offset + length),
            lambda: self._want_bytes(offset, offset + length),
        )
        if stop <= offset:
            return b""
        try:
            return self._content.spool.read(offset, stop - offset)
        except CacheDamaged as damage:
            self._end(damage)
            raise

    def retire(self) -> None:
        """Called once, without users: what was fetched goes to the cache."""
        if self._over is None or isinstance(self._over, Closing):
            self._content.give_back()
        else:
            self._content.throw_away()

    def stop(self, error: CambfsError) -> None:
        """Ends its transfers soon; everybody who waits, and every later operation, gets the error."""
        with self._changed:
            self._over = self._over or error
            transfers = self._transfers()
            self._changed.notify_all()
        for transfer in transfers:
            transfer.stop()

    def _wait(self, patience: Patience, ready: Callable[[], T | None], want: Callable[[], None]) -> T:
        """Until `ready` has an answer; `want` sets going, again and again, what may bring it."""
        with self._changed:
            self._content.load()
            failures = self._failures
            self._waiting += 1
            self._changed.notify_all()
            try:
                while True:
                    self._raise_if_over()
                    if (value := ready()) is not None:
                        return value
                    if self._failure is not None and self._failures != failures:
                        raise self._failure.with_traceback(None)
                    want()
                    patience.check(max((t.progress_at for t in self._transfers()), default=0.0))
                    self._changed.wait(SLICE_S)
            finally:
                self._waiting -= 1

    def _raise_if_over(self) -> None:
        if self._over is not None:
            raise self._over.with_traceback(None)

    def _transfers(self) -> list[Transfer]:
        return [*self._spans, self._stream] if self._stream is not None else list(self._spans)

    def _is_wanted(self) -> bool:
        if self._handles or self._waiting:
            return True
        size, came = self._content.size, self._content.filled.total
        return size is not None and came > 0 and size - came <= max(_NEARLY_BYTES, size // 10)

    # What sets going what is waited for. Under the lock, again and again while somebody waits.

    def _want_audio(self) -> None:
        if self._content.is_whole:
            return
        if self._stream is None:
            self._start_stream()
        if self._content.size is None and self._means.habits.stream_has_length is False:
            self._want_size()

    def _want_size(self) -> None:
        is_header_to_come = self._stream is not None and not self._content.is_begun
        if not (is_header_to_come and self._means.habits.stream_has_length):
            self._start_probe()
        self._content.judge()
        if self._content.size is None and self._stream is None and self._is_stream_needed():
            self._start_stream()

    def _is_stream_needed(self) -> bool:
        """Whether the size cannot be known without the stream: storage does not tell it, or is not believed yet."""
        storage, has_answered = self._means.storage, self._content.sizing.probe is not None
        if not self._probing and not has_answered:
            return True
        if storage.proven:
            return has_answered  # and yet the size is not known: it is no FLAC, or another
        return storage.distrusted or storage.claim_proof()

    def _want_bytes(self, offset: int, stop: int) -> None:
        offset, stop = self._content.filled.gap(offset, stop) or (offset, stop)
        if self._stream is None:
            self._start_stream()
        if any(t.position <= offset < (t.stop_position or offset + 1) for t in self._spans):
            return
        if self._is_far(offset) and not self._spans_fail and len(self._spans) < _MOST_SPANS:
            if self._content.has_ranges:
                self._start_span(offset, stop)
            else:
                self._start_probe()

    def _is_far(self, offset: int) -> bool:
        stream = self._stream
        if stream is None or stream.begin_at is None or offset - stream.position < _FAR_BYTES:
            return False
        streaming_s = time.monotonic() - stream.begin_at
        came_bytes = stream.position - stream.first_position
        return streaming_s > SLICE_S and streaming_s * (offset - stream.position) > _FAR_S * came_bytes

    def _start_stream(self) -> None:
        start = self._content.filled.filled_until(0)
        self._stream = self._transfer(f"stream-{self.id}", self._open_stream, start, None)

    def _start_span(self, offset: int, stop: int) -> None:
        reads_on = offset > 0 and self._content.filled.covers(offset - 1, offset)
        goal = None if reads_on else max(stop, offset + _SPAN_BYTES)
        self._spans.append(self._transfer(f"range-{self.id}-{offset}", self._open_span, offset, goal))

    def _transfer(self, name: str, open_at: Callable[[int], Body], start: int, stop: int | None) -> Transfer:
        self._raise_if_over()
        transfer = Transfer(name, self, open_at, self._means.slots, self._means.timeout_s, start, stop)
        self._owner.worker_begins(self)
        transfer.start()
        return transfer

    def _start_probe(self) -> None:
        tried = self._probing or self._content.sizing.probe is not None or self._probe_failed
        if not tried and self._over is None and self._means.storage.usable:
            self._probing = True
            self._owner.worker_begins(self)
            Thread(target=self._run_probe, name=f"size-{self.id}", daemon=True).start()

    # Requests. In the threads of transfers and probes, without a lock.

    def _open_stream(self, position: int) -> Body:
        body = self._open_range(position) if position > 0 else None
        if body is None:
            body = self._means.source.open_stream(self.id)
            self._means.habits.stream_has_length = body.total is not None
        return body

    def _open_span(self, position: int) -> Body:
        body = self._open_range(position)
        if body is not None and body.start == position:
            return body
        if body is not None:
            body.close()
        raise BadAnswer(f"run {self.id}: there are no ranges of it any more", 200)

    def _open_range(self, position: int) -> Body | None:
        """From the API or from storage; None where neither gives ranges. One that fails to is not asked again."""
        with self._changed:
            etag, probe = self._content.etag, self._content.sizing.stored_ranges
        try:
            if etag is not None:
                return self._means.source.open_stream(self.id, position, etag)
            if probe is not None:
                return self._means.storage.open(self.id, probe, position, None)
        except (BadAnswer, SignatureExpired, StorageUseless) as error:
            log.info("run %d: no range of it: %s", self.id, error)
            with self._changed:
                self._content.forget_ranges()
        return None

    def _run_probe(self) -> None:
        error: CambfsError | None = None
        probe = None
        try:
            probe = self._means.storage.probe(self.id)
        except StorageUseless as useless:
            log.info("%s", useless)
        except CambfsError as failure:
            error = failure
        except Exception:
            log.exception("run %d: the probe failed in a way that nobody foresaw", self.id)
        self._probed(probe, error)
        self._owner.worker_ends(self)

    def _probed(self, probe: Probe | None, error: CambfsError | None) -> None:
        with self._changed:
            self._probing = False
            self._content.sizing.probe = probe
            self._probe_failed = probe is None and (error is None or self._stream is not None)
            if error is not None and self._stream is None:
                self._fail(error)
            self._content.judge()
            self._changed.notify_all()

    # What transfers bring (they know this as their sink), in their threads.

    def begin(self, body: Body) -> None:
        self._content.begin(body)
        if body.total is None:
            with self._changed:
                if self._content.size is None:
                    self._start_probe()

    def put(self, transfer: Transfer, position: int, data: memoryview) -> bool:
        self._content.put(position, data)
        with self._changed:
            return self._wants_more(transfer, position + len(data))

    def _wants_more(self, transfer: Transfer, position: int) -> bool:
        if transfer.stop_position is not None and position >= transfer.stop_position:
            return False
        ahead = self._content.filled.filled_until(position) - position
        if ahead and transfer is not self._stream:
            return False
        if ahead >= _SPAN_BYTES and self._content.has_ranges:
            return False
        if not self._is_wanted():
            self._changed.wait_for(lambda: self._is_wanted() or transfer.stopping, LINGER_S)
        return self._is_wanted()

    def end(self, position: int, body: Body) -> None:
        if not body.framed:
            with self._changed:
                self._changed.wait_for(lambda: not self._probing, self._means.timeout_s)
        self._content.end(position, body)

    def finish(self, transfer: Transfer, error: CambfsError | None) -> None:
        if isinstance(error, (ResultChanged, CacheDamaged)):
            self._end(error)
        with self._changed:
            self._forget(transfer, error)
            facts = self._content.note_whole() if self._over is None else None
            if self._stream is None and error is None and self._handles and not (self._content.is_whole or self._over):
                self._start_stream()
            self._changed.notify_all()
        if facts is not None:
            self._content.keep(facts)
        self._owner.worker_ends(self)

    def _forget(self, transfer: Transfer, error: CambfsError | None) -> None:
        if transfer is self._stream:
            self._stream = None
            self._probe_failed = self._probe_failed and error is None
            if error is not None and self._over is None:
                self._fail(error)
        else:
            self._spans.remove(transfer)
            self._spans_fail = self._spans_fail or error is not None

    def _fail(self, error: CambfsError) -> None:
        """Everybody who waits shares this failure; the next operation starts anew."""
        self._failures += 1
        self._failure = error
        self._owner.failed(self, error)

    def _end(self, error: CambfsError) -> None:
        """What was fetched is worth nothing: who has it open gets the error, who opens it next starts anew."""
        self.stop(error)
        self._owner.detach(self, error)
