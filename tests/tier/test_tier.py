"""Who leads and who follows, where two machines look at the same moment."""

from __future__ import annotations

from threading import Event

import pytest

from cambfs.names import RunId
from cambfs.shared.counts import Counts
from cambfs.tier.follow import SharedBody
from cambfs.tier.run_log import Account
from cambfs.tier.tier import Tier
from cambfs.tier.upload import Lead
from tests.fakes import LIMIT_S
from tests.shared.fakes import FakeEngine
from tests.tier.test_follow import DATA, KEY, RUN, TOKEN, Log, read_all
from tests.waiting import eventually, in_thread


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


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def a_tier(engine: FakeEngine, most_bytes: int = 1 << 26) -> Tier:
    return Tier(engine, KEY, most_bytes, Counts("fake://"))


@pytest.mark.parametrize("ends_by", ["patience", "closing"])
def test_a_machine_whose_response_does_not_come_is_not_waited_for(engine: FakeEngine, ends_by: str) -> None:
    engine.server.clock = lambda: 0.0  # the lease never lapses
    assert engine.lease(RUN, TOKEN)
    closing, patience_s = Event(), 0.0 if ends_by == "patience" else 10 * LIMIT_S
    opened = in_thread(lambda: a_tier(engine).open(RUN, 0, lambda *_: None, closing, patience_s))
    eventually(lambda: engine.server.calls.get("read", 0) > 0)
    if ends_by == "closing":
        closing.set()

    assert opened.result(LIMIT_S) is None


def test_a_result_that_is_too_large_is_not_looked_for_behind_the_limit(engine: FakeEngine) -> None:
    tier = a_tier(engine)

    assert tier.open(RUN, 1 << 26, lambda *_: None, Event(), LIMIT_S) is None
    assert not engine.server.calls


def test_a_result_that_another_machine_found_too_large_is_fetched_alone(engine: FakeEngine) -> None:
    log = Log(engine)
    assert engine.tell(RUN, TOKEN, log.facts(sha256="", proof=""))
    engine.release(RUN, TOKEN)

    assert a_tier(engine, len(DATA) - 1).open(RUN, 0, lambda *_: None, Event(), LIMIT_S) is None
    assert engine.server.calls["lease"] == 1, "that of the other machine"


def test_forged_facts_are_no_facts_and_are_removed(engine: FakeEngine) -> None:
    log = Log(engine)
    assert engine.tell(RUN, TOKEN, b"x" + log.facts()[1:])
    tier = a_tier(engine)

    assert tier.known([RUN]) == {}
    assert (tier.usage().dropped, engine.facts([RUN])) == (1, {})


def test_a_forged_header_is_removed(engine: FakeEngine) -> None:
    Log(engine)
    engine.release(RUN, TOKEN)
    engine.server.damage(RUN, 20)
    tier = a_tier(engine)

    assert isinstance(tier.open(RUN, 0, lambda *_: None, Event(), LIMIT_S), Lead)
    assert (tier.usage().dropped, engine.read(RUN, 0, 1).data) == (1, b"")


def test_a_full_engine_is_up_and_says_why_it_takes_nothing(engine: FakeEngine) -> None:
    tier = a_tier(engine)
    engine.server.is_full = True
    for _ in range(2):
        assert tier.open(RUN, 0, lambda *_: None, Event(), LIMIT_S) is None
        assert (tier.usage().is_up, tier.usage().refusal) == (True, "fake://: out of memory")
    engine.server.is_full = False
    assert isinstance(tier.open(RUN, 0, lambda *_: None, Event(), LIMIT_S), Lead)
    assert tier.usage().refusal, "a lease is no result"


NEW_KEY = b"n" * 32


def test_another_key_has_logs_of_its_own(engine: FakeEngine) -> None:
    log = Log(engine)
    log.append(DATA[:4])
    tier, heard = a_tier(engine), list[object]()
    body = tier.open(RUN, 0, lambda *told: heard.append(told), Event(), LIMIT_S)
    assert isinstance(body, SharedBody)
    assert body.read(99) == DATA[:4]

    after = FakeEngine(engine.server, "another account")
    tier.use(after, NEW_KEY)
    log.append(DATA[4:], FakeEngine(engine.server))  # by a machine that has the old key still

    assert body.read(99) == b""  # its bytes are not taken any more
    assert (body.stop, body.total, heard) == (4, None, [])
    lead = tier.open(RUN, 4, lambda *_: None, Event(), LIMIT_S)
    assert isinstance(lead, Lead)
    assert after.read(RUN, 0, 1).is_held
    assert lead.account == Account(after, NEW_KEY)
    assert tier.usage().is_up
