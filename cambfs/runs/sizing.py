"""How long one run's result is, and whether storage has the very same file: what is known, and what it is known from.

In the order of belief: where the stream ended, or the cache; the length in the stream's header; what storage says of
its object, if that begins like the stream or storage has proven itself with another run.

Not the requests (`object_store`, `transfer`), nor the bytes (`spool`). No threads: the run that owns it guards it with
its own lock, and every method is called under that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto

from cambfs import flac
from cambfs.cache.spool import Spool
from cambfs.errors import BrokenBody, ResultChanged
from cambfs.model import Facts
from cambfs.names import RunId
from cambfs.remote.object_store import Probe, Storage


class _From(Enum):
    STREAM = auto()  # or the cache, which has it from there
    STORAGE = auto()
    BEFORE = auto()  # when the run was in use before; what was confirmed then may have changed


class Sizing:
    """`facts` is None as long as the size is not known; those it begins with are from an earlier use of the run, and
    `is_believed` when that had them from storage alone. `tell` is told of it, and whether that is only believed so far;
    and (None) when what was told was wrong.

    `probe` is what storage said, once it did; `twin` whether its object begins like the stream, None before both heads
    were compared.
    """

    def __init__(
        self,
        run_id: RunId,
        storage: Storage,
        facts: Facts | None,
        is_believed: bool,
        tell: Callable[[RunId, Facts | None, bool], None],
    ) -> None:
        self.facts = facts
        self.probe: Probe | None = None
        self.twin: bool | None = None
        self._id = run_id
        self._storage = storage
        self._tell = tell
        self._from = _From.STORAGE if is_believed else _From.BEFORE

    @property
    def is_confirmed(self) -> bool:
        """The size is known, and from more than storage's word for another run."""
        return self.facts is not None and (self._from is _From.STREAM or bool(self.twin))

    @property
    def is_of_before(self) -> bool:
        """The size is known, but only from an earlier use of the run."""
        return self.facts is not None and self._from is _From.BEFORE and not self.twin

    @property
    def stored_ranges(self) -> Probe | None:
        """The probe, when ranges of storage's object are ranges of this very result."""
        probe = self.probe
        if probe is None or not self.twin or not probe.ranges or self._storage.distrusted:
            return None
        return probe if flac.identifies(probe.head) else None

    def load(self, facts: Facts) -> None:
        """The cache knows it."""
        self.facts = facts
        self._from = _From.STREAM
        self._tell(self._id, facts, False)

    def header(self, total: int, modified_s: float | None, *, is_begun: bool) -> None:
        """The stream's header tells the length. Raises ResultChanged when it was another in an earlier answer of which
        bytes have come (`is_begun`)."""
        if self.facts is not None and self.facts.size != total:
            if is_begun and self._from is _From.STREAM:
                raise ResultChanged(f"run {self._id}: the result has another length than before")
            self._withdraw()
        self._learn(total, modified_s, _From.STREAM)

    def exceeded_by(self, position: int) -> bool:
        """Whether a byte before `position` lies beyond an end that the stream itself told."""
        return self.facts is not None and self._from is _From.STREAM and position > self.facts.size

    def end(self, position: int, modified_s: float | None) -> None:
        """The stream ended there, and its end is an end. Raises BrokenBody when its header said another."""
        if self.facts is not None and self.facts.size != position:
            if self._from is _From.STREAM:
                raise BrokenBody(f"run {self._id}: the body ended at byte {position} of {self.facts.size}")
            self._withdraw()
        self._learn(position, modified_s, _From.STREAM)

    def judge(self, spool: Spool | None) -> None:
        """Storage has answered, or more of the stream has come: compares their heads as soon as both are there."""
        probe = self.probe
        if probe is None or self._storage.distrusted:
            return
        if self.twin is None and spool is not None and spool.filled.covers(0, len(probe.head)):
            self._compare(probe, spool)
        if self.facts is None and (self.twin or (self._storage.proven and probe.head.startswith(flac.MAGIC))):
            self._learn(probe.total, probe.modified_s, _From.STORAGE)

    def _compare(self, probe: Probe, spool: Spool) -> None:
        same_length = self.facts is None or self.facts.size == probe.total
        self.twin = same_length and spool.read(0, len(probe.head)) == probe.head
        if self.twin:
            self._storage.prove()
            if self.facts is not None:
                self._tell(self._id, self.facts, False)
            return
        self._storage.distrust(self._id, "another beginning" if same_length else "another length")
        if self.facts is not None and self._from is not _From.STREAM:
            self._withdraw()

    def _withdraw(self) -> None:
        """The size that was known is not the stream's."""
        if self._from is _From.STORAGE:
            self._storage.distrust(self._id, "another length")
        self.twin = False
        self.facts = None
        self._tell(self._id, None, False)

    def _learn(self, size: int, modified_s: float | None, source: _From) -> None:
        if self.facts is None:
            seconds = time.time() if modified_s is None else modified_s
            self.facts = Facts(size, int(seconds) * 10**9)
        self._from = source
        self._tell(self._id, self.facts, not self.is_confirmed)
