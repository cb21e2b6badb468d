"""What has arrived of one run: its bytes and its size, taken from the cache and from the answers that come.

Not who fetches or who waits (`run`). Threads: transfers put bytes in while callers take some out. `changed` guards all
that its comment names, and is notified whenever more is known; files are written and read outside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition, RLock

from cambfs import flac
from cambfs.cache.cache import Cache, Taken
from cambfs.cache.ranges import RangeSet
from cambfs.cache.spool import Spool
from cambfs.errors import BrokenBody, CacheDamaged, ResultChanged, TooLarge
from cambfs.model import Facts
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES, Storage
from cambfs.remote.source import Body
from cambfs.runs.sizing import Sizing

log = logging.getLogger(__name__)

_NOTHING = RangeSet()


class Content:
    """Nothing is there before `load`. Whoever calls a method with "locked" in its contract holds `changed`."""

    def __init__(
        self,
        run_id: RunId,
        cache: Cache,
        storage: Storage,
        facts: Facts | None,
        is_believed: bool,
        tell: Callable[[RunId, Facts | None, bool], None],
        max_bytes: int,
    ) -> None:
        self._id = run_id
        self._max_bytes = max_bytes
        self._cache = cache
        self.lock = RLock()
        self.changed = Condition(self.lock)  # guards all below
        self.sizing = Sizing(run_id, storage, facts, is_believed, tell)
        self.is_begun = False  # there is audio: some of it came, or its headers did
        self.is_whole = False
        self._spool: Spool | None = None
        self._unchecked: Taken | None = None  # what the cache has, and of which nothing is used before `check`
        self._is_loaded = False
        self._is_kept = False  # it is in the cache, or was refused there
        self._end_is_loose = False  # nothing proved that the stream's end is the result's
        self._loose_end_bytes = -1  # where an answer ended of which nothing proves that it was whole
        self._content_type = ""
        self._api_refuses_ranges = False

    def load(self) -> None:
        """Takes what the cache has, the first time. Locked."""
        if self._is_loaded:
            return
        taken = self._cache.take(self._id)
        self._is_loaded = True
        if taken is not None and taken.must_be_checked:
            self._unchecked = taken
        elif taken is not None:
            self._use(taken)

    def _use(self, taken: Taken) -> None:
        self._spool, self.is_begun = taken.spool, True
        if taken.facts is not None:
            self.sizing.load(taken.facts)
        self.is_whole = self._is_kept = taken.whole  # last: `stop_if_whole` looks without the lock

    @property
    def must_be_checked(self) -> bool:
        """The cache has a file that has to be read through with `check` before anything else. Locked."""
        return self._unchecked is not None

    def check(self, is_given_up: Callable[[], bool]) -> None:
        """Reads the cached file through, which takes long, not locked; afterwards the result is whole, or nothing of it
        is there. Raises Closing when `is_given_up`."""
        taken = self._unchecked
        assert taken is not None
        try:
            self._cache.check(self._id, taken.spool, is_given_up)
            is_right = True
        except CacheDamaged:
            taken.spool.close()
            is_right = False
        with self.changed:
            self._unchecked = None
            if is_right:
                self._use(taken)
            self.changed.notify_all()

    @property
    def spool(self) -> Spool:
        """Locked, for the first use makes it."""
        if self._spool is None:
            self._spool = self._cache.new_spool(self._id)
        return self._spool

    @property
    def filled(self) -> RangeSet:
        return self._spool.filled if self._spool is not None else _NOTHING

    @property
    def etag(self) -> str | None:
        """The validator for ranges from the API; None when there are none."""
        return self._spool.etag if self._spool is not None and self._spool.has_ranges else None

    @property
    def size(self) -> int | None:
        facts = self.sizing.facts
        return facts.size if facts is not None else None

    @property
    def has_ranges(self) -> bool:
        """Whether a range of just this result can be had: from the API, which showed a validator, or from storage,
        whose object is the same file."""
        return self.etag is not None or self.sizing.stored_ranges is not None

    @property
    def is_complete(self) -> bool:
        """Every byte is here, and the size is beyond doubt. Locked."""
        facts = self.sizing.facts
        return facts is not None and self.sizing.is_confirmed and self.filled.covers(0, facts.size)

    def forget_ranges(self) -> None:
        """They do not work after all. Locked."""
        self.sizing.twin = False
        if self._spool is not None:
            self._spool.has_ranges = False

    def forget_api_ranges(self) -> None:
        """The API said that it gives ranges, and does not. Locked."""
        self._api_refuses_ranges = True
        self.spool.has_ranges = False

    def stop_if_there(self, offset: int, stop: int) -> int | None:
        """Where a read of offset … stop ends; None as long as some of it is missing. Locked."""
        size = self.size
        if size is None or stop <= size:
            return stop if self.filled.covers(offset, stop) else None
        if not self.filled.covers(offset, size):
            return None
        # A result that has changed since may be longer. The stream that has come there is about to tell.
        return None if self.sizing.is_of_before and self.filled.covers(0, size) else max(offset, size)

    def stop_if_whole(self, stop: int) -> int | None:
        """Where a read that is to go to `stop` ends; None when the result is not whole. Not locked."""
        size = self.size
        return min(stop, size) if self.is_whole and size is not None else None

    def judge(self) -> None:
        """Something came that may tell the size. Locked."""
        self.sizing.judge(self._spool)

    # What an answer brings, in a transfer's thread.

    def begin(self, body: Body) -> None:
        """Its headers. Raises ResultChanged, TooLarge."""
        self._check_limit(body.total or 0)
        with self.changed:
            if body.start == 0:
                is_other = self.spool.etag is not None and body.etag not in (None, self.spool.etag)
                if is_other and self.filled.total:
                    raise ResultChanged(f"run {self._id}: the API has another result than before")
                self.spool.etag = body.etag
                self.spool.has_ranges = body.ranges and not self._api_refuses_ranges
                self._content_type = body.content_type
            if body.total is not None:
                self.sizing.header(body.total, body.modified_s, is_begun=self.filled.total > 0)
            self.is_begun = True
            self.changed.notify_all()

    def write(self, position: int, data: bytes) -> None:
        """Its bytes; those that are here already are compared. They are not there before `add` says so. Raises
        ResultChanged, TooLarge, NoSpace."""
        stop = position + len(data)
        self._check_limit(stop)
        with self.changed:
            spool = self.spool
            if self.sizing.exceeded_by(stop):
                raise ResultChanged(f"run {self._id}: the result is longer than before")
            known = spool.filled.within(position, stop)
        for a, b in known:
            if spool.read(a, b - a) != data[a - position : b - position]:
                raise ResultChanged(f"run {self._id}: byte {a} or one after it is not what it was before")
        if known != [(position, stop)]:
            spool.write(position, data)
        if position == 0 and not known and not flac.MAGIC.startswith(data[: len(flac.MAGIC)]):
            what = "WAV" if data[:4] == b"RIFF" else "something else"
            log.warning("run %d: the audio is not FLAC but %s; it is served as it is", self._id, what)

    def add(self, start: int, stop: int) -> None:
        """Bytes that were written are there. Locked; the caller tells those who wait."""
        self.spool.filled.add(start, stop)
        self.judge()

    def _check_limit(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"run {self._id}: the result is larger than {self._max_bytes} bytes")

    def end(self, position: int, body: Body, *, is_doubtful: bool) -> None:
        """Its end. Raises BrokenBody when that is not the end of the result."""
        loose = is_doubtful and not self._is_proven_end(position, body)
        with self.changed:
            if loose and not body.framed:
                self._check_ends_agree(position)
            self.sizing.end(position, body.modified_s)
            self._end_is_loose = loose
            self.judge()
            self.changed.notify_all()

    def is_doubtful(self, position: int, body: Body) -> bool:
        """Whether the body's end alone does not prove it to be the result's: it just ended with its connection, or it
        is as long as its header said, but its last samples are missing."""
        if not body.framed:
            return True
        if body.total is None:
            return False
        head, tail = self._head_and_tail(position)
        info = flac.stream_info(head)
        return info is not None and info.samples > 0 and not flac.is_whole(head, tail)

    def _check_ends_agree(self, position: int) -> None:
        """A connection that broke looks just like this end. Where the audio tells its length, or has not even begun, it
        is too short; else it takes two answers that end at the same byte."""
        head = self.spool.read(0, min(position, HEAD_BYTES))
        info = flac.stream_info(head)
        before, self._loose_end_bytes = self._loose_end_bytes, position
        is_short = flac.is_cut_short(head, position) or (info is not None and info.samples > 0)
        if is_short or position != before or self.spool.filled.filled_until(0) != position:
            raise BrokenBody(f"run {self._id}: the connection ended at byte {position}, perhaps too early")

    def _is_proven_end(self, position: int, body: Body) -> bool:
        """Of a body whose end is doubtful: storage knows the length, or else the audio itself does (which was looked at
        already where the header tells a length)."""
        with self.changed:
            probe = self.sizing.probe if self.sizing.twin else None
        if probe is not None and position < probe.total:
            raise BrokenBody(f"run {self._id}: the body ended at byte {position} of {probe.total}")
        if probe is not None and position == probe.total:
            return True
        return not body.framed and flac.is_whole(*self._head_and_tail(position))

    def _head_and_tail(self, position: int) -> tuple[bytes, bytes]:
        """Of what comes before `position`, as much as `flac.is_whole` wants."""
        with self.changed:
            head = self.spool.read(0, min(position, HEAD_BYTES))
            tail_bytes = min(position, flac.tail_bytes_wanted(head))
            return head, self.spool.read(position - tail_bytes, tail_bytes)

    # What becomes of it.

    def note_whole(self) -> Facts | None:
        """Notes whether nothing is missing any more; returns the facts, once, when it should be kept. Locked."""
        facts = self.sizing.facts
        self.is_whole = self.is_whole or self.is_complete
        if not self.is_whole or self._is_kept or self._end_is_loose:
            return None
        self._is_kept = True
        return facts

    def keep(self, facts: Facts) -> None:
        """Puts the whole result in the cache. Not locked."""
        self._cache.commit(self._id, self.spool, facts, self._content_type, "framing")

    def check_unchanged(self) -> None:
        """Raises CacheDamaged when the cached file that has the bytes was changed. Locked."""
        if self._spool is not None:
            self._spool.check_unchanged()

    def leave_disk(self) -> None:
        """Gives up the temporary name of its bytes, if they have one. Locked."""
        if self._spool is not None:
            self._spool.discard_name()

    def give_back(self) -> None:
        """The cache keeps what it can use of it, and closes the rest. The last call."""
        if self._unchecked is not None:
            self._cache.give(self._id, self._unchecked.spool, whole=True, facts=None)
        if self._spool is not None:
            whole = self.is_whole and not self._end_is_loose
            self._cache.give(self._id, self._spool, whole=whole, facts=self.sizing.facts)

    def condemn(self) -> None:
        """Its bytes are wrong: not kept, also if that is just being done. Locked."""
        if self._spool is not None:
            self._spool.is_condemned = True

    def throw_away(self) -> None:
        """Its bytes are wrong. The last call."""
        if self._unchecked is not None:
            self._unchecked.spool.close()
        if self._spool is not None:
            self._spool.close()
