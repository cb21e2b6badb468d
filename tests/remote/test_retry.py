"""Which failures are repeated while a host is down."""

from __future__ import annotations

from threading import Event

import pytest

from cambfs.errors import Unreachable
from cambfs.remote.retry import Backoff, retrying
from tests.fakes import LIMIT_S


def _down() -> Unreachable:
    error = Unreachable("gone")
    error.down_for_s = 4.0
    return error


def test_a_request_to_a_host_that_is_down_is_not_repeated() -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise _down()

    with pytest.raises(Unreachable):
        retrying(ask, LIMIT_S, Event())
    assert len(asked) == 1


def test_what_is_under_way_outlasts_an_outage() -> None:
    assert Backoff(LIMIT_S).pause_s(_down(), outlast_outage=True) > 0


def test_an_outage_is_not_outlasted_for_longer_than_the_timeout() -> None:
    with pytest.raises(Unreachable):
        Backoff(0.0).pause_s(_down(), outlast_outage=True)
