"""Whether an engine that failed is left alone, and for how long."""

from __future__ import annotations

import logging

import pytest

from cambfs.shared.breaker import PAUSE_S, Breaker
from cambfs.shared.engine import EngineClosed, EngineDown, EngineFull, RunMoves
from tests.shared.conftest import Clock
from tests.waiting import raises


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("valkey://cache", clock)


def call(breaker: Breaker, error: Exception | None = None) -> None:
    with breaker.attempt():
        if error is not None:
            raise error


def fail(breaker: Breaker) -> None:
    with pytest.raises(EngineDown, match=r"^gone$"):
        call(breaker, EngineDown("gone"))


def is_left_alone(breaker: Breaker) -> bool:
    return raises(EngineDown, lambda: call(breaker))


def test_after_a_failure_the_engine_is_left_alone_for_a_while(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)

    with pytest.raises(EngineDown, match=r"^gone$"):
        call(breaker)
    clock.now_s += PAUSE_S - 0.1
    assert is_left_alone(breaker)
    clock.now_s += 0.1
    assert not is_left_alone(breaker)
    assert not is_left_alone(breaker)


def test_one_call_tries_on_behalf_of_all(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now_s += PAUSE_S

    with breaker.attempt():
        assert is_left_alone(breaker)
    assert not is_left_alone(breaker)


def test_a_trial_that_fails_begins_another_pause(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now_s += PAUSE_S
    fail(breaker)

    clock.now_s += PAUSE_S - 0.1
    assert is_left_alone(breaker)
    clock.now_s += 0.1
    assert not is_left_alone(breaker)


def test_a_trial_that_ends_in_a_mistake_of_ours_does_not_block_the_next(breaker: Breaker, clock: Clock) -> None:
    fail(breaker)
    clock.now_s += PAUSE_S
    with pytest.raises(ZeroDivisionError):
        call(breaker, ZeroDivisionError())

    assert not is_left_alone(breaker)


@pytest.mark.parametrize("error", [EngineFull("full"), RunMoves("moves")])
def test_a_refusal_is_a_response(breaker: Breaker, clock: Clock, error: EngineDown) -> None:
    with pytest.raises(type(error)):
        call(breaker, error)
    assert not is_left_alone(breaker)

    fail(breaker)
    clock.now_s += PAUSE_S
    with pytest.raises(type(error)):
        call(breaker, error)
    assert not is_left_alone(breaker)


def test_the_log_has_a_line_for_each_change(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        with breaker.attempt():
            fail(breaker)  # another call, which began before
        is_left_alone(breaker)
        clock.now_s += PAUSE_S
        fail(breaker)
        clock.now_s += PAUSE_S
        call(breaker)
        call(breaker)

    assert [record.message for record in caplog.records] == [
        "the shared cache is down, so results come from the API: gone; "
        "to find out why: cambfs doctor --shared-cache valkey://cache",
        "the shared cache valkey://cache is back",
    ] * 2


def test_an_engine_that_this_program_has_closed_is_not_down(breaker: Breaker, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(EngineClosed):
        call(breaker, EngineClosed("not used any more"))
    assert not is_left_alone(breaker)
    assert not caplog.records
