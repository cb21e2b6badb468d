"""How far a run is fetched, and what is kept of it, for each kind of interest."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cambfs.errors import CambfsError, TimedOut, UnknownRun
from cambfs.intake.interest import Interest
from cambfs.transfers.context import Tuning

TUNING = Tuning(nearly_bytes=5, beside_bytes=100, beside_s=2.0)
FINAL, PASSING = UnknownRun("run 1: it says 404", 404), TimedOut("no response")


@pytest.fixture
def waiters() -> list[object]:
    return []


@pytest.fixture
def interest(waiters: list[object]) -> Interest:
    return Interest(waiters, TUNING)


def _nothing(_interest: Interest) -> None:
    """No guess."""


def _next(interest: Interest) -> None:
    interest.guess_next(50, is_begun=False)


def _look(interest: Interest) -> None:
    interest.guess_open(is_begun=False, has_stream=False)


def _look_at_stream(interest: Interest) -> None:
    interest.guess_open(is_begun=False, has_stream=True)


def test_without_interest_nothing_is_fetched(interest: Interest) -> None:
    assert not interest.is_open
    assert not interest.is_awaited
    assert not interest.is_wanted(None, 0)
    assert not interest.is_wanted(100, 0)


# Callers.


def test_an_open_run_is_wanted_until_the_last_handle_is_gone(interest: Interest) -> None:
    interest.add_handle()
    interest.add_handle()
    interest.remove_handle()
    assert (interest.is_open, interest.is_awaited, interest.is_wanted(100, 0)) == (True, True, True)

    interest.remove_handle()
    assert (interest.is_open, interest.is_awaited, interest.is_wanted(100, 0)) == (False, False, False)


def test_a_run_is_wanted_while_a_caller_waits(interest: Interest, waiters: list[object]) -> None:
    waiters.append("a caller")
    assert (interest.is_open, interest.is_awaited, interest.is_wanted(100, 0)) == (False, True, True)

    waiters.clear()
    assert not interest.is_wanted(100, 0)


@pytest.mark.parametrize(
    ("size", "here_bytes", "is_wanted"),
    [(40, 35, True), (40, 34, False), (100, 90, True), (100, 89, False), (4, 0, False), (None, 35, False)],
)
def test_the_rest_of_a_nearly_complete_result_is_wanted(
    interest: Interest, size: int | None, here_bytes: int, is_wanted: bool
) -> None:
    assert interest.is_wanted(size, here_bytes) == is_wanted


# Guesses.


@pytest.mark.parametrize(
    ("size", "here_bytes", "is_wanted"),
    [(50, 0, True), (51, 0, False), (None, 0, True), (None, 50, True), (None, 51, False)],
)
def test_the_next_of_a_sequence_is_wanted_if_it_is_not_larger(
    interest: Interest, size: int | None, here_bytes: int, is_wanted: bool
) -> None:
    _next(interest)
    assert interest.is_next
    assert not interest.is_awaited
    assert interest.is_wanted(size, here_bytes) == is_wanted

    interest.drop_next()
    assert not interest.is_next
    assert not interest.is_wanted(size, here_bytes)


def test_a_look_at_the_size_alone_makes_nothing_wanted(interest: Interest) -> None:
    _look(interest)
    assert not interest.is_next
    assert not interest.is_wanted(50, 0)


@pytest.mark.parametrize(
    ("guess", "is_unasked", "may_return"),
    [
        (_nothing, False, True),
        (_next, True, False),
        (_look, True, True),
        (_look_at_stream, True, False),
        (lambda interest: interest.guess_next(50, is_begun=True), False, True),
        (lambda interest: interest.guess_open(is_begun=True, has_stream=True), False, True),
    ],
)
def test_a_part_is_kept_and_a_stream_lingers(
    interest: Interest, guess: Callable[[Interest], None], is_unasked: bool, may_return: bool
) -> None:
    guess(interest)
    assert (interest.is_unasked, interest.may_return) == (is_unasked, may_return)


def test_an_open_ends_every_guess(interest: Interest) -> None:
    _next(interest)
    _look(interest)
    interest.add_handle()
    interest.remove_handle()

    assert (interest.is_next, interest.is_unasked, interest.may_return) == (False, False, True)
    assert not interest.disown_stream()
    assert not interest.is_wanted(50, 0)


@pytest.mark.parametrize("guess", [_next, _look])
def test_an_open_run_is_not_guessed_at(interest: Interest, guess: Callable[[Interest], None]) -> None:
    interest.add_handle()
    with pytest.raises(AssertionError, match="an open confirms"):
        guess(interest)


def test_both_guesses_may_be_made(interest: Interest) -> None:
    _look(interest)
    _next(interest)
    assert (interest.is_next, interest.may_return) == (True, True)

    interest.drop_next()
    assert (interest.is_next, interest.may_return) == (False, True)


def test_a_part_that_was_fetched_as_the_next_is_not_kept_after_all(interest: Interest) -> None:
    _next(interest)
    interest.drop_next()
    assert interest.is_unasked


# Priority.


@pytest.mark.parametrize(
    ("missing_bytes", "bytes_per_s", "is_pressing"),
    [(0, 0.0, False), (100, 0.0, False), (101, 0.0, True), (80, 40.0, False), (81, 40.0, True)],
)
def test_one_of_a_sequence_presses_while_much_is_missing(
    interest: Interest, missing_bytes: int, bytes_per_s: float, is_pressing: bool
) -> None:
    assert interest.is_pressing(missing_bytes, bytes_per_s)

    interest.note_in_sequence()
    assert interest.is_pressing(missing_bytes, bytes_per_s) == is_pressing


def test_the_next_of_a_sequence_is_in_it(interest: Interest) -> None:
    _next(interest)
    assert not interest.is_pressing(0, 0.0)


# Failures.


def test_a_stream_of_a_look_is_disowned_once(interest: Interest) -> None:
    _look(interest)
    _look_at_stream(interest)
    assert interest.disown_stream()
    assert not interest.disown_stream()


@pytest.mark.parametrize("guess", [_next, _look_at_stream])
def test_other_streams_are_not_disowned(interest: Interest, guess: Callable[[Interest], None]) -> None:
    guess(interest)
    assert not interest.disown_stream()


@pytest.mark.parametrize(("error", "withheld"), [(FINAL, FINAL), (PASSING, None)])
def test_callers_are_spared_one_failure_that_they_did_not_ask_for(
    interest: Interest, waiters: list[object], error: CambfsError, withheld: CambfsError | None
) -> None:
    waiters.append("a caller")
    _look(interest)
    assert interest.withhold(error, may_storage_tell=True)
    assert not interest.withhold(error, may_storage_tell=True)

    assert interest.take_withheld() is withheld
    assert interest.take_withheld() is None


def test_a_final_failure_is_told_where_storage_cannot_tell_the_size(interest: Interest, waiters: list[object]) -> None:
    waiters.append("a caller")
    _look(interest)
    assert not interest.withhold(FINAL, may_storage_tell=False)
    assert interest.withhold(PASSING, may_storage_tell=False)


def test_a_failure_is_spared_to_waiting_callers_only(interest: Interest, waiters: list[object]) -> None:
    _look(interest)
    assert not interest.withhold(FINAL, may_storage_tell=True)

    waiters.append("a caller")
    interest.add_handle()
    assert not interest.withhold(FINAL, may_storage_tell=True)
    assert interest.take_withheld() is None
