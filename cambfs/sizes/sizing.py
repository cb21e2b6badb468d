"""How long one run's result is and when it was made, and what both are known from.

In the order of trust, a size comes from the cache or a proven end, from the length in the stream's header, from an
earlier use of the run, or from storage: if the structure of its object agrees, and it begins like the stream, or
storage has proven itself with another run. Beside a stream, the end of storage's object is enough, as long as it agrees
with the stream (`stored_end`). Where it does not, the heads of both are compared.

Not the requests (`object_store`, `transfer`), nor when an end is proven (`proof`). No threads: the run that owns it
holds its lock for every method. It returns what follows for storage and for open files.
"""

from __future__ import annotations

from enum import Enum, auto

from cambfs import flac
from cambfs.audio import End, signature
from cambfs.disk.spool import Spool
from cambfs.errors import CambfsError, NotWhole, ResultChanged
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.object_store import ObjectStore, Probe, Tail
from cambfs.sizes.proof import ENDS_IN_A_FRAME
from cambfs.sizes.stored_end import StoredEnd

# The time of a result when neither the stream nor storage tells it: the same in every mount, and a year that archives
# of every kind can hold. 2000-01-01, UTC.
UNKNOWN_TIME_NS = 946_684_800 * 10**9


class _From(Enum):
    PROOF = auto()  # or the cache, where only proven results are
    HEADER = auto()
    STORAGE = auto()
    BEFORE = auto()  # when the run was in use before, here or on another machine; it may have changed since


class Sizing:
    """`size` is None while it is not known. The constructor's `info` is from an earlier use of the run;
    `is_unverified` when only storage had reported it. `probe` is what storage reported, or None; `stored_end` is the
    end of its object, where only that was asked for. `matches_stream` is whether its object begins like the stream, or
    ends like it; None before both were compared. `streamed_s` is the Last-Modified of the stream, or None.
    """

    def __init__(self, run_id: RunId, store: ObjectStore, info: RunInfo | None, is_unverified: bool) -> None:
        self.size = info.size if info is not None else None
        self.streamed_s: float | None = None
        self.probe: Probe | None = None
        self.stored_end: StoredEnd | None = None
        self.matches_stream: bool | None = None
        self._mtime_ns = info.mtime_ns if info is not None else None  # as it was told, so it stays
        self._id = run_id
        self._store = store
        self._from = _From.STORAGE if is_unverified else _From.BEFORE
        self._api_total: int | None = None  # as a Content-Length or a Content-Range of the API said last
        self._refuted: set[int] = set()  # where a response ended, and the result did not
        self._told = {} if info is None else {self._from: info.size}  # the largest size reported from each source

    @property
    def info(self) -> RunInfo | None:
        """None as long as the size or the time is not known."""
        if self.size is None or self._mtime_ns is None:
            return None
        return RunInfo(self.size, self._mtime_ns)

    @property
    def is_time_told(self) -> bool:
        """A source has reported the time of the result, so storage need not be asked for just that."""
        return self._mtime_ns is not None or self.streamed_s is not None

    @property
    def is_time_left_out(self) -> bool:
        """Storage has responded without a time of the result, and the stream has not reported one yet."""
        stored = self._stored
        return stored is not None and stored.modified_s is None and not self.is_time_told

    @property
    def is_compared(self) -> bool:
        """Whether what storage said is of the stream's file is known, as far as it can be."""
        return self.matches_stream is not None or self._store.trust.proven or self._store.trust.distrusted

    def settle_time(self) -> None:
        """No other source is about to report the time of the result: storage's time counts, else the stream's. Storage
        comes first because a bare `stat` asks only storage."""
        if self.size is None or self._mtime_ns is not None:
            return
        stored_s = self._stored_s()
        seconds = self.streamed_s if stored_s is None else stored_s
        self._mtime_ns = UNKNOWN_TIME_NS if seconds is None else int(seconds) * 10**9

    def _stored_s(self) -> float | None:
        stored, is_same = self._stored, self._store.trust.proven if self.matches_stream is None else self.matches_stream
        if stored is None or not is_same or self._store.trust.distrusted or stored.total != self.size:
            return None
        return stored.modified_s

    def is_less_than_told(self, size: int) -> bool:
        """Whether a larger size was reported: a read must not end there without an error."""
        return size < max(self._told.values(), default=0)

    def is_storage_exceeded_by(self, position: int) -> bool:
        """Whether a byte of the stream before `position` lies beyond the size that storage reported."""
        told = self._told.get(_From.STORAGE)
        return told is not None and position > told and self.size == told

    @property
    def is_proven(self) -> bool:
        return self.size is not None and self._from is _From.PROOF

    @property
    def is_unverified(self) -> bool:
        """Only storage has reported the size, and storage was right about another run."""
        return self.size is not None and self._from is _From.STORAGE and not self.matches_stream

    @property
    def is_of_before(self) -> bool:
        """The size is known, but only from an earlier use of the run."""
        return self.size is not None and self._from is _From.BEFORE

    @property
    def stored_bytes(self) -> int | None:
        """The length of storage's object, if it begins like the stream, or the stream has the same bytes at its end."""
        stored, is_usable = self._stored, self.matches_stream and not self._store.trust.distrusted
        return stored.total if stored is not None and is_usable else None

    @property
    def is_stored_whole(self) -> bool:
        """Whether storage's object ends by its own structure."""
        if self.probe is not None:
            return self.probe.end is End.WHOLE
        return self.stored_end is not None and self.stored_end.is_agreed is True

    def is_end_elsewhere(self, position: int) -> bool:
        """Whether only the end of storage's object is known, and the stream, which ended at `position`, has another."""
        return self.stored_end is not None and not self.stored_end.is_at(position)

    @property
    def is_end_refuted(self) -> bool:
        """Whether only the end of storage's object is known, and the stream does not agree with it."""
        end = self.stored_end
        if end is None:
            return False
        return False in (end.is_agreed, end.is_same) or (self.is_proven and self.size != end.tail.total)

    @property
    def expected_bytes(self) -> int | None:
        """The size, or what storage says of it, without proof; None where neither is known. Without the lock."""
        told, size = self._stored, self.size
        return told.total if size is None and told is not None else size

    @property
    def _stored(self) -> Probe | Tail | None:
        """What storage reported, all of it or the end. Without the lock: a probe may replace the end meanwhile."""
        end = self.stored_end
        return self.probe or (None if end is None else end.tail)

    def stored_bytes_at(self, position: int, spool: Spool | None) -> int | None:
        """As `stored_bytes`, for a stream that ended at `position`, perhaps before all of the head could be
        compared."""
        probe = self.probe
        if self.matches_stream is not None or probe is None or spool is None or self._store.trust.distrusted:
            return self.stored_bytes
        is_same = 0 < position < len(probe.head) and spool.read(0, position) == probe.head[:position]
        return probe.total if is_same else None

    @property
    def stored_ranges(self) -> Probe | None:
        """The probe, when ranges of storage's object are ranges of this very result."""
        probe = self.probe
        if probe is None or self.stored_bytes is None or not probe.ranges or not flac.identifies(probe.head):
            return None
        if self.is_proven:
            return probe if self.size == probe.total else None
        # Behind the audio, a reader would get bytes that are not the result's.
        may_be_longer = probe.end in (End.PADDED, End.BROKEN) and not self.is_claimed_by_api(probe.total)
        return None if may_be_longer else probe

    @property
    def stored_head(self) -> bytes:
        """The head of storage's object where its length counts as that of the result; else b""."""
        probe = self.probe
        if probe is None or self._store.trust.distrusted or probe.total != self.size or not self._is_size_told(probe):
            return b""
        return probe.head

    def claimed_by(self, size: int) -> int:
        """How many of API and storage say that the result has that size."""
        return (self._api_total == size) + (self.stored_bytes == size)

    def is_claimed_by_api(self, size: int) -> bool:
        return self._api_total == size

    def load(self, info: RunInfo) -> None:
        """The cache has the complete result."""
        self.size, self._mtime_ns = info.size, info.mtime_ns
        self._from = _From.PROOF
        self._told = {_From.PROOF: info.size}

    def header(self, total: int, *, is_begun: bool) -> None:
        """A response of the API has a length. Raises ResultChanged when an earlier response had another one, bytes of
        it have arrived (`is_begun`), and nothing spoke against it."""
        self._api_total = total
        if self.size is None:
            self._learn(total, _From.HEADER)
        elif self.size == total:
            self._from = self._from if self.is_proven else _From.HEADER
        else:
            is_settled = self.is_proven or (self._from is _From.HEADER and self.size not in self._refuted)
            if is_begun and is_settled:
                raise ResultChanged(f"run {self._id}: the result has another length than before")
            self._forget()
            self._learn(total, _From.HEADER)

    def hear(self, info: RunInfo) -> None:
        """Another machine, which fetches the result now or has fetched it, trusts this size and time."""
        if self.size is None:
            self._learn(info.size, _From.BEFORE)
        if self.size == info.size and self._mtime_ns is None:
            self._mtime_ns = info.mtime_ns

    def refute(self, position: int) -> None:
        """A response ended there, and the result did not."""
        self._refuted.add(position)

    def exceeded_by(self, position: int) -> bool:
        """Whether a byte before `position` lies beyond the proven end."""
        return self.size is not None and self.is_proven and position > self.size

    def end(self, position: int) -> CambfsError | None:
        """It is proven that the result ends there. Returns the error for open files that were told another size:
        ResultChanged when the result was longer before, NotWhole when storage had reported that size."""
        error = self._contradiction(position)
        self._told.clear()  # open files with these sizes get the error
        if error is not None or self.size != position:
            self._forget()
        self._learn(position, _From.PROOF)
        return error

    def _contradiction(self, position: int) -> CambfsError | None:
        by_storage, most = self._told.get(_From.STORAGE), max(self._told.values(), default=0)
        if by_storage is not None and by_storage != position:
            return NotWhole(f"run {self._id}: storage said {by_storage} bytes, and the stream has {position}")
        if not self.is_less_than_told(position):
            return None
        what = f"run {self._id}: the result has {position} bytes, and was said to have {most}"
        return ResultChanged(what) if most == self._told.get(_From.BEFORE) else NotWhole(what)

    def answered(self, answer: Probe | Tail | None) -> None:
        """Storage has responded; None: in vain."""
        if isinstance(answer, Tail):
            self.stored_end = StoredEnd(answer)
        elif answer is not None:
            self.probe, self.stored_end = answer, None
            if self.matches_stream:  # as the end said; now the heads decide
                self.matches_stream = None

    def judge(self, spool: Spool | None) -> bool | None:
        """To be called when storage has responded, or more of the stream has arrived. Returns whether both have the
        same head when that has just become known, else None."""
        probe = self.probe
        if self._store.trust.distrusted:
            return None
        if probe is None:
            self._judge_end(spool)
            return None
        is_same = None
        if self.matches_stream is None and spool is not None and spool.filled.covers(0, len(probe.head)):
            self.matches_stream = is_same = spool.read(0, len(probe.head)) == probe.head
            if not is_same and self._from is _From.STORAGE:
                self._forget()
        if self.size is None and self._is_size_told(probe):
            self._learn(probe.total, _From.STORAGE)
        return is_same

    def _judge_end(self, spool: Spool | None) -> None:
        """It can only confirm what the stream says. Nothing follows from a difference but that the object's head is
        needed, too."""
        end = self.stored_end
        if end is None or spool is None:
            return
        end.compare(spool)
        if end.is_same and self.matches_stream is None:
            self.matches_stream = True
        is_believed = end.is_agreed and self._store.trust.proven and False not in (end.is_same, self.matches_stream)
        if self.size is None and is_believed and end.tail.total not in self._refuted:
            self._learn(end.tail.total, _From.STORAGE)

    def _is_size_told(self, probe: Probe) -> bool:
        """Whether the structure of the object agrees with its length, and the object may be the stream's file."""
        if probe.end not in ENDS_IN_A_FRAME or probe.total in self._refuted:
            return False
        if self.matches_stream is None:
            return self._store.trust.proven and signature(probe.head) == "FLAC"
        return self.matches_stream

    def _forget(self) -> None:
        self.size = self._mtime_ns = None

    def _learn(self, size: int, source: _From) -> None:
        self.size = size
        self._told[source] = max(self._told.get(source, 0), size)
        self._from = source
