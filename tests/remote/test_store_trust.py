"""`cambfs.remote.store_trust`: when storage is not asked for a while."""

from __future__ import annotations

import pytest

from cambfs.errors import ServerError, Unreachable
from cambfs.remote.store_trust import StoreTrust


@pytest.fixture
def trust() -> StoreTrust:
    return StoreTrust()


def test_three_failures_in_a_row_to_sign(trust: StoreTrust) -> None:
    error = ServerError("down", 500)
    for _ in range(2):
        trust.note_not_signed(error)
    trust.note_signed()
    for _ in range(2):
        trust.note_not_signed(error)
    assert trust.usable
    trust.note_not_signed(error)
    assert not trust.usable


def test_an_api_that_is_down_says_nothing_of_storage(trust: StoreTrust) -> None:
    error = Unreachable("down")
    error.down_for_s = 5.0
    for _ in range(4):
        trust.note_not_signed(error)
    assert trust.usable
