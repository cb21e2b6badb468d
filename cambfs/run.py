"""One run in use: what has arrived of it, and who is fetching the rest. Whoever asks for a run shares this.

Not which runs there are (`library`), what is kept (`cache`), how the size is known (`sizing`), or how bytes come
(`transfer`, `storage`).

Threads: callers wait here, in slices, for bytes or the size; transfers and probes, in threads of their own, bring both.
`changed` guards all that its comment names and is notified whenever a waiter might go on. The order of locks is: a
run's `changed`, then the library's, then the cache's. No request is made and no transfer waited for under any of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Protocol, TypeVar

from cambfs import flac
from cambfs.cache import Cache
from cambfs.errors import (
    BadAnswer,
    BrokenBody,
    CacheDamaged,
    CambfsError,
    Closing,
    ResultChanged,
    StorageUseless,
)
from cambfs.facts import Facts
from cambfs.names import RunId
from cambfs.patience import SLICE_S, Patience
from cambfs.ranges import RangeSet
from cambfs.sizing import Sizing
from cambfs.slots import Slots
from cambfs.source import Body, Source
from cambfs.spool import Spool
from cambfs.storage import HEAD_BYTES, Probe, Storage
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
_NOTHING = RangeSet()

T = TypeVar("T")


class Owner(Protocol):
    """What a run needs from the library."""

    def learn(self, run_id: RunId, facts: Facts | None) -> None:
        """The size is known, or (None) is not the one that was said."""

    def hold(self, run: Run) -> None:
        """One more uses the run."""

    def release(self, run: Run) -> None:
        """One fewer uses it; without users it is retired."""

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


class Run:
    """`users` is the library's business and guarded by its lock."""

    def __init__(self, run_id: RunId, means: Means, owner: Owner, facts: Facts | None) -> None:
        self.id = run_id
        self.users = 0
        self._means = means
        self._owner = owner
        self.changed = Condition()  # guards all below
        self._sizing = Sizing(run_id, means.storage, facts, owner.learn)
        self._loaded = False
        self._spool: Spool | None = None
        self._begun = False  # there is audio: some of it came, or its headers did
        self._whole = False
        self._end_is_loose = False  # nothing proved that the stream's end is the result's
        self._kept = False  # it is in the cache, or was refused there
        self._content_type = ""
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
        return self._wait(patience, lambda: self._sizing.facts, self._want_size)

    def want_facts(self) -> None:
        """Sets going what brings the size, and does not wait."""
        with self.changed:
            self._load()
            if self._sizing.facts is None:
                self._want_size()

    def open(self, patience: Patience) -> None:
        """Adds a handle as soon as it is known that there is audio. Raises CambfsError, and then there is no handle."""
        with self.changed:
            self._handles += 1
            self.changed.notify_all()
        try:
            self._wait(patience, lambda: self._begun or None, self._want_audio)
        except BaseException:
            self.close_handle()
            raise
        with self.changed:
            self._want_audio()

    def close_handle(self) -> None:
        with self.changed:
            self._handles -= 1
            self.changed.notify_all()

    @property
    def serial(self) -> int:
        """The same for as long as the bytes are. Of an open run."""
        with self.changed:
            return self._spooled().serial

    def read(self, offset: int, length: int, patience: Patience) -> bytes:
        """`length` bytes, or those up to the end of the result. Raises CambfsError rather than return fewer."""
        stop = self._wait(
            patience,
            lambda: self._stop_if_there(offset, offset + length),
            lambda: self._want_bytes(offset, offset + length),
        )
        if stop <= offset:
            return b""
        try:
            return self._spooled().read(offset, stop - offset)
        except CacheDamaged as damage:
            self._end(damage)
            raise

    def retire(self) -> None:
        """Called once, without users: what was fetched goes to the cache."""
        if self._spool is None:
            return
        if self._over is not None and not isinstance(self._over, Closing):
            self._spool.close()
        else:
            whole = self._whole and not self._end_is_loose
            self._means.cache.give(self.id, self._spool, whole=whole, facts=self._sizing.facts)

    def stop(self, error: CambfsError) -> None:
        """Ends its transfers soon; everybody who waits, and every later operation, gets the error."""
        with self.changed:
            self._over = self._over or error
            transfers = self._transfers()
            self.changed.notify_all()
        for transfer in transfers:
            transfer.stop()

    def _wait(self, patience: Patience, ready: Callable[[], T | None], want: Callable[[], None]) -> T:
        """Until `ready` has an answer; `want` sets going, again and again, what may bring it."""
        with self.changed:
            self._load()
            failures = self._failures
            self._waiting += 1
            try:
                while True:
                    self._raise_if_over()
                    if (value := ready()) is not None:
                        return value
                    if self._failure is not None and self._failures != failures:
                        raise self._failure.with_traceback(None)
                    want()
                    patience.check(max((t.progress_at for t in self._transfers()), default=0.0))
                    self.changed.wait(SLICE_S)
            finally:
                self._waiting -= 1

    def _raise_if_over(self) -> None:
        if self._over is not None:
            raise self._over.with_traceback(None)

    # What is there. Under `changed`.

    def _load(self) -> None:
        """Takes what the cache has, once."""
        if self._loaded:
            return
        self._loaded = True
        taken = self._means.cache.take(self.id)
        if taken is not None:
            self._spool, self._whole, self._kept, self._begun = taken.spool, taken.whole, taken.whole, True
            if taken.facts is not None:
                self._sizing.load(taken.facts)

    def _spooled(self) -> Spool:
        if self._spool is None:
            self._spool = self._means.cache.new_spool(self.id)
        return self._spool

    @property
    def _filled(self) -> RangeSet:
        return self._spool.filled if self._spool is not None else _NOTHING

    @property
    def _etag(self) -> str | None:
        return self._spool.etag if self._spool is not None else None

    @property
    def _size(self) -> int | None:
        return self._sizing.facts.size if self._sizing.facts is not None else None

    def _stop_if_there(self, offset: int, stop: int) -> int | None:
        """Where a read ends, once all of it is there."""
        stop = stop if self._size is None else min(stop, self._size)
        return stop if self._filled.covers(offset, stop) else None

    def _transfers(self) -> list[Transfer]:
        return [*self._spans, self._stream] if self._stream is not None else list(self._spans)

    def _is_wanted(self) -> bool:
        if self._handles or self._waiting:
            return True
        if self._size is None or not self._filled.total:
            return False
        return self._size - self._filled.total <= max(_NEARLY_BYTES, self._size // 10)

    # What sets going. Under `changed`, again and again while somebody waits.

    def _want_audio(self) -> None:
        if self._whole:
            return
        if self._stream is None:
            self._start_stream()
        if self._size is None and self._means.habits.stream_has_length is False:
            self._want_size()

    def _want_size(self) -> None:
        header_to_come = self._stream is not None and self._means.habits.stream_has_length and not self._begun
        if not header_to_come:
            self._start_probe()
        self._sizing.judge(self._spool)
        nothing_else_comes = not self._probing and self._sizing.probe is None
        if self._stream is None and self._size is None and (nothing_else_comes or self._must_compare()):
            self._start_stream()

    def _must_compare(self) -> bool:
        """Whether the size waits for the stream's head: storage answers, or did, and is not believed yet."""
        storage = self._means.storage
        if storage.proven:
            return self._sizing.probe is not None  # and yet the size is not known: it is no FLAC, or another
        return storage.claim_proof() or storage.distrusted

    def _want_bytes(self, offset: int, stop: int) -> None:
        offset, stop = self._filled.gap(offset, stop) or (offset, stop)
        if self._stream is None:
            self._start_stream()
        if any(t.position <= offset < (t.stop_position or offset + 1) for t in self._spans):
            return
        if self._is_far(offset) and not self._spans_fail and len(self._spans) < _MOST_SPANS:
            if self._has_ranges():
                self._start_span(offset, stop)
            else:
                self._start_probe()

    def _is_far(self, offset: int) -> bool:
        stream = self._stream
        if stream is None or stream.begin_at is None or offset - stream.position < _FAR_BYTES:
            return False
        streaming_s = time.monotonic() - stream.begin_at
        came_bytes = stream.position - stream.first_position
        return streaming_s * (offset - stream.position) > _FAR_S * came_bytes and streaming_s > SLICE_S

    def _has_ranges(self) -> bool:
        """Whether a range of just this result can be had: from the API, which showed a validator, or from storage,
        whose object is the same file."""
        return self._etag is not None or self._sizing.stored_ranges is not None

    def _start_stream(self) -> None:
        self._stream = self._transfer(f"stream-{self.id}", self._open_stream, self._filled.filled_until(0), None)

    def _start_span(self, offset: int, stop: int) -> None:
        read_on = offset > 0 and self._filled.covers(offset - 1, offset)
        goal = None if read_on else max(stop, offset + _SPAN_BYTES)
        self._spans.append(self._transfer(f"range-{self.id}-{offset}", self._open_span, offset, goal))

    def _transfer(self, name: str, open_at: Callable[[int], Body], start: int, stop: int | None) -> Transfer:
        self._raise_if_over()
        transfer = Transfer(name, self, open_at, self._means.slots, self._means.timeout_s, start, stop)
        self._owner.hold(self)
        transfer.start()
        return transfer

    def _start_probe(self) -> None:
        tried = self._probing or self._sizing.probe is not None or self._probe_failed
        if not tried and self._over is None and self._means.storage.usable:
            self._probing = True
            self._owner.hold(self)
            Thread(target=self._run_probe, name=f"size-{self.id}", daemon=True).start()

    # Requests. In the threads of transfers and probes, without a lock.

    def _open_stream(self, position: int) -> Body:
        with self.changed:
            etag, probe = self._etag, self._sizing.stored_ranges
        if position > 0 and etag is not None:
            return self._means.source.open_stream(self.id, position, etag)
        if position > 0 and probe is not None:
            return self._means.storage.open(self.id, probe, position, None)
        body = self._means.source.open_stream(self.id)
        self._means.habits.stream_has_length = body.total is not None
        return body

    def _open_span(self, position: int) -> Body:
        with self.changed:
            etag, probe = self._etag, self._sizing.stored_ranges
        if probe is not None:
            return self._means.storage.open(self.id, probe, position, None)
        body = self._means.source.open_stream(self.id, position, etag)
        if body.start != position:
            body.close()
            raise BadAnswer(f"run {self.id}: the API does not give ranges any more", 200)
        return body

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
        self._owner.release(self)

    def _probed(self, probe: Probe | None, error: CambfsError | None) -> None:
        with self.changed:
            self._probing = False
            self._sizing.probe = probe
            self._probe_failed = probe is None and (error is None or self._stream is not None)
            if error is not None and self._stream is None:
                self._fail(error)
            self._sizing.judge(self._spool)
            self.changed.notify_all()

    # What transfers bring (they know this as their sink), in their threads.

    def begin(self, body: Body) -> None:
        with self.changed:
            spool = self._spooled()
            if body.start == 0:
                if spool.etag is not None and body.etag is not None and spool.etag != body.etag:
                    raise ResultChanged(f"run {self.id}: the API has another result than before")
                spool.etag = body.etag if body.ranges else None
                self._content_type = body.content_type
            self._begun = True
            if body.total is not None:
                self._sizing.header(body.total, body.modified_s, is_begun=spool.filled.total > 0)
            elif self._size is None:
                self._start_probe()
            self.changed.notify_all()

    def put(self, transfer: Transfer, position: int, data: memoryview) -> bool:
        stop = position + len(data)
        with self.changed:
            spool = self._spooled()
            if self._sizing.exceeded_by(stop):
                raise ResultChanged(f"run {self.id}: the result is longer than before")
            known = spool.filled.within(position, stop)
        for a, b in known:
            if spool.read(a, b - a) != bytes(data[a - position : b - position]):
                raise ResultChanged(f"run {self.id}: byte {a} or one after it is not what it was before")
        if known != [(position, stop)]:
            spool.write(position, data)
        with self.changed:
            spool.filled.add(position, stop)
            self._sizing.judge(spool)
            self.changed.notify_all()
            return self._wants_more(transfer, stop)

    def _wants_more(self, transfer: Transfer, position: int) -> bool:
        if transfer.stop_position is not None and position >= transfer.stop_position:
            return False
        ahead = self._filled.filled_until(position) - position
        if transfer is not self._stream and ahead:
            return False
        if ahead >= _SPAN_BYTES and self._has_ranges():
            return False
        if not self._is_wanted():
            self.changed.wait_for(lambda: self._is_wanted() or transfer.stopping, LINGER_S)
        return self._is_wanted()

    def end(self, position: int, body: Body) -> None:
        loose = not body.framed and not self._is_proven_end(position)
        with self.changed:
            self._sizing.end(position, body.modified_s)
            self._end_is_loose = loose
            self._sizing.judge(self._spool)
            self.changed.notify_all()

    def _is_proven_end(self, position: int) -> bool:
        """Of a body that just ends with its connection: storage knows the length, or else the audio itself does. Raises
        BrokenBody when it was cut off."""
        with self.changed:
            self.changed.wait_for(lambda: not self._probing, self._means.timeout_s)
            probe = self._sizing.probe if self._sizing.twin else None
            spool = self._spooled()
            head = spool.read(0, min(position, HEAD_BYTES))
            tail_bytes = min(position, flac.tail_bytes_wanted(head))
            tail = spool.read(position - tail_bytes, tail_bytes)
        if probe is not None and position < probe.total:
            raise BrokenBody(f"run {self.id}: the body ended at byte {position} of {probe.total}")
        return (probe is not None and position == probe.total) or flac.is_whole(head, tail)

    def finish(self, transfer: Transfer, error: CambfsError | None) -> None:
        if isinstance(error, (ResultChanged, CacheDamaged)):
            self._end(error)
        with self.changed:
            self._forget(transfer, error)
            keep = self._note_whole()
            if self._stream is None and error is None and self._handles and not (self._whole or self._over):
                self._start_stream()
            self.changed.notify_all()
        if keep and self._sizing.facts is not None:
            self._means.cache.commit(self.id, self._spooled(), self._sizing.facts, self._content_type)
        self._owner.release(self)

    def _forget(self, transfer: Transfer, error: CambfsError | None) -> None:
        if transfer is self._stream:
            self._stream = None
            self._probe_failed = self._probe_failed and error is None
            if error is not None and self._over is None:
                self._fail(error)
        else:
            self._spans.remove(transfer)
            self._spans_fail = self._spans_fail or error is not None

    def _note_whole(self) -> bool:
        """Whether it is whole and may be kept, and nobody has kept it yet."""
        if self._size is not None and self._sizing.is_confirmed:
            self._whole = self._filled.covers(0, self._size)
        keep = self._whole and not (self._kept or self._end_is_loose or self._over)
        self._kept = self._kept or keep
        return keep

    def _fail(self, error: CambfsError) -> None:
        """Everybody who waits shares this failure; the next operation starts anew."""
        self._failures += 1
        self._failure = error
        self._owner.failed(self, error)

    def _end(self, error: CambfsError) -> None:
        """What was fetched is worth nothing: who has it open gets the error, who opens it next starts anew."""
        self.stop(error)
        self._owner.detach(self, error)
