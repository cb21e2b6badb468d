"""How long one run's result is, what that is known from, and whether the place where a response ended is its end.

A peer's word is a claim. The framing of a response says that the body ended; the structure of the audio, the length of
storage's object and a second response say that the result did. It takes two of them, and none against, unless two agree
against one. Before that, in the order of belief, a size comes from the length in the stream's header, or from storage,
if its object's own structure agrees and it begins like the stream, or storage has proven itself with another run.

Not the requests (`object_store`, `transfer`), nor the bytes (`spool`). No threads: the run that owns it guards it with
its own lock, and every method is called under that. What follows for storage, or for who has the run open, it returns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto

from cambfs import flac
from cambfs.audio import End, signature
from cambfs.cache.spool import Spool
from cambfs.errors import CambfsError, NotWhole, ResultChanged
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.object_store import ObjectStore, Probe

# Two responses that just stopped at the same byte: enough to serve, not to keep.
UNPROVEN = ""
STORAGE = "storage"
_ENDS_IN_A_FRAME = (End.WHOLE, End.INTACT, End.PADDED)


@dataclass(frozen=True)
class Claims:
    """What is said of the byte offset `position`: `framed`, that HTTP ended the body there; `end`, what the structure
    of the audio says; `stored`, the length of storage's object where it begins like the stream, else None; `again`,
    that an earlier response ended there, too; `by_storage`, that the last bytes came from storage, and not from the
    stream; `is_stored_whole`, that storage's object ends by its own structure, too."""

    position: int
    framed: bool
    end: End
    stored: int | None
    again: bool
    by_storage: bool = False
    is_stored_whole: bool = False


def proof_of(claims: Claims) -> str | None:
    """How it is proven that the result ends there, for the sidecar ("framing+frames"); UNPROVEN when it may be served
    and not kept; None when it has to be asked again."""
    is_stored, is_whole = claims.stored == claims.position, claims.end is End.WHOLE
    if claims.by_storage:  # whose framing and length are one witness
        return f"{STORAGE}+frames" if is_stored and claims.end in _ENDS_IN_A_FRAME else None
    if claims.end is End.BROKEN and not (claims.framed and is_stored):
        return None
    if claims.stored is not None and not is_stored:
        is_outvoted = claims.framed and is_whole and not claims.is_stored_whole
        if not is_outvoted:
            return None
    witness = "frames" if is_whole else STORAGE if is_stored else "twice" if claims.again else None
    if witness is None or claims.framed:
        return witness and f"framing+{witness}"
    return UNPROVEN if witness == "twice" else witness


class _From(Enum):
    PROOF = auto()  # or the cache, where only proven results are
    HEADER = auto()
    STORAGE = auto()
    BEFORE = auto()  # when the run was in use before; it may have changed since


class Sizing:
    """`info` is None as long as the size is not known; those it begins with are from an earlier use of the run, and
    `is_unverified` when that had them from storage alone. `probe` is what storage said, once it did;
    `matches_stream` whether its object begins like the stream, None before both heads were compared.
    """

    def __init__(self, run_id: RunId, store: ObjectStore, info: RunInfo | None, is_unverified: bool) -> None:
        self.info = info
        self.probe: Probe | None = None
        self.matches_stream: bool | None = None
        self._id = run_id
        self._store = store
        self._from = _From.STORAGE if is_unverified else _From.BEFORE
        self._api_total: int | None = None  # as a Content-Length or a Content-Range of the API said last
        self._refuted: set[int] = set()  # lengths at which a response ended, and the result did not
        self._told_by_storage = info.size if info is not None and is_unverified else None
        self._told_before = info.size if info is not None and not is_unverified else None
        self._told_most = info.size if info is not None else 0

    def is_less_than_told(self, size: int) -> bool:
        """Whether a larger size was told: no read may end there in silence."""
        return size < self._told_most

    def is_storage_exceeded_by(self, position: int) -> bool:
        """Whether a byte of the stream before `position` lies beyond the size that storage told."""
        told = self._told_by_storage
        return told is not None and position > told and self.info is not None and self.info.size == told

    @property
    def is_proven(self) -> bool:
        return self.info is not None and self._from is _From.PROOF

    @property
    def is_unverified(self) -> bool:
        """The size is known only because storage was right about another run."""
        return self.info is not None and self._from is _From.STORAGE and not self.matches_stream

    @property
    def is_of_before(self) -> bool:
        """The size is known, but only from an earlier use of the run."""
        return self.info is not None and self._from is _From.BEFORE

    @property
    def stored_bytes(self) -> int | None:
        """The length of storage's object, if it begins like the stream."""
        usable = self.probe is not None and self.matches_stream and not self._store.distrusted
        return self.probe.total if self.probe is not None and usable else None

    def stored_bytes_at(self, position: int, spool: Spool | None) -> int | None:
        """As `stored_bytes`, for a stream that ended at `position`, perhaps before all of the head could be
        compared."""
        probe = self.probe
        if self.matches_stream is not None or probe is None or spool is None or self._store.distrusted:
            return self.stored_bytes
        is_same = 0 < position < len(probe.head) and spool.read(0, position) == probe.head[:position]
        return probe.total if is_same else None

    @property
    def stored_ranges(self) -> Probe | None:
        """The probe, when ranges of storage's object are ranges of this very result."""
        probe = self.probe
        if probe is None or self.stored_bytes is None or not probe.ranges or not flac.identifies(probe.head):
            return None
        return None if self.is_proven and self.info and self.info.size != probe.total else probe

    def claimed_by(self, size: int) -> int:
        """How many of the API and storage say that the result has that size."""
        return (self._api_total == size) + (self.stored_bytes == size)

    def is_claimed_by_api(self, size: int) -> bool:
        return self._api_total == size

    def load(self, info: RunInfo) -> None:
        """The cache knows it."""
        self.info = info
        self._from = _From.PROOF
        self._told_most = info.size

    def header(self, total: int, modified_s: float | None, *, is_begun: bool) -> None:
        """The API tells the length. Raises ResultChanged when it was another in an earlier response of which bytes have
        come (`is_begun`), and nothing spoke against that."""
        self._api_total = total
        if self.info is None:
            self._learn(total, modified_s, _From.HEADER)
        elif self.info.size == total:
            self._from = self._from if self.is_proven else _From.HEADER
        else:
            is_settled = self.is_proven or (self._from is _From.HEADER and self.info.size not in self._refuted)
            if is_begun and is_settled:
                raise ResultChanged(f"run {self._id}: the result has another length than before")
            self.info = None
            self._learn(total, modified_s, _From.HEADER)

    def refute(self, position: int) -> None:
        """A response ended there, and the result did not."""
        self._refuted.add(position)

    def exceeded_by(self, position: int) -> bool:
        """Whether a byte before `position` lies beyond the proven end."""
        return self.info is not None and self.is_proven and position > self.info.size

    def end(self, position: int, modified_s: float | None) -> CambfsError | None:
        """It is proven that the result ends there. Returns the error of those who have it open and were told another
        size: ResultChanged when it was longer before, NotWhole when storage said so."""
        error = self._contradiction(position)
        self._told_most = 0  # who was told of it hears of the error
        if error is not None or (self.info is not None and self.info.size != position):
            self.info = None
        self._learn(position, modified_s, _From.PROOF)
        return error

    def _contradiction(self, position: int) -> CambfsError | None:
        told = self._told_by_storage
        if told is not None and told != position:
            return NotWhole(f"run {self._id}: storage said {told} bytes, and the stream has {position}")
        if position >= self._told_most:
            return None
        what = f"run {self._id}: the result has {position} bytes, and was said to have {self._told_most}"
        return ResultChanged(what) if self._told_most == self._told_before else NotWhole(what)

    def judge(self, spool: Spool | None) -> bool | None:
        """Storage has answered, or more of the stream has come. Returns whether both have the same head when that has
        just been found out, else None."""
        probe = self.probe
        if probe is None or self._store.distrusted:
            return None
        is_same = None
        if self.matches_stream is None and spool is not None and spool.filled.covers(0, len(probe.head)):
            self.matches_stream = is_same = spool.read(0, len(probe.head)) == probe.head
            if not is_same and self._from is _From.STORAGE:
                self.info = None
        if self.info is None and self._is_size_told(probe):
            self._told_by_storage = probe.total
            self._learn(probe.total, probe.modified_s, _From.STORAGE)
        return is_same

    def _is_size_told(self, probe: Probe) -> bool:
        """Whether the object's own structure agrees with its length, and it is the stream's file as far as is known."""
        if probe.end not in _ENDS_IN_A_FRAME or probe.total in self._refuted:
            return False
        if self.matches_stream is None:
            return self._store.proven and signature(probe.head) == "FLAC"
        return self.matches_stream

    def _learn(self, size: int, modified_s: float | None, source: _From) -> None:
        if self.info is None:
            seconds = time.time() if modified_s is None else modified_s
            self.info = RunInfo(size, int(seconds) * 10**9)
        self._told_most = max(self._told_most, size)
        self._from = source
