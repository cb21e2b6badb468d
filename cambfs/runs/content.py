"""What has arrived of one run: its bytes and what is known of its size, from the cache and from the responses that
come.

Not who fetches or who waits. No lock of its own: the run that owns it holds its lock for every method but those that
say otherwise, which touch files and would hold up everybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from cambfs import audio, flac
from cambfs.audio import End
from cambfs.cache.cache import Acquired, Cache
from cambfs.cache.ranges import RangeSet
from cambfs.cache.spool import Spool
from cambfs.errors import BrokenBody, CacheDamaged, NotWhole, ResultChanged, TooLarge
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES
from cambfs.remote.source import Body
from cambfs.runs.sizing import UNPROVEN, Claims, Sizing, proof_of

log = logging.getLogger(__name__)

_NOTHING = RangeSet()
# Answers that end here and there, and nowhere provably, are not asked for for ever.
_MOST_UNPROVEN_ENDS = 4


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
        self._unchecked: Acquired | None = None  # what the cache has, and of which nothing is used before `check`
        self._is_loaded = False
        self._is_kept = False  # it is in the cache, or was refused there
        self._proof: str | None = None  # how the end is proven, as `proof_of` says
        self._unproven_ends = 0
        self._ended_at = -1  # where a response ended of which nothing proves that it was whole
        self._ends_in_itself_at = -1  # the size at which the structure of what is here shows the end
        self._content_type = ""
        self._api_refuses_ranges = False

    # From the cache.

    def load(self) -> None:
        """Takes what the cache has, the first time."""
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
        if acquired.info is not None and acquired.whole:  # those of a part are what some peer said
            self.sizing.load(acquired.info)
        self._proof = UNPROVEN if acquired.whole else None
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
        """The result is whole, or nothing of it is there."""
        acquired, self._unchecked = self._unchecked, None
        if is_right and acquired is not None:
            self._use(acquired)

    # What is here.

    @property
    def spool(self) -> Spool:
        """The first use makes it. Raises NoSpace."""
        if self._spool is None:
            self._spool = self._cache.new_spool(self._id)
        return self._spool

    @property
    def filled(self) -> RangeSet:
        return self._spool.filled if self._spool is not None else _NOTHING

    @property
    def size(self) -> int | None:
        info = self.sizing.info
        return info.size if info is not None else None

    def stop_if_there(self, offset: int, stop: int) -> int | None:
        """Where a read of offset … stop ends; None as long as some of it is missing, or it is not known that the result
        ends there."""
        size = self.size
        if size is None or stop < size:
            return stop if self.filled.covers(offset, stop) else None
        if not self.filled.covers(offset, size) or not self._is_end_seen(size):
            return None
        return max(offset, size)

    def missing(self, offset: int, stop: int) -> tuple[int, int] | None:
        """The first bytes that a read of offset … stop waits for: its own, or the last of the result, which show its
        end. None where only a response's end can show that."""
        size = self.size
        if size is None or stop < size:
            return self.filled.gap(offset, stop)
        window = audio.tail_bytes_wanted(self._head()) if self._head() else 0
        return self.filled.gap(offset, size) or self.filled.gap(max(size - window, 0), size)

    def _head(self) -> bytes:
        """The beginning, once it is here."""
        length = HEAD_BYTES if self.size is None else min(self.size, HEAD_BYTES)
        return self.spool.read(0, length) if self.filled.covers(0, length) else b""

    def stop_if_whole(self, stop: int) -> int | None:
        """Where a read that is to go to `stop` ends; None when the result is not whole. Without the lock."""
        size = self.size
        return min(stop, size) if self.is_whole and size is not None else None

    @property
    def is_complete(self) -> bool:
        """Every byte is here, and the end is proven."""
        size = self.size
        if size is None or not self.filled.covers(0, size):
            return False
        if self._proof is None:
            self._proof = self._proof_without_end(size)
        return self._proof is not None

    @property
    def needs_another_response(self) -> bool:
        """All that a response brought is here, and nothing else says that this is all."""
        return self._ended_at >= 0 and not self.is_complete

    def _proof_without_end(self, size: int) -> str | None:
        """All is here, perhaps from several responses, and no stream came to its end."""
        end, claimed_by = self._end_at(size), self.sizing.claimed_by(size)
        if end is End.BROKEN or not claimed_by or self.sizing.is_less_than_told(size):
            return None
        if end is End.WHOLE:
            return "framing+frames" if self.sizing.is_claimed_by_api(size) else "storage+frames"
        return "framing+storage" if claimed_by > 1 else None

    def _is_end_seen(self, size: int) -> bool:
        """Whether the result ends at `size` for all that is known: that was proven, or the structure of the bytes shows
        it, or two who can know it say so."""
        if self.is_complete or self._ends_in_itself_at == size:
            return True
        if self.sizing.is_less_than_told(size):
            return False  # the stream's end says so, with an error
        if self.sizing.is_of_before and self.filled.covers(0, size):
            return False  # it may have changed since; the stream that has come there is about to tell
        if self._end_at(size) is End.WHOLE:
            self._ends_in_itself_at = size
            return True
        return self.sizing.claimed_by(size) > 1

    def _end_at(self, size: int) -> End:
        """What the structure of the bytes that are here says of an end there."""
        head = self.spool.read(0, min(size, HEAD_BYTES)) if self.filled.covers(0, min(size, HEAD_BYTES)) else b""
        start = max(size - audio.tail_bytes_wanted(head), 0)
        if not head or not self.filled.covers(start, size):
            return End.UNKNOWN
        if any(stop > size for _, stop in self.filled):
            return End.BROKEN  # another response went on
        return audio.end_of(head, self.spool.read(start, size - start), size)

    # Ranges.

    @property
    def etag(self) -> str | None:
        """The validator for ranges from the API; None when there are none."""
        return self._spool.etag if self._spool is not None and self._spool.has_ranges else None

    @property
    def has_ranges(self) -> bool:
        """Whether a range of just this result can be had: from the API, which showed a validator, or from storage,
        whose object is the same file."""
        return self.etag is not None or self.sizing.stored_ranges is not None

    @property
    def is_validated(self) -> bool:
        """The API showed a validator, so that another response of it shows whether the result has changed."""
        return self._spool is not None and self._spool.etag is not None

    def forget_ranges(self) -> None:
        """They do not work after all."""
        self.sizing.matches_stream = False
        if self._spool is not None:
            self._spool.has_ranges = False

    def forget_api_ranges(self) -> None:
        """The API said that it gives ranges, and does not."""
        self._api_refuses_ranges = True
        self.spool.has_ranges = False

    # What a response brings.

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
        if body.total is not None and not body.is_stored:
            self.sizing.header(body.total, body.modified_s, is_begun=self.filled.total > 0)
        self.is_begun = True

    def place(self, position: int, length: int) -> tuple[Spool, list[tuple[int, int]]]:
        """Where bytes are to be put with `write`, and which of them are here already. Raises ResultChanged, TooLarge,
        NoSpace."""
        stop = position + length
        self.check_limit(stop)
        if self.sizing.exceeded_by(stop):
            raise ResultChanged(f"run {self._id}: the result is longer than before")
        return self.spool, self.spool.filled.within(position, stop)

    def write(self, spool: Spool, known: list[tuple[int, int]], position: int, data: bytes) -> None:
        """Puts bytes down, without the lock; those that are `known` are compared. They are not there before `add` says
        so. Raises ResultChanged, NoSpace."""
        for a, b in known:
            if spool.read(a, b - a) != data[a - position : b - position]:
                raise ResultChanged(f"run {self._id}: the bytes from {a} on differ from those of before")
        if known != [(position, position + len(data))]:
            spool.write(position, data)
        if position == 0 and not known and not flac.MAGIC.startswith(data[: len(flac.MAGIC)]):
            container = audio.signature(data) or "of another kind"
            log.warning("run %d: the audio is not FLAC but %s; it is served as it is", self._id, container)

    def add(self, start: int, stop: int) -> None:
        """Bytes that were written are there."""
        self.spool.filled.add(start, stop)

    def judge(self) -> bool | None:
        """As `Sizing.judge`."""
        return self.sizing.judge(self._spool)

    def check_limit(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(f"run {self._id}: the result is larger than {self._max_bytes} bytes")

    def is_doubtful(self, position: int, body: Body) -> bool:
        """Whether storage may tell more of an end than is known so far."""
        return self.sizing.probe is None and not proof_of(self._claims(position, body))

    def proof(self, position: int, body: Body) -> str | None:
        """How it is proven that the result ends where a response did; None when it is not. Notes it."""
        proof = proof_of(self._claims(position, body))
        if proof is not None:
            self._proof = proof
        return proof

    def ask_again_from(self, position: int, body: Body) -> int:
        """A response ended there, and that is not proven to be the end. Raises NotWhole when answers go on ending
        there; BrokenBody when it is only the connection that ended."""
        claims = self._claims(position, body)
        self.sizing.refute(position)
        if not body.framed and _is_contradicted(claims):
            raise BrokenBody(f"run {self._id}: the connection ended at byte {position}, and {_doubt(claims)}")
        self._unproven_ends += 1
        if claims.again or self._unproven_ends >= _MOST_UNPROVEN_ENDS:
            raise NotWhole(f"run {self._id}: the response ends at byte {position}, and {_doubt(claims)}")
        self._ended_at = position
        log.info("run %d: a response ended at byte %d, and %s; asking again", self._id, position, _doubt(claims))
        is_cut_off = claims.end is End.BROKEN and claims.stored is not None and claims.stored > position
        return position if is_cut_off and self.sizing.stored_ranges is not None else 0

    def _claims(self, position: int, body: Body) -> Claims:
        stored, end = self.sizing.stored_bytes_at(position, self._spool), self._end_at(position)
        if not body.framed and flac.is_cut_short(self.spool.read(0, min(position, HEAD_BYTES)), position):
            end = End.BROKEN
        again = self._ended_at == position
        is_stored_whole = self.sizing.probe is not None and self.sizing.probe.end is End.WHOLE
        return Claims(position, body.framed, end, stored, again, body.is_stored, is_stored_whole)

    # What becomes of it.

    def note_whole(self) -> RunInfo | None:
        """Notes whether nothing is missing any more; returns the facts, once, when it should be kept."""
        self.is_whole = self.is_whole or self.is_complete
        if not self.is_whole or self._is_kept or not self._proof:
            return None
        self._is_kept = True
        return self.sizing.info

    def keep(self, info: RunInfo) -> None:
        """Puts the whole result in the cache. Without the lock."""
        assert self._proof, "what is not proven is not kept"
        self._cache.commit(self._id, self.spool, info, self._content_type, self._proof)

    @property
    def kept_spool(self) -> Spool | None:
        """The file in the cache that has all of it, if one has."""
        return self._spool if self.is_whole else None

    def unlink(self) -> None:
        """Gives up the temporary name of its bytes, if they have one."""
        if self._spool is not None:
            self._spool.discard_name()

    def release(self) -> None:
        """The cache keeps what it can use of it, and closes the rest. The last call."""
        if self._unchecked is not None:
            self._cache.release(self._id, self._unchecked.spool, whole=True, info=None)
        if self._spool is not None:
            whole = self.is_whole and (self._is_kept or bool(self._proof))
            self._cache.release(self._id, self._spool, whole=whole, info=self.sizing.info)

    def invalidate(self) -> None:
        """Its bytes are wrong: not kept, also if that is just being done."""
        if self._spool is not None:
            self._spool.is_invalid = True

    def discard(self) -> None:
        """Its bytes are wrong. The last call."""
        if self._unchecked is not None:
            self._unchecked.spool.close()
        if self._spool is not None:
            self._spool.close()


def _is_contradicted(claims: Claims) -> bool:
    return claims.end is End.BROKEN or claims.stored not in (None, claims.position)


def _doubt(claims: Claims) -> str:
    if claims.end is End.BROKEN:
        return "the audio does not end there"
    if claims.stored not in (None, claims.position):
        return f"storage has {claims.stored} bytes"
    return "nothing else confirms that"
