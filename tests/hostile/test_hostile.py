"""A hostile server, through real mounts: whatever it says, the reader gets the right bytes or an errno.

The fast suite tries each case in one way of reading, in turns; with CAMBFS_HOSTILE=all, as `scripts/hostile` sets it,
each in all its ways. The lanes run beside each other, for most of their time is waiting.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hostile.cases import CASES
from tests.hostile.mounts import Lane, Outcome, Trial, lanes_of, trials_of

IN_ALL_MODES = os.environ.get("CAMBFS_HOSTILE") == "all"
TRIALS = trials_of(CASES, in_all_modes=IN_ALL_MODES)
_LANES_AT_ONCE = 8
_LIMIT_S = 900.0 if IN_ALL_MODES else 115.0

Outcomes = dict[str, Future[dict[str, Outcome]]]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """Of the trials that were selected: in progress."""
    selected = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    directory = tmp_path_factory.mktemp("hostile")
    with ThreadPoolExecutor(_LANES_AT_ONCE) as pool:
        found: Outcomes = {}
        for number, trials in enumerate(lanes_of([trial for trial in TRIALS if trial.id in selected])):
            future = pool.submit(_run, trials, directory / str(number))
            found.update({trial.id: future for trial in trials})
        yield found


def _run(trials: list[Trial], directory: Path) -> dict[str, Outcome]:
    return Lane(trials, directory).run()


@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("trial", TRIALS, ids=[trial.id for trial in TRIALS])
def test_a_hostile_server(trial: Trial, outcomes: Outcomes) -> None:
    outcome = outcomes[trial.id].result(_LIMIT_S)[trial.id]
    assert not outcome.problems, f"{outcome.got or 'nothing'} after {outcome.seconds:.1f} s\n" + "\n".join(
        outcome.problems
    )
