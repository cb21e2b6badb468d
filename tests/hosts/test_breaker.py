"""When an origin counts as down, for how long, and which request tries again. The clock is the test's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from cambfs.errors import BadResponse, BrokenBody, ConnectTimedOut, LinkError, ServerError, TimedOut, Unreachable
from cambfs.hosts.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker, Breakers, OriginState
from cambfs.hosts.origins import origin_of
from tests.waiting import eventually

REFUSED = Unreachable("run 1: api.example refuses the connection", 111)
SILENT = TimedOut("run 1: api.example does not respond in time")
LIMIT_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def _answered(breaker: Breaker) -> None:
    with breaker.attempt("run 1"):
        pass


def _attempt(breaker: Breaker, error: BaseException, meanwhile: Sequence[Callable[[], object]]) -> None:
    with breaker.attempt("run 1"):
        for happens in meanwhile:
            happens()
        raise error


def _failed(breaker: Breaker, error: BaseException, *meanwhile: Callable[[], object]) -> None:
    with pytest.raises(type(error)) as caught:
        _attempt(breaker, error, meanwhile)
    assert caught.value is error, "the request was made"


def _refuses(breaker: Breaker) -> LinkError:
    """A request fails without being made."""
    with pytest.raises(LinkError) as caught, breaker.attempt("run 2"):
        pytest.fail("the request was made")
    return caught.value


@pytest.mark.parametrize("error", [REFUSED, ConnectTimedOut("run 1: api.example does not respond in time")])
def test_one_failure_to_connect_opens_it(error: LinkError, breaker: Breaker) -> None:
    _failed(breaker, error)

    refused = _refuses(breaker)
    assert type(refused) is type(error)
    assert getattr(refused, "errno", None) == getattr(error, "errno", None)
    assert refused is not error


def test_what_a_user_reads_while_it_is_open(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, REFUSED)
    clock.wait(1)

    assert str(_refuses(breaker)) in {
        f"run 2: api.example refuses the connection; it is tried again in {left} s" for left in (3, 4)
    }
    assert str(REFUSED) == "run 1: api.example refuses the connection"


@pytest.mark.parametrize(
    "error", [ServerError("busy", 503), BadResponse("odd", 0), BrokenBody("cut"), LinkError("lost")]
)
def test_other_failures_leave_it_closed(error: Exception, breaker: Breaker) -> None:
    for _ in range(5):
        _failed(breaker, error)
    _answered(breaker)


def test_silence_opens_it_the_second_time(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, SILENT, lambda: clock.wait(10))
    _failed(breaker, SILENT, lambda: clock.wait(10))
    _refuses(breaker)


def test_silence_about_what_is_stuck_says_nothing(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        _silent_about(breaker, clock, "run 1")
        breaker.note_stuck("run 1")
    _silent_about(breaker, clock, "run 2")
    _silent_about(breaker, clock, "the API")
    _refuses(breaker)


def test_a_few_stuck_results_leave_it_closed_until_one_more(breaker: Breaker, clock: Clock) -> None:
    for count in range(3):
        _silent_about(breaker, clock, f"run {count}")
        assert breaker.takes_check()
        breaker.note_stuck(f"run {count}")
    _silent_about(breaker, clock, "run 3")
    _refuses(breaker)


def test_an_answer_in_between_forgives_what_is_stuck(breaker: Breaker, clock: Clock) -> None:
    for count in range(5):
        _silent_about(breaker, clock, f"run {count}")
        breaker.note_stuck(f"run {count}")
        _answered(breaker)
    for run_id in (5, 6):
        _silent_about(breaker, clock, f"run {run_id}")
        breaker.note_stuck(f"run {run_id}")
    assert not breaker.is_open


def _silent_about(breaker: Breaker, clock: Clock, what: str) -> None:
    clock.wait(10)
    with pytest.raises(TimedOut, match=r"in time$"), breaker.attempt(what):
        raise TimedOut(f"{what}: api.example does not respond in time")


def test_silence_to_many_who_asked_together_counts_once(breaker: Breaker, clock: Clock) -> None:
    first, second = breaker.attempt("run 1"), breaker.attempt("run 2")
    first.__enter__()
    second.__enter__()
    clock.wait(10)
    for attempt in (first, second):
        assert not attempt.__exit__(TimedOut, SILENT, None)
    _answered(breaker)


def test_an_answer_in_between_forgives_a_silence(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, SILENT, lambda: clock.wait(10))
    _answered(breaker)
    _failed(breaker, SILENT, lambda: clock.wait(10))
    _answered(breaker)


def test_one_silent_request_says_nothing_while_others_are_served(breaker: Breaker, clock: Clock) -> None:
    for _ in range(5):
        _failed(breaker, SILENT, lambda: clock.wait(9), breaker.note_bytes, lambda: clock.wait(1))
    _answered(breaker)


def test_a_silence_while_others_were_served_is_not_the_first(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, SILENT, lambda: clock.wait(9), breaker.note_bytes, lambda: clock.wait(1))
    assert not breaker.takes_check()
    _failed(breaker, SILENT, lambda: clock.wait(10))
    _answered(breaker)


def test_a_connection_that_is_not_made_says_nothing_while_others_are_served(breaker: Breaker, clock: Clock) -> None:
    error = ConnectTimedOut("no connection")
    _failed(breaker, error, lambda: clock.wait(9), breaker.note_bytes, lambda: clock.wait(1))
    _answered(breaker)


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_failure_tells_whether_the_host_was_heard_meanwhile(is_heard: bool, breaker: Breaker, clock: Clock) -> None:
    _answered(breaker)
    clock.wait(1)
    error = TimedOut("silent")
    meanwhile = [lambda: clock.wait(1), *([breaker.note_bytes] if is_heard else [])]
    _failed(breaker, error, *meanwhile)
    assert error.is_host_heard == is_heard


def test_a_refusal_that_is_older_than_an_answer_says_nothing(breaker: Breaker, clock: Clock) -> None:
    clock.wait(1)
    _failed(breaker, REFUSED, lambda: clock.wait(1), lambda: _answered(breaker))
    _answered(breaker)


def test_bytes_do_not_hide_a_refusal(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, REFUSED, lambda: clock.wait(1), breaker.note_bytes)
    _refuses(breaker)


def test_one_caller_asks_the_question_after_each_first_silence(breaker: Breaker, clock: Clock) -> None:
    assert not breaker.takes_check()
    for _ in range(2):
        _failed(breaker, SILENT, lambda: clock.wait(10))
        assert [breaker.takes_check(), breaker.takes_check()] == [True, False]
        _answered(breaker)


def test_after_some_seconds_a_request_tries_and_its_answer_closes_it(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S / 2)
    _refuses(breaker)
    clock.wait(FIRST_PAUSE_S / 2)

    with breaker.attempt("run 1"):
        assert "is being tried again" in str(_refuses(breaker))
    _answered(breaker)
    _answered(breaker)


def test_a_trial_that_fails_keeps_it_open(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S)
    _failed(breaker, SILENT, lambda: clock.wait(10))

    assert type(_refuses(breaker)) is TimedOut, "for the reason that there is now"


@pytest.mark.parametrize("error", [BadResponse("odd", 0), KeyboardInterrupt()])
def test_a_trial_that_says_nothing_leaves_the_next_one_to_try(
    error: BaseException, breaker: Breaker, clock: Clock
) -> None:
    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S)
    _failed(breaker, error)
    _answered(breaker)


def test_an_answer_to_an_older_request_closes_it(breaker: Breaker) -> None:
    with breaker.attempt("run 1"):
        _failed(breaker, ConnectTimedOut("run 1: x"))
        _refuses(breaker)
    _answered(breaker)


def test_a_trial_that_fails_after_an_older_request_was_answered_says_nothing(breaker: Breaker, clock: Clock) -> None:
    older = breaker.attempt("run 1")
    older.__enter__()
    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S)
    _failed(breaker, SILENT, lambda: clock.wait(1), lambda: older.__exit__(None, None, None), lambda: clock.wait(9))
    _answered(breaker)


def test_a_trial_that_is_stuck_does_not_keep_others_from_trying(breaker: Breaker, clock: Clock) -> None:
    def another_tries() -> None:
        with breaker.attempt("run 2"):
            assert "is being tried again" in str(_refuses(breaker))

    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S)
    _failed(breaker, SILENT, lambda: _refuses(breaker), lambda: clock.wait(FIRST_PAUSE_S), another_tries)
    _answered(breaker)


def test_trials_that_fail_together_lengthen_the_pause_once(breaker: Breaker, clock: Clock) -> None:
    def another_fails() -> None:
        _failed(breaker, TimedOut("run 2: x"), lambda: clock.wait(1))

    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S)
    error = TimedOut("run 1: x")
    _failed(breaker, error, lambda: clock.wait(FIRST_PAUSE_S), another_fails)
    assert error.down_for_s == _pause_s(breaker) <= 2 * FIRST_PAUSE_S


def test_to_connect_is_no_answer(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, SILENT, lambda: clock.wait(10))
    with breaker.attempt("the API", is_request=False):
        pass
    _failed(breaker, SILENT, lambda: clock.wait(10))
    _refuses(breaker)


def _pause_s(breaker: Breaker) -> float:
    return breaker.state("").seconds_left


def test_trials_that_take_long_come_more_and_more_seldom(breaker: Breaker, clock: Clock) -> None:
    _failed(breaker, ConnectTimedOut("run 1: x"), lambda: clock.wait(10))
    pauses = [_pause_s(breaker)]
    for _ in range(5):
        clock.wait(pauses[-1])
        _failed(breaker, SILENT, lambda: clock.wait(10))
        pauses.append(_pause_s(breaker))

    wanted = [5, 10, 20, 30, 30, 30]
    assert all(0.8 * most <= pause <= most for pause, most in zip(pauses, wanted, strict=True)), pauses
    assert max(wanted) == LONGEST_PAUSE_S


def test_trials_that_cost_nothing_come_every_few_seconds(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        _failed(breaker, REFUSED)
        assert 0.8 * FIRST_PAUSE_S <= _pause_s(breaker) <= FIRST_PAUSE_S
        clock.wait(FIRST_PAUSE_S)


def test_of_many_threads_one_tries(breaker: Breaker, clock: Clock) -> None:
    count = 32
    _failed(breaker, REFUSED)
    clock.wait(FIRST_PAUSE_S)
    together, is_decided = Barrier(count), Event()

    def ask(_number: int) -> bool:
        together.wait(LIMIT_S)
        try:
            with breaker.attempt("run 1"):
                return is_decided.wait(LIMIT_S)
        except Unreachable:
            return False

    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(ask, number) for number in range(count)]
        eventually(lambda: sum(future.done() for future in asked) == count - 1, "all but one have failed")
        is_decided.set()
        assert sum(future.result(LIMIT_S) for future in asked) == 1
    _answered(breaker)


def test_origins_do_not_share_their_fate() -> None:
    breakers = Breakers()
    api, storage = origin_of("https://api.example/apis"), origin_of("http://storage.example:81/a?signature=secret")
    _failed(breakers.of(storage), Unreachable("run 1: storage.example:81 is down"))

    _answered(breakers.of(api))
    closed, opened = breakers.states()[::-1]
    assert closed == OriginState("https://api.example", is_open=False, reason="", seconds_left=0.0)
    assert (opened.origin, opened.is_open) == ("http://storage.example:81", True)
    assert opened.reason == "storage.example:81 is down"
    assert 0 < opened.seconds_left <= FIRST_PAUSE_S


def test_a_server_that_invents_names_fills_no_memory() -> None:
    breakers = Breakers()
    for number in range(1000):
        _answered(breakers.of(origin_of(f"https://{number}.example/")))
    assert len(breakers.states()) < 100
