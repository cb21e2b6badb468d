"""What is fetched for one run, given what is wanted of it: audio, a size, or certain bytes.

It decides, and the downloader does it. No threads and no lock of its own: its owner holds the lock of the run for
every method, and calls it again and again while a caller waits.
"""

from __future__ import annotations

from cambfs.intake.content import Content
from cambfs.sizes.stored_end import StoredEnd
from cambfs.transfers.context import Context
from cambfs.transfers.downloader import Downloader
from cambfs.transfers.transfer import Transfer


class Demand:
    """Its methods start what is missing, and return at once. They raise CambfsError where no thread can be had."""

    def __init__(self, context: Context, content: Content, downloader: Downloader) -> None:
        self._context = context
        self._content = content
        self._downloader = downloader
        self._read_until = 0  # where reads in order have come
        self._proves_storage = False  # the other runs wait for this one's comparison

    def audio(self) -> None:
        """All of the result."""
        if self._content.is_whole:
            return
        self.stream()
        if self._content.size is None and self._context.api.stream_has_length is False:
            self.size()
        elif not self._content.sizing.is_time_told and self._context.api.stream_tells_time is False:
            self.measure()  # a program that opens a file asks for its time next

    def size(self) -> None:
        is_header_to_come = self._downloader.is_header_to_come and not self._content.is_begun
        if not (is_header_to_come and self._context.api.stream_has_length):
            self.measure()
        if (self._content.size is None and self._is_stream_needed()) or self._may_stream_tell_time():
            self.stream()

    def head(self) -> None:
        """The first bytes: storage sends them beside the size. Where that is of no use, the stream has them."""
        self.probe()
        if not self._downloader.is_probing or self._downloader.is_probe_slow:
            self.stream()

    def measure(self) -> None:
        """As `probe`, for the size and the time: beside a stream, the end of the object tells them."""
        loader, sizing, store = self._downloader, self._content.sizing, self._context.store
        if sizing.probe is not None or loader.is_size_to_come:
            return
        if sizing.stored_end is None and loader.stream is not None and store.ends_suffice:
            loader.start_probe(store.probe_end)
        elif sizing.stored_end is None or (self._content.size is None and not self._is_head_to_come(sizing.stored_end)):
            loader.start_probe(store.probe)

    def _is_head_to_come(self, end: StoredEnd) -> bool:
        """Whether the stream is about to bring the head that belongs to this end."""
        loader = self._downloader
        return end.is_agreed is None and loader.stream is not None and loader.is_probe_recent

    def probe(self) -> None:
        """What storage knows, unless another machine is about to tell it."""
        if not self._downloader.is_size_to_come:
            self._probe()

    def _probe(self) -> None:
        if self._content.sizing.probe is None:
            self._downloader.start_probe(self._context.store.probe)

    def bytes(self, offset: int, stop: int) -> None:
        """Those of offset … stop that are missing."""
        self.stream()
        missing = self._content.missing(offset, stop)
        if missing is None:
            return
        if self._reads_on(offset, stop) or not self._downloader.is_far(missing[0]):
            self._widen(missing[0])
            return
        self._downloader.beside.clear()
        offset, stop = missing
        if not self._content.has_ranges:
            self._probe()
            return
        reads_on = offset > 0 and self._content.filled.covers(offset - 1, offset)
        goal = None if reads_on else max(stop, offset + self._context.tuning.span_bytes)
        self._downloader.start_span(offset, goal)

    def _reads_on(self, offset: int, stop: int) -> bool:
        """Whether a read follows those before it: no seek, even if the kernel reads further ahead than the stream is
        worth waiting for."""
        stream = self._downloader.stream
        front = max(self._read_until, stream.position if stream is not None else 0)
        if offset > front + self._context.tuning.far_bytes:  # reads come out of order
            return False
        self._read_until = max(front, stop)
        return True

    def _widen(self, offset: int) -> None:
        """A reader that reads on in order waits for the stream at `offset`: more connections may bring more."""
        size, came_bytes = self._content.size, self._content.filled.total
        if size is not None and offset >= self._context.tuning.far_bytes:  # else it may only look at the head
            self._downloader.beside.consider(came_bytes, size - came_bytes)
            self.ranges_beside()

    def ranges_beside(self) -> None:
        """Ranges beside the stream, as many as help it. They come from storage that is proven to have this result. The
        last of them proves the end of it, before the stream comes there, so storage's end must be beyond doubt."""
        loader, size = self._downloader, self._content.size
        if size is None or loader.stream is None or not loader.beside.is_open:
            return
        probe = self._content.sizing.stored_ranges
        if not loader.has_link_alone:
            loader.beside.hold()
        elif probe is None:
            self._probe()
        elif probe.total == size and self._content.sizing.is_stored_whole:
            loader.beside.fill(loader.stream.position, size, self._content.filled)

    def is_time_to_come(self) -> bool:
        """Whether storage is about to report the time of the result, or the stream to prove or refute storage."""
        loader, sizing = self._downloader, self._content.sizing
        if loader.is_size_to_come:
            return True
        is_comparing = loader.stream is not None and sizing.probe is not None and not sizing.is_compared
        return loader.is_probe_recent and (loader.is_probing or is_comparing or self._may_stream_tell_time())

    def _may_stream_tell_time(self) -> bool:
        """Storage does not report the time, and streams of this API may."""
        may_tell = self._context.api.stream_tells_time is not False
        return may_tell and self._content.sizing.is_time_left_out and not self._content.is_begun

    def is_comparing(self, transfer: Transfer, position: int) -> bool:
        """Whether a transfer that is at `position` brings bytes once more, to be compared with those that are here."""
        if position < transfer.first_position:
            return True
        return transfer is self._downloader.stream and self._content.needs_another_response

    def is_reached(self, transfer: Transfer, position: int) -> bool:
        """Whether a transfer that is at `position`, and compares nothing, has come to its goal, or to bytes that are
        here. A stream passes a few of them, since going on behind them costs a request."""
        if transfer.stop_position is not None and position >= transfer.stop_position:
            return True
        here_bytes = self._content.filled.filled_until(position) - position
        if transfer is not self._downloader.stream:
            return here_bytes > 0
        return here_bytes >= self._worth_a_request(position) and self._content.has_ranges

    def _worth_a_request(self, position: int) -> int:
        """With so many bytes here behind `position`, the stream rather asks for what follows them. Where a range is
        under way, they are more: it may be slow, and then the stream overtakes it."""
        tuning = self._context.tuning
        return tuning.overtake_bytes if self._downloader.beside.is_at_work_at(position) else tuning.span_bytes

    def end(self) -> None:
        """The run is not used any more."""
        if self._proves_storage and not self._context.store.trust.proven:
            self._context.store.trust.give_up_proof()

    def stream(self) -> None:
        """The bytes from the first that is missing on, or once more from the first."""
        start = 0 if self._content.needs_another_response else self._content.filled.filled_until(0)
        self._downloader.start_stream(start)

    def _is_stream_needed(self) -> bool:
        """Whether the size cannot be known without the stream: storage does not report it, or is not trusted yet."""
        store, has_answered = self._context.store, self._content.sizing.probe is not None
        if self._downloader.stream is not None:
            return False
        if self._downloader.is_probe_slow or (not self._downloader.is_probing and not has_answered):
            return True
        if store.trust.proven:
            return has_answered  # and yet the size is not known: it is no FLAC, or another
        if not store.trust.distrusted and not self._proves_storage:
            self._proves_storage = store.trust.claim_proof()
        return store.trust.distrusted or self._proves_storage
