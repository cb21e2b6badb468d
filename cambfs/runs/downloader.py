"""Who is fetching one run: its stream, its spans, its probe, and who reads a cached file through. It starts and ends
them; it decides nothing.

Not what is wanted (`run`), nor what becomes of the bytes (`content`). Threads: the transfers', a probe's and a check's
own, which come in here without a lock. The run's lock, `content.changed`, guards everything else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from cambfs.cache.cache import Cache
from cambfs.errors import BadAnswer, CacheDamaged, CambfsError, Closing, RemoteError, StorageUseless, TooLarge
from cambfs.names import RunId
from cambfs.remote.object_store import ObjectStore, Probe
from cambfs.remote.source import Body, Source
from cambfs.runs.commit_queue import Keeping
from cambfs.runs.content import Content
from cambfs.runs.slots import Slots
from cambfs.runs.transfer import Sink, Transfer
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

# What is fetched for a reader that looks at one place; one that reads on from there gets a stream.
SPAN_BYTES = 512 * 1024
_MOST_SPANS = 2
# A byte is far when it is this far ahead of the stream, and would come this much later.
_FAR_BYTES = 1 << 20
_FAR_S = 0.3
# Who needs the size waits so long for storage, then asks the stream as well.
_PROBE_TAKES_S = 2.0
# A range from storage that brings less than that before it breaks is not worth another.
_STORED_WORTH_BYTES = 1 << 20
# A stream younger than that has not shown how fast it is.
_RATE_AFTER_S = 0.05


class _NoRange(Exception):
    """Whoever should have them does not give them now; the text says why."""


@dataclass
class Habits:
    """What the API was seen to do in this mount; None before. Single words, written by any thread: the last to learn is
    right. `bytes_per_s` is how fast the last stream came that went on for long enough to show it."""

    stream_has_length: bool | None = None
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class Means:
    """What all runs of a mount share. `timeout_s` is how long nothing may come, `max_result_bytes` how large a result
    may be."""

    source: Source
    storage: ObjectStore
    cache: Cache
    slots: Slots
    habits: Habits
    workers: Workers
    keeping: Keeping
    timeout_s: float
    max_result_bytes: int


class Fetching:
    """`began` is called for each thread that works for it; `sink.finish` for a transfer, `ended` for a probe or a check
    when its work is about to end, the latter with what it failed with, if it did. What starts a transfer or a check
    raises CambfsError where no thread can be had. `checked_at` is when a piece of the cached file was last looked at,
    in time.monotonic seconds."""

    def __init__(
        self,
        run_id: RunId,
        means: Means,
        content: Content,
        sink: Sink,
        began: Callable[[], None],
        ended: Callable[[CambfsError | None], None],
    ) -> None:
        self._id = run_id
        self._means = means
        self._content = content
        self._sink = sink
        self._began = began
        self._ended = ended
        self.checked_at = 0.0
        self._is_checking = False
        self.stream: Transfer | None = None
        self.is_probing = False
        self._probe_began_at = 0.0
        self._stored_from: int | None = None  # where the stream's last range from storage began
        self._spans: list[Transfer] = []
        self._spans_fail = False
        self._probe_failed = False

    # Locked.

    def transfers(self) -> list[Transfer]:
        return [*self._spans, self.stream] if self.stream is not None else list(self._spans)

    def start_stream(self) -> None:
        """From the first byte that is missing to the end, or once more from the first; nothing happens
        when there is a stream."""
        if self.stream is None:
            start = 0 if self._content.needs_another_answer else self._content.filled.filled_until(0)
            self.stream = self._start(f"stream-{self._id}", self._open_stream, start, None)

    def start_span(self, offset: int, stop: int) -> None:
        """Around what is wanted; where it goes on from what is there, as far as bytes are missing. Nothing happens when
        the bytes are on their way, or two other places are being fetched, or that has failed before."""
        if self._spans_fail or len(self._spans) >= _MOST_SPANS:
            return
        if any(span.position <= offset < (span.stop_position or offset + 1) for span in self._spans):
            return
        reads_on = offset > 0 and self._content.filled.covers(offset - 1, offset)
        goal = None if reads_on else max(stop, offset + SPAN_BYTES)
        open_at = partial(self._open_span, stop=goal)
        self._spans.append(self._start(f"range-{self._id}-{offset}", open_at, offset, goal))

    def start_probe(self) -> None:
        """Nothing happens when storage was asked before, or is of no use, or cannot be asked."""
        tried = self.is_probing or self._content.sizing.probe is not None or self._probe_failed
        if tried or not self._means.storage.usable:
            return
        try:
            self._work(f"size-{self._id}", self._run_probe)
            self.is_probing = True
            self._probe_began_at = time.monotonic()
        except CambfsError as error:
            log.warning("run %d: storage cannot be asked: %s", self._id, error)
            self._probe_failed = True

    @property
    def is_probe_slow(self) -> bool:
        return self.is_probing and time.monotonic() - self._probe_began_at > _PROBE_TAKES_S

    def start_check(self, is_over: Callable[[], bool]) -> None:
        """Of the cached file; ends early when `is_over`. Nothing happens while it is going on."""
        if not self._is_checking:
            self._work(f"check-{self._id}", partial(self._run_check, is_over))
            self._is_checking = True

    def is_far(self, offset: int) -> bool:
        """Whether it is not worth waiting until the stream comes to `offset`."""
        stream = self.stream
        if stream is None or stream.begin_at is None:
            return False
        ahead = offset - stream.position
        self._learn_rate(stream, stream.begin_at)
        bytes_per_s = self._means.habits.bytes_per_s
        return ahead >= _FAR_BYTES and bytes_per_s is not None and ahead > _FAR_S * bytes_per_s

    def _learn_rate(self, stream: Transfer, begin_at: float) -> None:
        streaming_s = time.monotonic() - begin_at
        if streaming_s > _RATE_AFTER_S:
            self._means.habits.bytes_per_s = (stream.position - stream.first_position) / streaming_s

    def forget(self, transfer: Transfer, error: CambfsError | None) -> bool:
        """A transfer has ended; says whether it was the stream."""
        if transfer is not self.stream:
            self._spans.remove(transfer)
            self._spans_fail = self._spans_fail or error is not None
            return False
        if transfer.begin_at is not None:
            self._learn_rate(transfer, transfer.begin_at)
        self.stream = None
        if error is not None:
            self._probe_failed = False
        return True

    def _start(self, name: str, open_at: Callable[[int], Body], start: int, stop: int | None) -> Transfer:
        transfer = Transfer(name, self._sink, open_at, self._means.slots, self._means.timeout_s, start, stop)
        self._work(name, transfer.run)
        return transfer

    def _work(self, name: str, work: Callable[[], None]) -> None:
        self._means.workers.start(name, work)
        self._began()  # the work cannot end before: it needs the lock for that

    # In the threads of transfers and probes, not locked.

    def _open_stream(self, position: int) -> Body:
        with self._content.changed:
            if self._stored_from is not None and position - self._stored_from < _STORED_WORTH_BYTES:
                self._content.forget_ranges()  # storage broke off, too: the API is asked again
            self._stored_from = None
        body = self._open_range(position) if position > 0 else None
        if body is None:
            body = self._means.source.open_stream(self._id)
            self._means.habits.stream_has_length = body.total is not None
        return body

    def _open_span(self, position: int, stop: int | None) -> Body:
        body = self._open_range(position, stop)
        if body is not None and body.start == position:
            return body
        if body is not None:
            body.close()
        raise BadAnswer(f"run {self._id}: there are no ranges of it any more", 200)

    def _open_range(self, position: int, stop: int | None = None) -> Body | None:
        """From the API or from storage; None where neither gives ranges. One that fails to is not asked again."""
        with self._content.changed:
            etag, probe = self._content.etag, self._content.sizing.stored_ranges
        try:
            if etag is not None:
                return self._open_api_range(position, etag)
            if probe is not None:
                return self._open_stored_range(probe, position, stop)
        except _NoRange as error:
            log.info("run %d: no range of it: %s", self._id, error)
            with self._content.changed:
                self._content.forget_ranges()
        return None

    def _open_api_range(self, position: int, etag: str) -> Body:
        try:
            body = self._means.source.open_stream(self._id, position, etag)
        except BadAnswer as error:
            raise _NoRange(str(error)) from None
        if body.start != position:
            with self._content.changed:
                self._content.forget_api_ranges()
        return body

    def _open_stored_range(self, probe: Probe, position: int, stop: int | None) -> Body:
        try:
            body = self._means.storage.open(self._id, probe, position, stop)
        except (RemoteError, StorageUseless) as error:
            raise _NoRange(str(error)) from None
        if stop is None:
            self._stored_from = position
        return body

    def _ask_storage(self) -> tuple[Probe | None, CambfsError | None]:
        """What it says; or why the result cannot be had at all; neither where the stream has to tell: also when the API
        does not sign, for the stream may be well all the same."""
        try:
            probe = self._means.storage.probe(self._id)
            if probe.total > self._means.max_result_bytes:
                raise TooLarge(f"run {self._id}: the result is larger than {self._means.max_result_bytes} bytes")
            return probe, None
        except (TooLarge, Closing) as failure:
            return None, failure
        except CambfsError as error:
            log.info("run %d: storage does not tell the size: %s", self._id, error)
        except Exception:
            log.exception("run %d: the probe failed in a way that nobody foresaw", self._id)
        return None, None

    def _run_probe(self) -> None:
        probe, error = self._ask_storage()
        with self._content.changed:
            self.is_probing = False
            self._content.sizing.probe = probe
            self._probe_failed = probe is None and (error is None or self.stream is not None)
            try:
                self._content.judge()
            except CacheDamaged as damage:
                error = damage
            self._content.changed.notify_all()
        self._ended(error)

    def _run_check(self, is_over: Callable[[], bool]) -> None:
        def is_given_up() -> bool:
            self.checked_at = time.monotonic()
            return is_over()

        error: CambfsError | None = None
        try:
            self._content.check(is_given_up)
        except CambfsError as failure:
            error = failure
        except Exception:
            log.exception("run %d: the check failed in a way that nobody foresaw", self._id)
            error = CambfsError("an internal error, see the log")
        with self._content.changed:
            self._is_checking = False
        self._ended(error)
