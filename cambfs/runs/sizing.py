"""How long one run's result is, and whether storage has the very same file: what is known, and what it is known from.

In the order of belief: an end that was proven, or the cache; the length in the stream's header; what storage says of
its object, if its structure agrees and it begins like the stream, or storage has proven itself with another run.

Not the requests (`object_store`, `transfer`), nor the bytes (`spool`). No threads: the run that owns it guards it with
its own lock, and every method is called under that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

from cambfs import flac
from cambfs.audio import End, signature
from cambfs.cache.spool import Spool
from cambfs.errors import NotWhole, ResultChanged
from cambfs.model import Facts
from cambfs.names import RunId
from cambfs.remote.object_store import ObjectStore, Probe


class _From(Enum):
    PROOF = auto()  # or the cache, where only proven results are
    HEADER = auto()
    STORAGE = auto()
    BEFORE = auto()  # when the run was in use before; it may have changed since


class Sizing:
    """`facts` is None as long as the size is not known; those it begins with are from an earlier use of the run, and
    `is_believed` when that had them from storage alone. `tell` is told of it, and whether that is only believed so far;
    and (None) when what was told was wrong.

    `probe` is what storage said, once it did; `matches_stream` whether its object begins like the stream, None before
    both heads were compared.
    """

    def __init__(
        self,
        run_id: RunId,
        storage: ObjectStore,
        facts: Facts | None,
        is_believed: bool,
        tell: Callable[[RunId, Facts | None, bool], None],
    ) -> None:
        self.facts = facts
        self.probe: Probe | None = None
        self.matches_stream: bool | None = None
        self._id = run_id
        self._storage = storage
        self._tell = tell
        self._from = _From.STORAGE if is_believed else _From.BEFORE
        self._api_total: int | None = None  # as a Content-Length or a Content-Range of the API said last
        self._refuted: set[int] = set()  # lengths at which an answer ended, and the result did not
        self._told_by_storage = facts.size if facts is not None and is_believed else None

    @property
    def is_proven(self) -> bool:
        return self.facts is not None and self._from is _From.PROOF

    @property
    def is_of_before(self) -> bool:
        """The size is known, but only from an earlier use of the run."""
        return self.facts is not None and self._from is _From.BEFORE

    @property
    def stored_bytes(self) -> int | None:
        """The length of storage's object, if it begins like the stream."""
        usable = self.probe is not None and self.matches_stream and not self._storage.distrusted
        return self.probe.total if self.probe is not None and usable else None

    @property
    def stored_ranges(self) -> Probe | None:
        """The probe, when ranges of storage's object are ranges of this very result."""
        probe = self.probe
        if probe is None or self.stored_bytes is None or not probe.ranges or not flac.identifies(probe.head):
            return None
        return None if self.is_proven and self.facts and self.facts.size != probe.total else probe

    def claimed_by(self, size: int) -> int:
        """How many of those who can know it say that the result has that size."""
        before = self.is_of_before and self.facts is not None and self.facts.size == size
        return (self._api_total == size) + (self.stored_bytes == size) + before

    def is_claimed_by_api(self, size: int) -> bool:
        return self._api_total == size

    def load(self, facts: Facts) -> None:
        """The cache knows it."""
        self.facts = facts
        self._from = _From.PROOF
        self._tell(self._id, facts, False)

    def header(self, total: int, modified_s: float | None, *, is_begun: bool) -> None:
        """The API tells the length. Raises ResultChanged when it was another in an earlier answer of which bytes have
        come (`is_begun`), and nothing spoke against that."""
        self._api_total = total
        if self.facts is None:
            self._learn(total, modified_s, _From.HEADER)
        elif self.facts.size == total:
            self._from = self._from if self.is_proven else _From.HEADER
            self._tell(self._id, self.facts, False)
        elif self._from is not _From.STORAGE:  # which of the two is right will be seen at the end
            is_settled = self.is_proven or (self._from is _From.HEADER and self.facts.size not in self._refuted)
            if is_begun and is_settled:
                raise ResultChanged(f"run {self._id}: the result has another length than before")
            self._withdraw()
            self._learn(total, modified_s, _From.HEADER)

    def refute(self, position: int) -> None:
        """An answer ended there, and the result did not."""
        self._refuted.add(position)

    def exceeded_by(self, position: int) -> bool:
        """Whether a byte before `position` lies beyond the proven end."""
        return self.facts is not None and self.is_proven and position > self.facts.size

    def end(self, position: int, modified_s: float | None, *, is_open: bool) -> None:
        """It is proven that the result ends there. Where another size was told, and somebody has the result open
        (`is_open`), raises ResultChanged when it was longer before, NotWhole when storage said so."""
        told = self.facts.size if self.facts is not None else self._told_by_storage
        if told is None or told == position:
            self._learn(position, modified_s, _From.PROOF)
            return
        by_storage = self._told_by_storage is not None and self._told_by_storage != position
        if by_storage:
            self._storage.refute(self._id)
        was_before = self.is_of_before
        self._withdraw()
        self._learn(position, modified_s, _From.PROOF)
        if is_open and by_storage:
            raise NotWhole(f"run {self._id}: storage said {told} bytes, and the stream has {position}")
        if is_open and was_before and position < told:
            raise ResultChanged(f"run {self._id}: the result has {position} bytes, and had {told} before")

    def judge(self, spool: Spool | None) -> None:
        """Storage has answered, or more of the stream has come: compares their heads as soon as both are there."""
        probe = self.probe
        if probe is None or self._storage.distrusted:
            return
        if self.matches_stream is None and spool is not None and spool.filled.covers(0, len(probe.head)):
            self._compare(probe, spool)
        if self.facts is None and self._is_size_told(probe):
            self._told_by_storage = probe.total
            self._learn(probe.total, probe.modified_s, _From.STORAGE)

    def _is_size_told(self, probe: Probe) -> bool:
        """Whether the object's own structure agrees with its length, and it is the stream's file as far as is known."""
        if probe.end not in (End.WHOLE, End.INTACT) or probe.total in self._refuted:
            return False
        is_flac = signature(probe.head) == "FLAC"
        return bool(self.matches_stream) or (self.matches_stream is None and self._storage.proven and is_flac)

    def _compare(self, probe: Probe, spool: Spool) -> None:
        self.matches_stream = spool.read(0, len(probe.head)) == probe.head
        if self.matches_stream:
            self._storage.prove()
            if self.facts is not None:
                self._tell(self._id, self.facts, False)
            return
        self._storage.distrust(self._id)
        if self._from is _From.STORAGE:
            self._withdraw()

    def _withdraw(self) -> None:
        """The size that was known is not the stream's."""
        self.facts = None
        self._tell(self._id, None, False)

    def _learn(self, size: int, modified_s: float | None, source: _From) -> None:
        if self.facts is None:
            seconds = time.time() if modified_s is None else modified_s
            self.facts = Facts(size, int(seconds) * 10**9)
        self._from = source
        self._tell(self._id, self.facts, source is _From.STORAGE and not self.matches_stream)
