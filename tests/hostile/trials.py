"""Which cases are read in which way, and which of them share a mount.

Pure functions; no threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.hostile.case import Case

_MOST_IN_A_LANE = 20


@dataclass(frozen=True)
class Trial:
    """A case that is read in one way. Its runs are three ids from `first` on: a neighbour, the case's, a neighbour; and
    one more where the first ones are listed."""

    case: Case
    mode: str
    first: int

    @property
    def id(self) -> str:
        return f"{self.case.id} ({self.mode})"

    @property
    def run_id(self) -> int:
        return self.first + 1

    @property
    def run_ids(self) -> tuple[int, int, int]:
        return self.first, self.first + 1, self.first + 2


def trials_of(cases: Sequence[Case], *, in_all_modes: bool) -> list[Trial]:
    """A case each, the ways of reading in turns; or each in all its ways."""
    found: list[Trial] = []
    for index, case in enumerate(cases):
        modes = [mode for mode in case.modes if mode != "map" or not case.has_open_sizes]
        if not in_all_modes:
            modes = [modes[index % len(modes)]]
        found += [Trial(case, mode, 0) for mode in modes]
    return [Trial(trial.case, trial.mode, 10 * (number + 1)) for number, trial in enumerate(found)]


def lanes_of(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Those that share a mount: of one group, and not too many; some are alone."""
    shared: dict[str, list[Trial]] = {}
    for trial in trials:
        if not trial.case.is_alone:
            shared.setdefault(trial.case.group, []).append(trial)
    lanes = [[trial] for trial in trials if trial.case.is_alone]
    for group in shared.values():
        lanes += [group[at : at + _MOST_IN_A_LANE] for at in range(0, len(group), _MOST_IN_A_LANE)]
    # The longest first, so that the last to end does not begin last.
    return sorted(lanes, key=len, reverse=True)
