"""One upload: how it goes on with another machine's log, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace

import pytest

from cambfs.model import RunInfo
from cambfs.shared.counts import Counts, Usage
from cambfs.shared.engine import EngineFull
from cambfs.tier import upload
from cambfs.tier.run_log import Account, RunLog
from cambfs.tier.seals import Facts, Header, open_facts
from cambfs.tier.tier import Tier
from cambfs.tier.upload import Lead, Reach
from tests.shared.fakes import FakeEngine
from tests.tier.test_follow import KEY, RUN, Log
from tests.tier.test_follow import TOKEN as OTHERS

CONTENT = b"fLaC, and then nine hundred more bytes" * 24
THIRD = len(CONTENT) // 3
TOKEN = b"mine"
WHOLE = Reach(len(CONTENT), RunInfo(len(CONTENT), 7), "framing+frames", "audio/flac")


def part(count: int, info: RunInfo | None = None) -> Reach:
    return Reach(count, info, "", "audio/flac")


class Origin:
    """Its steps say how far it is at each look; then it is over."""

    def __init__(self, steps: Iterator[Reach], content: bytes) -> None:
        self._steps = steps
        self._content = content

    def reach(self, wait_s: float) -> Reach:
        assert wait_s < 1, "it looks often"
        return next(self._steps, Reach(0, None, "", "", is_over=True))

    def bytes_at(self, start: int, count: int) -> bytes:
        return self._content[start : start + count]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def share(engine: FakeEngine, *steps: Reach, content: bytes = CONTENT) -> Usage:
    return share_with(engine, iter(steps), content)


def share_with(engine: FakeEngine, steps: Iterator[Reach], content: bytes = CONTENT) -> Usage:
    """Takes the lease if it is free, and shares."""
    tier, response = Tier(engine, KEY, 1 << 20, Counts("fake://")), Future[Header | None]()
    response.set_result(Header("", "audio/flac", None, None, False, None))
    engine.lease(RUN, TOKEN)
    tier.share(Lead(RUN, TOKEN, Account(engine, KEY)), response, Origin(steps, content))
    return tier.usage()


def facts(engine: FakeEngine) -> Facts | None:
    sealed = engine.facts([RUN]).get(RUN)
    return None if sealed is None else open_facts(KEY, RUN, sealed)


def content(engine: FakeEngine) -> bytes:
    run_log, data = RunLog(Account(engine, KEY), RUN), b""
    while (piece := run_log.read()) is not None:
        data += piece
    return data


def another_machine_stopped(engine: FakeEngine, data: bytes, *, told: bool = False) -> Log:
    log = Log(engine)
    log.append(data)
    if told:
        assert engine.tell(RUN, OTHERS, log.facts(sha256="", proof=""))
    engine.release(RUN, OTHERS)
    return log


def test_all_of_it_is_there_at_the_end(engine: FakeEngine) -> None:
    share(engine, part(10), part(THIRD, WHOLE.info), WHOLE)

    found = facts(engine)
    assert found is not None
    assert (found.is_whole, found.info, content(engine)) == (True, WHOLE.info, CONTENT)
    assert not engine.read(RUN, 0, 1).is_held


def test_the_lease_is_kept_while_bytes_are_compared(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    engine.server.clock = lambda: now
    monkeypatch.setattr(upload, "time", SimpleNamespace(monotonic=lambda: now))
    log = another_machine_stopped(engine, CONTENT[:-1])

    def steps() -> Iterator[Reach]:
        nonlocal now
        for count in (10, THIRD, 2 * THIRD):
            now += 2.0
            yield part(count)
        yield WHOLE

    share_with(engine, steps())
    found = facts(engine)
    assert found is not None
    assert (found.upload, found.is_whole, content(engine)) == (log.header.upload, True, CONTENT)


@pytest.mark.parametrize("begun_with", [CONTENT[:-1] + b"another end", b"something else"], ids=["longer", "other"])
def test_a_log_with_other_bytes_is_replaced(engine: FakeEngine, begun_with: bytes) -> None:
    log = another_machine_stopped(engine, begun_with)
    share(engine, WHOLE)

    found = facts(engine)
    assert found is not None
    assert found.upload != log.header.upload
    assert (found.is_whole, content(engine)) == (True, CONTENT)


def test_the_facts_of_a_log_with_other_bytes_go_with_it(engine: FakeEngine) -> None:
    another_machine_stopped(engine, b"something else", told=True)
    share(engine, part(THIRD))

    assert (facts(engine), content(engine)) == (None, CONTENT[:THIRD])


def test_a_forged_log_is_replaced_counted_and_logged(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    another_machine_stopped(engine, b"something else")
    engine.server.damage(RUN, 200)
    usage = share(engine, WHOLE)

    assert (usage.dropped, content(engine)) == (1, CONTENT)
    assert "dropped from the shared cache" in caplog.text


def test_bytes_that_turn_out_to_be_wrong_are_removed(engine: FakeEngine) -> None:
    wrong = Reach(THIRD, WHOLE.info, "", "audio/flac", is_wrong=True)
    share(engine, part(THIRD, WHOLE.info), wrong)

    assert (facts(engine), content(engine)) == (None, b"")


def test_an_engine_that_loses_each_log_is_given_up(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(upload, "time", SimpleNamespace(monotonic=lambda: now))

    def steps() -> Iterator[Reach]:
        nonlocal now
        for count in range(1, 50):
            now += 1.0
            yield part(count)
            engine.server.evict(RUN)

    assert share_with(engine, steps()).sent_bytes == 1 + 2 + 3
    assert not engine.read(RUN, 0, 1).is_held


def is_full(engine: FakeEngine) -> None:
    engine.server.is_full = True


def has_no_lease(engine: FakeEngine) -> None:
    engine.server.evict(RUN, "l")


@pytest.mark.parametrize("happens", [is_full, has_no_lease])
def test_a_machine_that_cannot_share_keeps_no_lease(engine: FakeEngine, happens: Callable[[FakeEngine], None]) -> None:
    def steps() -> Iterator[Reach]:
        yield part(10)
        happens(engine)
        yield WHOLE

    share_with(engine, steps())
    assert not engine.read(RUN, 0, 1).is_held
    assert (facts(engine), content(engine)) == (None, CONTENT[:10])


def test_what_was_begun_with_one_key_gets_nothing_from_another(engine: FakeEngine) -> None:
    tier, after = Tier(engine, KEY, 1 << 20, Counts("fake://")), FakeEngine(engine.server, "another account")
    response = Future[Header | None]()
    response.set_result(Header("", "audio/flac", None, None, False, None))
    assert engine.lease(RUN, TOKEN)

    def steps() -> Iterator[Reach]:
        yield part(THIRD)
        tier.use(after, b"n" * 32)
        yield WHOLE

    tier.share(Lead(RUN, TOKEN, Account(engine, KEY)), response, Origin(steps(), CONTENT))

    assert content(FakeEngine(engine.server)) == CONTENT[:THIRD]  # as a machine sees it that has the old key still
    assert after.read(RUN, 0, 9).data == b""
    assert tier.usage().is_up is not False


def test_an_engine_takes_results_again_when_it_has_all_of_one(engine: FakeEngine) -> None:
    tier = Tier(engine, KEY, 1 << 20, Counts("fake://"))
    response = Future[Header | None]()
    response.set_result(Header("", "audio/flac", None, None, False, None))

    def put(*steps: Reach) -> str:
        with suppress(EngineFull):
            engine.lease(RUN, TOKEN)
        tier.share(Lead(RUN, TOKEN, Account(engine, KEY)), response, Origin(iter(steps), CONTENT))
        return tier.usage().refusal

    engine.server.is_full = True
    assert put(part(THIRD)) == "fake://: out of memory"
    engine.server.is_full = False
    assert put(part(THIRD)) == "fake://: out of memory", "a part is no sign"
    assert put(WHOLE) == ""
