"""Recognises programs that open results in the order of a listing, several at a time, and picks the next results.

Two opens in a row of which one is next to the other are a guess: the next open elsewhere ends it. Three opens of one
sequence are in order even if other programs open results between them, and from then on their opens do not end it. The
kernel finds the streams of interleaved readers of a file likewise.

It only decides. No threads and no lock: the thread `ahead` (`ahead/read_ahead`) owns it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cambfs.ahead.listings import Listings, Order
from cambfs.names import RunId

# Programs that go through results at the same time. With more, a random open is next to another one by chance.
MOST_SEQUENCES = 4
# A player that skips a track is still likely to play the next one.
_MOST_SKIMMED = 2
# Steps in a row that other opens may interleave.
_SURE_STEPS = 2


@dataclass(eq=False)
class OpenSequence:
    """The opens of one program. `ahead` has the results that are fetched, or tried, and not opened yet."""

    last: RunId
    order: Order | None = None
    steps: int = 0  # in a row
    is_in_order: bool = False
    skimmed: int = 0  # results that were closed one after the other with most of them unread
    ahead: list[RunId] = field(default_factory=list)  # the nearest first

    @property
    def is_guess(self) -> bool:
        return self.is_in_order and self.steps < _SURE_STEPS

    def step(self, run_id: RunId) -> int | None:
        """How far the run is behind the last open; None where that is not known."""
        return self.order.step(self.last, run_id) if self.order else None

    def next_ones(self, count: int) -> Sequence[RunId]:
        """The results behind the last open; none while it is not in order."""
        return self.order.behind(self.last, count) if self.order and self.is_in_order else ()


class Sequences:
    """Of each sequence at most `most_results` are fetched ahead; an open may leave out as many but one."""

    def __init__(self, most_results: int) -> None:
        self._most_results = most_results
        self._listings = Listings()
        self._recent: list[OpenSequence] = []  # the least recently used first
        self._unexplained: OpenSequence | None = None  # of the last open that did not go on in order
        self._dropped: set[RunId] = set()

    def listed(self, orders: Sequence[Sequence[RunId]]) -> None:
        """A directory was listed. Programs go through it in one of these orders; the first has all runs."""
        self._listings.add(orders)

    def is_listed(self, run_id: RunId) -> bool:
        return self._listings.have(run_id)

    def in_order(self) -> list[OpenSequence]:
        return [sequence for sequence in self._recent if sequence.is_in_order]

    def opened(self, run_id: RunId) -> OpenSequence | None:
        """A result was opened. Returns the sequence that it continues in order, if any."""
        for one in self._recent:
            one.ahead = [run for run in one.ahead if run != run_id]
        if (known := self._around(run_id, self.in_order())) is not None:
            self._use(known)
            return None  # opened again, or by one of several readers of a sequence
        sequence = self._continued(run_id) or self._around(run_id, self._recent) or self._begin(run_id)
        self._use(sequence)
        if not sequence.is_in_order:
            self._explain(sequence)
            return None
        self.keep_ahead(sequence, sequence.next_ones(self._most_results))
        return sequence

    def closed(self, run_id: RunId, is_skimmed: bool) -> None:
        """A result was closed, of which a program may have left out most."""
        sequence = self._around(run_id, self._recent)
        if sequence is not None:
            sequence.skimmed = sequence.skimmed + 1 if is_skimmed else 0
            if sequence.skimmed >= _MOST_SKIMMED:
                self._end(sequence)

    def keep_ahead(self, sequence: OpenSequence, kept: Collection[RunId]) -> None:
        """What else the sequence has ahead is dropped."""
        self._dropped.update(run for run in sequence.ahead if run not in kept)
        sequence.ahead = [run for run in sequence.ahead if run in kept]

    def is_ahead(self, run_id: RunId) -> bool:
        """Whether a sequence has it ahead."""
        return any(run_id in sequence.ahead for sequence in self._recent)

    def take_dropped(self) -> set[RunId]:
        """The results that no sequence has ahead any more, since the last call."""
        dropped, self._dropped = self._dropped, set()
        return {run_id for run_id in dropped if not self.is_ahead(run_id)}

    def _around(self, run_id: RunId, sequences: Sequence[OpenSequence]) -> OpenSequence | None:
        """The one whose last opens were at the run, or up to there."""
        return next((one for one in reversed(sequences) if self._was_at(one, run_id)), None)

    def _was_at(self, sequence: OpenSequence, run_id: RunId) -> bool:
        step = sequence.step(run_id) if sequence.is_in_order else None
        return run_id == sequence.last or (step is not None and -self._most_results <= step < 0)

    def _continued(self, run_id: RunId) -> OpenSequence | None:
        """The sequence of which the run is the next one. Those in order may leave some out."""
        steps = [(step, one) for one in reversed(self.in_order()) if (step := one.step(run_id)) is not None]
        near = [(step, one) for step, one in steps if 0 < step <= self._most_results]
        if near:
            _, sequence = min(near, key=lambda found: found[0])
            return self._step(sequence, run_id, sequence.order)
        for sequence in reversed(self._recent):
            order = self._listings.order_of(sequence.last, run_id, sequence.order)
            if order is not None:
                return self._step(sequence, run_id, order)
        return None

    def _step(self, sequence: OpenSequence, run_id: RunId, order: Order | None) -> OpenSequence:
        is_next = sequence.is_in_order or sequence is self._unexplained
        sequence.last, sequence.order, sequence.steps = run_id, order, sequence.steps + 1
        is_likely = is_next or sequence.steps >= _SURE_STEPS
        sequence.is_in_order = is_likely and sequence.skimmed < _MOST_SKIMMED
        return sequence

    def _begin(self, run_id: RunId) -> OpenSequence:
        if len(self._recent) == MOST_SEQUENCES:
            self._end(self._recent.pop(0))
        sequence = OpenSequence(run_id)
        self._recent.append(sequence)
        return sequence

    def _explain(self, sequence: OpenSequence) -> None:
        """The last open was one of this sequence, which is not in order. So a guess was wrong."""
        self._unexplained = sequence
        for other in filter(lambda one: one.is_guess, self._recent):
            self._suspend(other)

    def _suspend(self, sequence: OpenSequence) -> None:
        """Its next step makes it one in order again."""
        sequence.is_in_order = False
        self.keep_ahead(sequence, ())

    def _end(self, sequence: OpenSequence) -> None:
        sequence.steps = 0
        self._suspend(sequence)

    def _use(self, sequence: OpenSequence) -> None:
        self._recent.remove(sequence)
        self._recent.append(sequence)
