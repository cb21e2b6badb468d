"""A hostile server, through real mounts: in all cases the reader gets the right bytes or an errno.

The fast suite tries each case in one way of reading, in turns; with CAMBFS_HOSTILE=all, as `scripts/hostile` sets it,
each in all its ways. The lanes run beside each other, for most of their time is waiting.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.hostile.case import MODES, RIGHT, Case
from tests.hostile.cases import CASES
from tests.hostile.mounts import Lane, Outcome
from tests.hostile.trials import Trial, lanes_of, trials_of
from tests.kernel.faults import seen

SECTION = "A hostile server"
GROUPS = tuple(dict.fromkeys(case.group for case in CASES))
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
    if trial.case.is_notable:
        note(f"{trial.case.group}: {trial.case.name}", [outcome])
    assert not outcome.problems, f"{outcome.got or 'nothing'} after {outcome.seconds:.1f} s\n" + "\n".join(
        outcome.problems
    )


@pytest.mark.timeout(_LIMIT_S)
@pytest.mark.parametrize("group", GROUPS)
def test_a_group_of_cases(group: str, outcomes: Outcomes) -> None:
    """All of a group together, for the page on reliability."""
    trials = [trial for trial in TRIALS if trial.case.group == group and trial.id in outcomes]
    found = [outcomes[trial.id].result(_LIMIT_S)[trial.id] for trial in trials]
    assert not [problem for outcome in found for problem in outcome.problems]
    note(f"{group}: {len(found)} in all", found)


def test_connections_to_a_healthy_server_are_used_again(tmp_path: Path) -> None:
    """Or bytes behind a response would never meet the next request."""
    healthy = [Trial(Case("healthy", str(n), RIGHT, is_kept=True), mode, 10 * n) for n, mode in enumerate(MODES, 1)]
    lane = Lane(healthy, tmp_path / "lane")
    assert not [problem for outcome in lane.run().values() for problem in outcome.problems]
    carried = Counter(record.connection for record in lane.server.requests if record.origin == "api")
    assert sum(count > 1 for count in carried.values()) > len(carried) / 2


def note(what: str, found: Sequence[Outcome]) -> None:
    """A row of docs/reliability.md."""
    gets = Counter("the right bytes" if outcome.got == "right" else outcome.got for outcome in found)
    reader_sees = ", ".join(f"{got}: {count}" if len(found) > 1 else got for got, count in gets.most_common())
    kept = sum(outcome.is_kept for outcome in found)
    cache = f"{kept} right results" if len(found) > 1 else "the whole result" if kept else "nothing"
    error_log = "nothing" if set(gets) == {"the right bytes"} else "each failure"
    seen(SECTION, what, reader_sees, max(outcome.seconds for outcome in found), cache, error_log)
