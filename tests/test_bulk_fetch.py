"""`cambfs fetch` while the API is down for a moment, or for longer."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cambfs.bulk_fetch import Fetch
from cambfs.errors import CambfsError, Unreachable
from cambfs.names import RunId
from tests.fakes import FakeSource, Plan, Result, some_flac
from tests.waiting import MakeLibrary

SIZE = 5000


@dataclass
class Said:
    done_runs: list[int] = field(default_factory=list)
    failed_runs: list[int] = field(default_factory=list)

    def advanced(self, count: int) -> None:
        pass

    def done(self, run_id: RunId, _size: int, *, was_there: bool) -> None:
        assert not was_there
        self.done_runs.append(run_id)

    def failed(self, run_id: RunId, _error: CambfsError) -> None:
        self.failed_runs.append(run_id)


@pytest.mark.parametrize(("down_for_s", "is_outlasted"), [(0.0, True), (60.0, False)])
def test_an_outage_is_outlasted_within_the_timeout(
    down_for_s: float, is_outlasted: bool, source: FakeSource, make_library: MakeLibrary
) -> None:
    down = Unreachable("gone")
    down.down_for_s = down_for_s
    for run_id in (1, 2):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id)))
        source.plan("stream", run_id, Plan(error=down))
    said = Said()
    Fetch(make_library(), None, said).run([RunId(1), RunId(2)], workers=2)
    assert sorted(said.done_runs) == ([1, 2] if is_outlasted else [])
    assert sorted(said.failed_runs) == ([] if is_outlasted else [1, 2])
