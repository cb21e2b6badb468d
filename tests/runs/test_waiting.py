"""How long callers wait, requests are repeated, and transfers queue: `deadline`, `retry`, `slots`."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from threading import Event
from types import SimpleNamespace

import pytest

from cambfs import deadline as patience_module
from cambfs.deadline import Deadline
from cambfs.errors import (
    CambfsError,
    Cancelled,
    Closing,
    RateLimited,
    ServerError,
    TimedOut,
    UnknownRun,
    Unreachable,
)
from cambfs.remote import retry
from cambfs.remote.retry import Backoff, retrying
from cambfs.transfers.foreground import Foreground
from cambfs.transfers.slots import Slots
from tests.fakes import LIMIT_S, Gate
from tests.waiting import eventually, in_thread


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (patience_module, retry):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock))
    return clock


# Deadline.


def test_patience_ends_after_the_timeout(clock: Clock) -> None:
    deadline = Deadline(10.0)
    clock.now_s += 10.0
    deadline.check()
    clock.now_s += 0.1

    with pytest.raises(TimedOut, match="no progress for 10 s"):
        deadline.check()


def test_progress_renews_patience(clock: Clock) -> None:
    deadline = Deadline(10.0)
    clock.now_s += 60.0
    deadline.check(progress_at=clock.now_s - 9.0)

    with pytest.raises(TimedOut):
        deadline.check(progress_at=clock.now_s - 11.0)


def test_a_killed_caller_gives_up(clock: Clock) -> None:
    is_killed = Event()
    deadline = Deadline(10.0, is_killed.is_set)
    deadline.check(clock.now_s)
    is_killed.set()

    with pytest.raises(Cancelled):
        deadline.check(clock.now_s)


def test_patience_with_a_future() -> None:
    answered: Future[int] = Future()
    answered.set_result(7)
    failed: Future[int] = Future()
    failed.set_exception(UnknownRun("unknown", 404))

    assert Deadline(LIMIT_S).result(answered) == 7
    with pytest.raises(UnknownRun):
        Deadline(LIMIT_S).result(failed)
    with pytest.raises(Cancelled):
        Deadline(LIMIT_S, lambda: True).result(Future())
    with pytest.raises(TimedOut):
        Deadline(0.0).result(Future())


def test_a_future_that_fails_with_a_timeout_of_its_own_is_not_asked_for_ever() -> None:
    failed: Future[int] = Future()
    failed.set_exception(TimeoutError("its own"))

    with pytest.raises(TimeoutError, match="its own"):
        Deadline(LIMIT_S).result(failed)


# Retry.


@pytest.fixture
def jitter(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets where in its range every pause lies: 0 at its shortest, 1 at its longest."""

    def set_to(share: float) -> None:
        monkeypatch.setattr(retry._jitter, "uniform", lambda a, b: a + share * (b - a))

    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.25)
    monkeypatch.setattr(retry, "_LONGEST_PAUSE_S", 8.0)
    return set_to


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("share", "pauses"), [(0, [0.125, 0.25, 0.5, 1, 2, 4, 4, 4]), (1, [0.25, 0.5, 1, 2, 4, 8, 8, 8])]
)
def test_pauses_grow_within_their_jitter(jitter: Callable[[float], None], share: float, pauses: list[float]) -> None:
    jitter(share)
    backoff = Backoff(1000.0)

    assert [backoff.pause_s(ServerError("down", 503)) for _ in pauses] == pauses


@pytest.mark.usefixtures("clock")
def test_pauses_differ(jitter: Callable[[float], None]) -> None:
    del jitter
    pauses = {Backoff(1000.0).pause_s(ServerError("down", 503)) for _ in range(20)}

    assert len(pauses) > 10
    assert all(0.125 <= pause <= 0.25 for pause in pauses)


@pytest.mark.usefixtures("clock")
def test_a_server_that_says_when_is_believed() -> None:
    assert Backoff(1000.0).pause_s(RateLimited("slowly", 429, retry_after_s=17.0)) == 17.0
    assert 0 < Backoff(1000.0).pause_s(RateLimited("slowly", 429, retry_after_s=0.0)) < 1.0


def test_no_try_begins_after_the_timeout(clock: Clock) -> None:
    backoff = Backoff(10.0)
    clock.now_s += 9.0

    with pytest.raises(RateLimited):
        backoff.pause_s(RateLimited("slowly", 429, retry_after_s=1.5))


def test_progress_starts_the_timeout_and_the_pauses_again(clock: Clock, jitter: Callable[[float], None]) -> None:
    jitter(1)
    backoff = Backoff(10.0)
    for _ in range(4):
        backoff.pause_s(Unreachable("gone"))
    clock.now_s += 100.0
    backoff.progress()

    assert backoff.pause_s(Unreachable("gone")) == 0.25


@pytest.mark.usefixtures("clock")
def test_what_is_not_temporary_is_not_repeated() -> None:
    with pytest.raises(UnknownRun):
        Backoff(1000.0).pause_s(UnknownRun("no", 404))


def _failing(*errors: CambfsError) -> Callable[[], str]:
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_retrying_returns_what_comes_in_the_end() -> None:
    assert retrying(_failing(ServerError("down", 503), Unreachable("gone")), LIMIT_S, Event()) == "done"


def test_retrying_raises_the_last_error() -> None:
    with pytest.raises(UnknownRun):
        retrying(_failing(ServerError("down", 503), UnknownRun("no", 404)), LIMIT_S, Event())


def test_retrying_ends_when_all_ends() -> None:
    closing = Event()
    closing.set()

    with pytest.raises(Closing):
        retrying(_failing(RateLimited("slowly", 429, retry_after_s=LIMIT_S / 2)), LIMIT_S, closing)


# Slots.


@dataclass(eq=False)
class Turn:
    received_at: float = float("inf")
    stopping: bool = False
    is_wanted: bool = True
    brought_at: float = 0.0
    left_s: float = math.inf


def _take(slots: Slots, turn: Turn, order: list[Turn], gate: Gate) -> Future[None]:
    slots.join(turn)
    return _await_turn(slots, turn, order, gate)


def _await_turn(slots: Slots, turn: Turn, order: list[Turn], gate: Gate) -> Future[None]:
    def work() -> None:
        with slots.turn(turn):
            order.append(turn)
            gate.go_through()

    return in_thread(work)


def _have_come(slots: Slots, order: list[Turn], count: int) -> bool:
    return len(order) + slots.waiting == count


def _has_length(order: list[Turn], length: int) -> bool:
    return len(order) == length


def test_first_come_first_served() -> None:
    slots, turns, order = Slots(2, look_every_s=0.001), [Turn() for _ in range(6)], list[Turn]()
    gates = [Gate() for _ in turns]
    futures = []
    for count, (turn, gate) in enumerate(zip(turns, gates, strict=True), 1):
        futures.append(_take(slots, turn, order, gate))
        eventually(partial(_have_come, slots, order, count))

    eventually(lambda: len(order) == 2)
    assert order == turns[:2]
    for count, gate in enumerate(gates):
        gate.open()
        futures[count].result(LIMIT_S)
        eventually(partial(_has_length, order, min(count + 3, 6)))
    assert order == turns


def test_one_that_has_stalled_does_not_count() -> None:
    slots, order, gate = Slots(1), list[Turn](), Gate()
    stalled, healthy = Turn(received_at=0.0), Turn()
    first = _take(slots, stalled, order, gate)
    gate.wait_for_arrivals(1)
    second = _take(slots, healthy, order, gate)
    gate.wait_for_arrivals(2)

    third = _take(slots, Turn(), order, gate)
    eventually(lambda: slots.waiting == 1)
    assert order == [stalled, healthy]
    gate.open()
    for future in (first, second, third):
        future.result(LIMIT_S)


@pytest.mark.parametrize(("limit", "wanted", "is_left"), [(3, 1, True), (2, 1, False), (4, 2, False)])
def test_slots_are_left_to_one_when_no_other_is_wanted_and_one_stays_free(
    limit: int, wanted: int, is_left: bool
) -> None:
    slots, order, gate = Slots(limit), list[Turn](), Gate()
    unwanted = _take(slots, Turn(is_wanted=False), order, gate)
    gate.wait_for_arrivals(1)
    futures = [_take(slots, Turn(), order, gate) for _ in range(wanted)]
    gate.wait_for_arrivals(1 + len(futures))

    assert slots.is_left_to(1) == is_left
    gate.open()
    for future in (unwanted, *futures):
        future.result(LIMIT_S)


def test_the_turns_come_in_the_order_of_joining_and_not_of_the_threads() -> None:
    slots, order, gate = Slots(1, look_every_s=LIMIT_S), list[Turn](), Gate()
    first, second, last = turns = [Turn() for _ in range(3)]
    for turn in turns:
        slots.join(turn)
    slots.leave(first)
    futures = [_await_turn(slots, last, order, gate)]
    assert not order
    futures.append(_await_turn(slots, second, order, gate))
    gate.wait_for_arrivals(1)

    gate.open()
    for future in futures:
        future.result(LIMIT_S)
    assert order == [second, last]


class _Looking(Turn):
    """Counts its looks whether it is its turn."""

    looks = 0

    @property
    def stopping(self) -> bool:
        self.looks += 1
        return False

    @stopping.setter
    def stopping(self, _value: bool) -> None: ...


def test_a_place_that_is_given_up_holds_up_no_other() -> None:
    slots, order, gate = Slots(1, look_every_s=LIMIT_S), list[Turn](), Gate()
    threadless, waiting = Turn(), _Looking()
    slots.join(threadless)
    future = _take(slots, waiting, order, gate)
    eventually(lambda: waiting.looks > 0)
    slots.leave(threadless)

    gate.open()
    future.result(LIMIT_S)


@pytest.mark.parametrize(
    ("running", "may_join"),
    [([], True), ([1.2], True), ([1.3], False), ([math.inf], False), ([0.1, 0.1], False)],
)
@pytest.mark.parametrize("is_wanted", [True, False], ids=["beside wanted ones", "beside unwanted ones"])
def test_one_that_is_not_wanted_yet_follows_one_that_is_about_to_end(
    running: list[float], may_join: bool, is_wanted: bool
) -> None:
    slots, order, gate = Slots(8, look_every_s=0.001), list[Turn](), Gate()
    slots.link.began(3.0)
    slots.link.began(1.0)
    slots.link.began(2.0)
    futures = [_take(slots, Turn(left_s=left_s), order, gate) for left_s in running]
    gate.wait_for_arrivals(len(running))
    for turn in order:
        turn.is_wanted = is_wanted
    ahead = _Looking(is_wanted=False)
    futures.append(_take(slots, ahead, order, gate))
    eventually(lambda: ahead in order if may_join else ahead.looks > 2)

    assert (ahead in order) == may_join
    gate.open()
    for future in futures:
        future.result(LIMIT_S)


def test_one_that_nobody_wants_gives_its_slot_up_at_once() -> None:
    slots, order, gate = Slots(1, look_every_s=LIMIT_S), list[Turn](), Gate()
    unwanted = Turn()
    first = _take(slots, unwanted, order, gate)
    gate.wait_for_arrivals(1)
    second = _take(slots, Turn(), order, gate)
    eventually(lambda: slots.waiting == 1)
    unwanted.is_wanted = False
    slots.look(unwanted)

    gate.wait_for_arrivals(2)
    gate.open()
    for future in (first, second):
        future.result(LIMIT_S)


def test_one_that_is_told_to_stop_leaves_the_queue() -> None:
    slots, order, gate = Slots(1), list[Turn](), Gate()
    running = _take(slots, Turn(), order, gate)
    gate.wait_for_arrivals(1)
    queued, last = Turn(), Turn()
    leaves = _take(slots, queued, order, gate)
    eventually(lambda: slots.waiting == 1)
    stays = _take(slots, last, order, gate)
    eventually(lambda: slots.waiting == 2)
    for turn in (last, queued):
        turn.stopping = True
        slots.look(turn)

    for leaving in (leaves, stays):
        with pytest.raises(Closing):
            leaving.result(LIMIT_S)
    gate.open()
    running.result(LIMIT_S)
    assert queued not in order
    assert last not in order


def test_a_turn_ends_also_when_it_fails() -> None:
    slots, first, second = Slots(1), Turn(), Turn()
    slots.join(first)
    slots.join(second)
    with pytest.raises(ZeroDivisionError), slots.turn(first):
        raise ZeroDivisionError

    with slots.turn(second):
        pass


# Callers first.


@dataclass(eq=False)
class Awaited:
    is_pressing: bool = True
    is_open: bool = True


@pytest.mark.parametrize("run", [Awaited(), Awaited(is_open=False), Awaited(is_pressing=False)])
def test_a_reader_keeps_the_link_between_two_reads(run: Awaited, monkeypatch: pytest.MonkeyPatch) -> None:
    foreground, now = Foreground(), [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with foreground.waiting(run):
        assert foreground._is_busy() == run.is_pressing

    assert foreground._is_busy() == (run.is_pressing and run.is_open)
    now[0] += 1
    assert not foreground._is_busy()
