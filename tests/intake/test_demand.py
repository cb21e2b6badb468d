"""When a transfer has come to its goal, and when it brings bytes only to compare them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cambfs.disk.ranges import RangeSet
from cambfs.intake.content import Content
from cambfs.intake.demand import Demand
from cambfs.transfers.context import Context
from cambfs.transfers.downloader import Downloader
from cambfs.transfers.transfer import Transfer

STREAM = cast(Transfer, SimpleNamespace(first_position=10, stop_position=None))
RANGE = cast(Transfer, SimpleNamespace(first_position=10, stop_position=20))


def _demand(*here: tuple[int, int], needs_another_response: bool = False) -> Demand:
    content = SimpleNamespace(filled=RangeSet(*here), needs_another_response=needs_another_response)
    downloader = SimpleNamespace(stream=STREAM)
    return Demand(cast(Context, None), cast(Content, content), cast(Downloader, downloader))


@pytest.mark.parametrize(("position", "is_reached"), [(12, False), (15, True), (19, True), (20, True)])
def test_a_range_ends_at_its_goal_and_at_bytes_that_are_here(position: int, is_reached: bool) -> None:
    assert _demand((10, 12), (15, 20)).is_reached(RANGE, position) == is_reached


def test_a_range_ends_at_its_goal_before_bytes_that_are_missing() -> None:
    assert _demand((10, 20)).is_reached(RANGE, 20)


@pytest.mark.parametrize("transfer", [STREAM, RANGE])
def test_bytes_before_the_first_that_was_missing_are_compared(transfer: Transfer) -> None:
    demand = _demand((0, 10))
    assert demand.is_comparing(transfer, 9)
    assert not demand.is_comparing(transfer, 10)


def test_only_a_stream_compares_all_that_is_here() -> None:
    demand = _demand((0, 100), needs_another_response=True)
    assert demand.is_comparing(STREAM, 50)
    assert not demand.is_comparing(RANGE, 50)
