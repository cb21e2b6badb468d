"""The bytes of one run that are here, from the cache and from responses.

No lock of its own: its owner holds the lock of the run for every method, except those whose docstring says otherwise.
Those touch files and take long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cambfs import audio, flac
from cambfs.cache.cache import Acquired, Cache
from cambfs.disk.ranges import RangeSet
from cambfs.disk.spool import Spool
from cambfs.errors import CacheDamaged, ResultChanged, TooLarge
from cambfs.model import Arrived, RunInfo
from cambfs.names import RunId
from cambfs.remote.source import Body
from cambfs.sizes.completeness import Completeness
from cambfs.sizes.sizing import Sizing
from cambfs.sizes.stored_end import head_of
from cambfs.tier.upload import Reach

log = logging.getLogger(__name__)

_NOTHING = RangeSet()


class Content:
    """Nothing is there before `load`."""

    def __init__(self, run_id: RunId, cache: Cache, sizing: Sizing, max_bytes: int) -> None:
        self.sizing = sizing
        self.is_begun = False  # there is audio: some of it came, or its headers did
        self.is_whole = False
        self._id = run_id
        self._cache = cache
        self._max_bytes = max_bytes
        self._spool: Spool | None = None
        self._unchecked: Acquired | None = None  # from the cache; not used before `check`
        self._is_loaded = False
        self._is_kept = False  # it is in the cache, or the cache refused it
        self._completeness = Completeness(run_id, sizing)
        self._content_type = ""
        self._api_refuses_ranges = False

    # From the cache.

    def load(self) -> None:
        """Takes what the cache has. Only the first call does anything."""
        if self._is_loaded:
            return
        acquired = self._cache.acquire(self._id)
        self._is_loaded = True
        if acquired is not None and acquired.must_be_checked:
            self._unchecked = acquired
        elif acquired is not None:
            self._use(acquired)

    def _use(self, acquired: Acquired) -> None:
        self._spool, self.is_begun = acquired.spool, True
        if acquired.info is not None and acquired.whole:  # that of a part is a claim
            self.sizing.load(acquired.info)
        if acquired.whole:
            self._completeness.load()
        self.is_whole = self._is_kept = acquired.whole  # last: `stop_if_whole` looks without the lock

    @property
    def must_be_checked(self) -> bool:
        """The cache has a file that has to be read through with `check` before anything else."""
        return self._unchecked is not None

    def check(self, is_cancelled: Callable[[], bool]) -> bool:
        """Reads the cached file through, which takes long, without the lock. Returns whether it is right, for
        `checked`. Raises Closing when `is_cancelled`."""
        assert self._unchecked is not None
        try:
            self._cache.check(self._id, self._unchecked.spool, is_cancelled)
        except CacheDamaged:
            self._unchecked.spool.close()
            return False
        return True

    def checked(self, is_right: bool) -> None:
        """The cached bytes are used if they are right, else discarded."""
        acquired, self._unchecked = self._unchecked, None
        if is_right and acquired is not None:
            self._use(acquired)

    # What is here.

    @property
    def spool(self) -> Spool:
        """Made at the first use. Raises NoSpace."""
        if self._spool is None:
            self._spool = self._cache.new_spool(self._id)
        return self._spool

    @property
    def filled(self) -> RangeSet:
        return self._spool.filled if self._spool is not None else _NOTHING

    @property
    def size(self) -> int | None:
        return self.sizing.size

    def stop_if_there(self, offset: int, stop: int) -> int | None:
        """Where a read of offset … stop ends. None while bytes are missing, or the end of the result is uncertain."""
        size = self.size
        if size is None or stop < size:
            return stop if self.filled.covers(offset, stop) else None
        is_there = self.filled.covers(offset, size) and self._is_end_seen(size)
        return max(offset, size) if is_there else None

    def _is_end_seen(self, size: int) -> bool:
        return self._spool is not None and self._completeness.is_end_seen(self._spool, size)

    def missing(self, offset: int, stop: int) -> tuple[int, int] | None:
        """The first bytes that a read of offset … stop waits for: its own, or the last of the result, which show where
        it ends. None where only the end of a response can show that."""
        size = self.size
        if size is None or stop < size:
            return self.filled.gap(offset, stop)
        head = head_of(self._spool, size) if self._spool is not None else b""
        window = audio.tail_bytes_wanted(head) if head else 0
        return self.filled.gap(max(min(offset, size - window), 0), size)

    @property
    def head(self) -> bytes:
        """The first bytes, those that are here or else storage's, if its length counts; b"" before."""
        return (head_of(self._spool, self.size) if self._spool is not None else b"") or self.sizing.stored_head

    def arrived(self) -> Arrived:
        head = head_of(self._spool, self.size) if self._spool is not None and self.filled.total else b""
        return Arrived(self.filled.total, self.size, head, is_cached=False)

    def stop_if_whole(self, stop: int) -> int | None:
        """Where a read up to `stop` ends; None when the result is not complete. Without the lock."""
        size = self.size
        return min(stop, size) if self.is_whole and size is not None else None

    @property
    def is_complete(self) -> bool:
        """Every byte is here, and the end is proven."""
        return self._spool is not None and self._completeness.is_complete(self._spool)

    @property
    def needs_another_response(self) -> bool:
        """All that a response brought is here, and nothing else says that this is all."""
        return self._spool is not None and self._completeness.needs_another_response(self._spool)

    # Ranges.

    @property
    def etag(self) -> str | None:
        """The validator for ranges from the API; None when there are none."""
        return self._spool.etag if self._spool is not None and self._spool.has_ranges else None

    @property
    def has_ranges(self) -> bool:
        """Whether ranges of this very result are available: from the API, which sent a validator, or from storage,
        whose object is the same file."""
        return self.etag is not None or self.sizing.stored_ranges is not None

    @property
    def is_validated(self) -> bool:
        """The API showed a validator, so that another response of it shows whether the result has changed."""
        return self._spool is not None and self._spool.etag is not None

    def forget_ranges(self) -> None:
        """Neither the API nor storage gives ranges after all."""
        self.sizing.matches_stream = False
        if self._spool is not None:
            self._spool.has_ranges = False

    def forget_api_ranges(self) -> None:
        """The API announced ranges, and does not give them."""
        self._api_refuses_ranges = True
        self.spool.has_ranges = False

    # From a response.

    def begin(self, body: Body) -> None:
        """Its headers. Raises ResultChanged, TooLarge."""
        self.check_limit(body.total or 0)
        if body.start == 0:
            is_other = self.spool.etag is not None and body.etag not in (None, self.spool.etag)
            if is_other and self.filled.total:
                raise ResultChanged(f"run {self._id}: the API has another result than before")
            self.spool.etag = body.etag
            self.spool.has_ranges = body.ranges and not self._api_refuses_ranges
            self._content_type = body.content_type
        if not body.is_stored:
            self.sizing.streamed_s = body.modified_s
        if body.total is not None and not body.is_stored:
            self.sizing.header(body.total, is_begun=self.filled.total > 0)
        self.is_begun = True

    def place(self, position: int, length: int) -> tuple[Spool, list[tuple[int, int]]]:
        """The spool for `write`, and the parts of these bytes that are here already. Raises ResultChanged, TooLarge,
        NoSpace."""
        stop = position + length
        self.check_limit(stop)
        if self.sizing.exceeded_by(stop):
            raise ResultChanged(f"run {self._id}: the result is longer than before")
        return self.spool, self.spool.filled.within(position, stop)

    def write(self, spool: Spool, known: list[tuple[int, int]], position: int, data: bytes) -> None:
        """Writes bytes, without the lock, and compares those that are `known`. They count only after `add`. Raises
        ResultChanged, NoSpace."""
        for a, b in known:
            if spool.read(a, b - a) != data[a - position : b - position]:
                raise ResultChanged(f"run {self._id}: the bytes from {a} on differ from those of before")
        if known != [(position, position + len(data))]:
            spool.write(position, data)
        if position == 0 and not known and not flac.MAGIC.startswith(data[: len(flac.MAGIC)]):
            container = audio.signature(data) or "of another kind"
            log.warning("run %d: the audio is not FLAC but %s; it is served as it is", self._id, container)

    def add(self, start: int, stop: int) -> None:
        """The bytes that were written count from now on."""
        self.spool.filled.add(start, stop)

    def judge(self) -> bool | None:
        """As `Sizing.judge`."""
        return self.sizing.judge(self._spool)

    def check_limit(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"run {self._id}: the result is larger than {self._max_bytes} bytes")

    # Where a response ends.

    def is_doubtful(self, position: int, body: Body) -> bool:
        """As `Completeness.is_doubtful`."""
        return self._completeness.is_doubtful(self.spool, position, body)

    def prove(self, position: int, body: Body) -> bool:
        """As `Completeness.prove`."""
        return self._completeness.prove(self.spool, position, body)

    def ask_again_from(self, position: int, body: Body) -> int:
        """As `Completeness.ask_again_from`."""
        return self._completeness.ask_again_from(self.spool, position, body)

    # Shared with other machines.

    def hear(self, info: RunInfo, proof: str) -> None:
        """Another machine trusts this size and time; `proof` is "" before all bytes came from it."""
        self.sizing.hear(info)
        if proof:
            self._completeness.attest(info.size, proof)

    def reach(self) -> Reach:
        """How far it is here."""
        info = None if self.sizing.is_unverified else self.sizing.info
        proof = self._completeness.proof if self.is_complete else None
        return Reach(self.filled.filled_until(0), info, proof or "", self._content_type)

    # To the cache.

    def note_whole(self) -> bool:
        """Notes whether nothing is missing any more; says, once, that it should be kept."""
        self.is_whole = self.is_whole or self.is_complete
        if not self.is_whole or self._is_kept or not self._completeness.proof:
            return False
        self._is_kept = True
        return True

    def keep(self, info: RunInfo) -> None:
        """Puts the complete result into the cache. Without the lock."""
        proof = self._completeness.proof
        assert proof, "what is not proven is not kept"
        self._cache.commit(self._id, self.spool, info, self._content_type, proof)

    @property
    def kept_spool(self) -> Spool | None:
        """The cached file with the complete result, if there is one."""
        return self._spool if self.is_whole else None

    def unlink(self) -> None:
        """Removes the temporary name of its bytes, if they have one."""
        if self._spool is not None:
            self._spool.discard_name()

    def release(self) -> None:
        """Returns the bytes to the cache, which keeps or closes them. The last call."""
        if self._unchecked is not None:
            self._cache.release(self._id, self._unchecked.spool, whole=True, info=None)
        if self._spool is not None:
            whole = self.is_whole and (self._is_kept or bool(self._completeness.proof))
            self._cache.release(self._id, self._spool, whole=whole, info=self.sizing.info)

    def invalidate(self) -> None:
        """Its bytes are wrong: they are not kept, even if a commit is under way."""
        if self._spool is not None:
            self._spool.is_invalid = True

    def discard(self) -> None:
        """Closes its bytes, which are wrong. The last call."""
        if self._unchecked is not None:
            self._unchecked.spool.close()
        if self._spool is not None:
            self._spool.close()
