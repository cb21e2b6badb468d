"""When a transfer has come to its goal, and when it brings bytes only to compare them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from cambfs.disk.ranges import RangeSet
from cambfs.intake.content import Content
from cambfs.intake.demand import Demand
from cambfs.transfers.context import Context, Tuning
from cambfs.transfers.downloader import Downloader
from cambfs.transfers.transfer import Transfer

STREAM = cast(Transfer, SimpleNamespace(first_position=10, stop_position=None))
RANGE = cast(Transfer, SimpleNamespace(first_position=10, stop_position=20))


SPAN_BYTES, OVERTAKE_BYTES = 50, 80


def _demand(
    *here: tuple[int, int], needs_another_response: bool = False, has_ranges: bool = True, is_at_work: bool = False
) -> Demand:
    """`is_at_work`: a range beside the stream is to bring bytes where a transfer is."""
    content = SimpleNamespace(
        filled=RangeSet(*here), needs_another_response=needs_another_response, has_ranges=has_ranges
    )
    beside = SimpleNamespace(is_at_work_at=lambda _position: is_at_work)
    downloader = SimpleNamespace(stream=STREAM, beside=beside)
    context = SimpleNamespace(tuning=Tuning(span_bytes=SPAN_BYTES, overtake_bytes=OVERTAKE_BYTES))
    return Demand(cast(Context, context), cast(Content, content), cast(Downloader, downloader))


@pytest.mark.parametrize(("position", "is_reached"), [(12, False), (15, True), (19, True), (20, True)])
def test_a_range_ends_at_its_goal_and_at_bytes_that_are_here(position: int, is_reached: bool) -> None:
    assert _demand((10, 12), (15, 20)).is_reached(RANGE, position) == is_reached


def test_a_range_ends_at_its_goal_before_bytes_that_are_missing() -> None:
    assert _demand((10, 20)).is_reached(RANGE, 20)


@pytest.mark.parametrize(("is_at_work", "worth_bytes"), [(False, SPAN_BYTES), (True, OVERTAKE_BYTES)])
def test_a_stream_leaves_bytes_that_are_here_when_they_are_worth_a_request(is_at_work: bool, worth_bytes: int) -> None:
    """More of them where a range is under way, which may be slow."""
    for here_bytes, is_reached in ((worth_bytes - 1, False), (worth_bytes, True)):
        demand = _demand((100, 100 + here_bytes), is_at_work=is_at_work)
        assert demand.is_reached(STREAM, 100) == is_reached


def test_a_stream_goes_through_bytes_that_are_here_where_there_are_no_ranges() -> None:
    assert not _demand((100, 900), has_ranges=False).is_reached(STREAM, 100)


@pytest.mark.parametrize("transfer", [STREAM, RANGE])
def test_bytes_before_the_first_that_was_missing_are_compared(transfer: Transfer) -> None:
    demand = _demand((0, 10))
    assert demand.is_comparing(transfer, 9)
    assert not demand.is_comparing(transfer, 10)


def test_only_a_stream_compares_all_that_is_here() -> None:
    demand = _demand((0, 100), needs_another_response=True)
    assert demand.is_comparing(STREAM, 50)
    assert not demand.is_comparing(RANGE, 50)
