"""Who leads and who follows, where two machines look at the same moment."""

from __future__ import annotations

from threading import Event

from cambfs.names import RunId
from cambfs.shared.counts import Counts
from cambfs.tier.follow import SharedBody
from cambfs.tier.tier import Tier
from tests.fakes import LIMIT_S
from tests.shared.fakes import FakeEngine
from tests.tier.test_follow import DATA, KEY, RUN, TOKEN, Log, read_all


class LateEngine(FakeEngine):
    """Another machine fetches all of the run after the first look of this one."""

    def lease(self, run_id: RunId, token: bytes) -> bool:
        if token != TOKEN and not self.server.calls.get("finish"):
            log = Log(self)
            log.append(DATA)
            assert self.finish(RUN, TOKEN, log.facts())
        return super().lease(run_id, token)


def test_a_machine_that_comes_a_moment_too_late_fetches_nothing() -> None:
    engine = LateEngine()
    body = Tier(engine, KEY, 1 << 20, Counts("fake://")).open(RUN, 0, lambda *_: None, Event(), LIMIT_S)

    assert isinstance(body, SharedBody)
    assert read_all(body) == DATA
    assert not engine.read(RUN, 0, 1).is_held
