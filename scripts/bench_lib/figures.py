"""Figures: measurements, compared with their goals and with the peers.

`table` and `plot` show them. Every figure is better when it is smaller. No threads.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench_lib.processes import settle

OURS = "cambfs"
CURL = "curl"
PARALLEL = "curl, all at once"
SCRIPT = "script"
LOOP = "its loop"
OFF = "rclone off"
FULL = "rclone full"
LOCAL = "local disk"
BARE = "bare mount"
NOT_SHARED = "not shared"
PEERS = (CURL, PARALLEL, SCRIPT, LOOP, OFF, FULL, LOCAL, BARE, NOT_SHARED)

# A smaller difference means nothing on hardware that others use, too.
_DRAW = 1.05


class CannotMeasure(Exception):
    """There is no figure; the text gives the reason."""


@dataclass(frozen=True)
class Goal:
    """`figure` is to be at most `limit`, both in `unit` ("ms", "s", "MB", "x" for a ratio, "" for a count)."""

    text: str
    figure: float
    limit: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.figure <= self.limit

    @property
    def share(self) -> float:
        """The figure as a part of its limit: at most 1 when the goal is met."""
        if self.limit:
            return self.figure / self.limit
        return float("inf") if self.figure else 0.0


@dataclass(frozen=True)
class Figure:
    """One line of the table. `samples` has the measurements, in `unit`, for each contender; `absent` has the reason for
    each missing one."""

    row: str
    case: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    goals: Sequence[Goal] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def median(self, who: str) -> float | None:
        return statistics.median(self.samples[who]) if self.samples.get(who) else None

    def worse_than(self) -> list[tuple[str, float]]:
        """The peers that did better, and how many times our figure is theirs."""
        ours = self.median(OURS)
        if ours is None:
            return []
        theirs = {who: median for who in PEERS if (median := self.median(who))}
        return [(who, ours / median) for who, median in theirs.items() if ours > _DRAW * median]

    def verdict(self) -> str:
        if not self.samples.get(OURS):
            return "not measured: " + self.absent.get(OURS, self.note)
        missed = [goal for goal in self.goals if not goal.is_met]
        words = ["met" if self.goals else ""]
        if missed:
            words = ["not met" if len(self.goals) == 1 else "not met: " + ", ".join(goal.text for goal in missed)]
        worse = ", ".join(f"{who} ({ratio:.3g} ×)" for who, ratio in self.worse_than())
        return ", ".join(filter(None, [*words, f"worse than {worse}" if worse else ""]))


@dataclass(frozen=True)
class Measured:
    """The result of `alternate`: one sample a round for each contender."""

    samples: Mapping[str, Sequence[float]]
    absent: Mapping[str, str]

    def figure(
        self, row: str, case: str, unit: str, goals: Callable[[Measured], Sequence[Goal]], note: str = ""
    ) -> Figure:
        """`goals` is called only when there is a figure of ours."""
        found = goals(self) if self.samples.get(OURS) else ()
        return Figure(row, case, unit, self.samples, found, self.absent, note)

    def median(self, who: str = OURS) -> float:
        """Raises KeyError for a contender that has no figure."""
        return statistics.median(self.samples[who])

    def beside(self, who: str, factor: float, text: str) -> list[Goal]:
        """The goal of taking at most `factor` times as long as a peer; none when the peer has no figure."""
        if not self.samples.get(who):
            return []
        return [Goal(text, self.median() / self.median(who), factor, "x")]


def alternate(
    rounds: int,
    contenders: Mapping[str, Callable[[], float]],
    *,
    warm_ups: int = 1,
    settles: bool = True,
    between: Callable[[], None] = lambda: None,
) -> Measured:
    """Asks every contender for a sample in each round, each round beginning with another; `between` is called before
    each, when the processors are idle if it `settles`. The first `warm_ups` rounds do not count. One that raises
    CannotMeasure is not asked again."""
    samples: dict[str, list[float]] = {who: [] for who in contenders}
    absent: dict[str, str] = {}
    names = list(contenders)
    for turn in range(-warm_ups, rounds):
        shift = turn % len(names)
        for who in names[shift:] + names[:shift]:
            if who in absent:
                continue
            if settles:
                settle()
            between()
            try:
                sample = contenders[who]()
            except CannotMeasure as reason:
                absent[who] = str(reason)
                samples.pop(who)
                continue
            if turn >= 0:
                samples[who].append(sample)
    return Measured(samples, absent)
