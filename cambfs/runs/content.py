"""What has arrived of one run: its bytes and its size, taken from the cache and from the answers that come.

Not who fetches or who waits (`run`). Threads: transfers put bytes in while callers take some out. `changed` guards all
that its comment names, and is notified whenever more is known; files are written and read outside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Condition, RLock

from cambfs import audio, flac
from cambfs.audio import End
from cambfs.cache.cache import Cache, Taken
from cambfs.cache.ranges import RangeSet
from cambfs.cache.spool import Spool
from cambfs.errors import BrokenBody, CacheDamaged, NotWhole, ResultChanged, TooLarge
from cambfs.model import Facts
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES, ObjectStore
from cambfs.remote.source import Body
from cambfs.runs.proof import UNPROVEN, Claims, proof_of
from cambfs.runs.sizing import Sizing

log = logging.getLogger(__name__)

_NOTHING = RangeSet()


class Content:
    """Nothing is there before `load`. Whoever calls a method with "locked" in its contract holds `changed`."""

    def __init__(
        self,
        run_id: RunId,
        cache: Cache,
        storage: ObjectStore,
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
        self._proof: str | None = None  # how the end is proven, as `proof_of` says
        self._ended_at = -1  # where an answer ended of which nothing proves that it was whole
        self._ends_in_itself_at = -1  # the size at which the structure of what is here shows the end
        self._content_type = ""
        self._api_refuses_ranges = False

    def load(self) -> None:
        """Takes what the cache has, the first time. Locked."""
        if self._is_loaded:
            return
        self._is_loaded = True
        taken = self._cache.take(self._id)
        if taken is not None and taken.must_be_checked:
            self._unchecked = taken
        elif taken is not None:
            self._use(taken)

    def _use(self, taken: Taken) -> None:
        self._spool, self.is_begun = taken.spool, True
        if taken.facts is not None:
            self.sizing.load(taken.facts)
        self._proof = UNPROVEN if taken.whole else None
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
        """Every byte is here, and the end is proven. Locked."""
        size = self.size
        if size is None or not self.filled.covers(0, size):
            return False
        if self._proof is None:
            self._proof = self._proof_without_end(size)
        return self._proof is not None

    def _proof_without_end(self, size: int) -> str | None:
        """All is here, perhaps from several answers, and no stream came to its end."""
        framed = self.sizing.is_claimed_by_api(size)
        claims = Claims(size, framed, self._end_at(size), self.sizing.stored_bytes, again=False)
        proof = proof_of(claims)
        return UNPROVEN if proof is None and self.sizing.claimed_by(size) > 1 else proof

    def forget_ranges(self) -> None:
        """They do not work after all. Locked."""
        self.sizing.matches_stream = False
        if self._spool is not None:
            self._spool.has_ranges = False

    def forget_api_ranges(self) -> None:
        """The API said that it gives ranges, and does not. Locked."""
        self._api_refuses_ranges = True
        self.spool.has_ranges = False

    def stop_if_there(self, offset: int, stop: int) -> int | None:
        """Where a read of offset … stop ends; None as long as some of it is missing, or it is not known that the result
        ends there. Locked."""
        size = self.size
        if size is None or stop < size:
            return stop if self.filled.covers(offset, stop) else None
        if not self.filled.covers(offset, size) or not self._is_end_seen(size):
            return None
        return max(offset, size)

    def _is_end_seen(self, size: int) -> bool:
        """Whether the result ends at `size` for all that is known: that was proven, or the structure of the bytes shows
        it, or two who can know it say so."""
        if self.is_complete or self._ends_in_itself_at == size:
            return True
        if self.sizing.is_of_before and self.filled.covers(0, size):
            return False  # it may have changed since; the stream that has come there is about to tell
        if self._end_at(size) is End.WHOLE:
            self._ends_in_itself_at = size
            return True
        return self.sizing.claimed_by(size) > 1

    def _end_at(self, size: int) -> End:
        """What the structure of the bytes that are here says of an end there. Locked."""
        head = self.spool.read(0, min(size, HEAD_BYTES)) if self.filled.covers(0, min(size, HEAD_BYTES)) else b""
        start = max(size - audio.tail_bytes_wanted(head), 0)
        if not head or not self.filled.covers(start, size):
            return End.UNKNOWN
        if any(stop > size for _, stop in self.filled):
            return End.BROKEN  # another answer went on
        return audio.end_of(head, self.spool.read(start, size - start), size)

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
            container = audio.signature(data) or "of another kind"
            log.warning("run %d: the audio is not FLAC but %s; it is served as it is", self._id, container)

    def add(self, start: int, stop: int) -> None:
        """Bytes that were written are there. Locked; the caller tells those who wait."""
        self.spool.filled.add(start, stop)
        self.judge()

    def _check_limit(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"run {self._id}: the result is larger than {self._max_bytes} bytes")

    def end(self, position: int, body: Body, *, is_open: bool) -> int | None:
        """Its end: None when that is the end of the result, else the byte from which to ask again. `is_open` says that
        somebody has the result open. Raises NotWhole when answers go on ending there; BrokenBody when it is only the
        connection that ended. Locked."""
        claims = self._claims(position, body)
        proof = proof_of(claims)
        if proof is not None:
            self.sizing.end(position, body.modified_s, is_open=is_open)
            self._proof = proof
            self.judge()
            return None
        self.sizing.refute(position)
        if not body.framed and _is_contradicted(claims):
            raise BrokenBody(f"run {self._id}: the connection ended at byte {position}, and {_doubt(claims)}")
        if claims.again:
            raise NotWhole(f"run {self._id}: what comes ends at byte {position}, and {_doubt(claims)}")
        self._ended_at = position
        log.info("run %d: an answer ended at byte %d, and %s; asking again", self._id, position, _doubt(claims))
        is_cut_off = claims.stored is not None and claims.stored > position
        return position if is_cut_off and self.sizing.stored_ranges is not None else 0

    def is_proven_end(self, position: int, body: Body) -> bool:
        """Locked."""
        return proof_of(self._claims(position, body)) is not None

    def is_doubtful(self, position: int, body: Body) -> bool:
        """Whether storage may tell more of an end than is known so far. Locked."""
        return self.sizing.probe is None and proof_of(self._claims(position, body)) in (None, UNPROVEN)

    def _claims(self, position: int, body: Body) -> Claims:
        stored, end = self.sizing.stored_bytes, self._end_at(position)
        if not body.framed and flac.is_cut_short(self.spool.read(0, min(position, HEAD_BYTES)), position):
            end = End.BROKEN
        return Claims(position, body.framed, end, stored, again=self._ended_at == position)

    @property
    def needs_another_answer(self) -> bool:
        """All that an answer brought is here, and nothing else says that this is all. Locked."""
        return self._ended_at >= 0 and not self.is_complete

    # What becomes of it.

    def note_whole(self) -> Facts | None:
        """Notes whether nothing is missing any more; returns the facts, once, when it should be kept. Locked."""
        facts = self.sizing.facts
        self.is_whole = self.is_whole or self.is_complete
        if not self.is_whole or self._is_kept or not self._proof:
            return None
        self._is_kept = True
        return facts

    def keep(self, facts: Facts) -> None:
        """Puts the whole result in the cache. Not locked."""
        self._cache.commit(self._id, self.spool, facts, self._content_type)

    def leave_disk(self) -> None:
        """Gives up the temporary name of its bytes, if they have one. Locked."""
        if self._spool is not None:
            self._spool.discard_name()

    def give_back(self) -> None:
        """The cache keeps what it can use of it, and closes the rest. The last call."""
        if self._unchecked is not None:
            self._cache.give(self._id, self._unchecked.spool, whole=True, facts=None)
        if self._spool is not None:
            whole = self.is_whole and (self._is_kept or bool(self._proof))
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


def _is_contradicted(claims: Claims) -> bool:
    return claims.end is End.BROKEN or claims.stored not in (None, claims.position)


def _doubt(claims: Claims) -> str:
    if claims.end is End.BROKEN:
        return "the audio does not"
    if claims.stored not in (None, claims.position):
        return f"storage has {claims.stored} bytes"
    return "nothing else says so"
