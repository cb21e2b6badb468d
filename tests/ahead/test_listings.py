"""`cambfs.ahead.listings`: which listings are remembered."""

from __future__ import annotations

import pytest

from cambfs.ahead import listings as listings_module
from cambfs.ahead.listings import Listings
from cambfs.names import RunId


def _runs(first: int, count: int) -> list[RunId]:
    return [RunId(run_id) for run_id in range(first, first + count)]


def test_large_listings_are_not_remembered_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listings_module, "_MOST_RUNS", 10)
    listings = Listings()
    for first in (100, 200, 300):
        listings.add((_runs(first, 5),))
    assert [listings.have(RunId(run_id)) for run_id in (100, 200, 300)] == [False, True, True]
    listings.add((_runs(400, 20),))
    assert [listings.have(RunId(run_id)) for run_id in (200, 300, 419)] == [False, False, True]


def test_a_run_that_is_in_no_listing_needs_no_table_of_the_other_orders() -> None:
    """A table of a million runs takes 100 MB."""
    listings = Listings()
    runs = _runs(1, 3)
    listings.add((runs, runs[::-1], runs[1:]))
    assert not listings.have(RunId(9))
    (listing,) = listings._listings
    assert ["places" in order.__dict__ for order in listing.orders] == [True, False, False]


def test_a_listing_that_is_made_again_takes_the_place_of_no_other() -> None:
    listings = Listings()
    for first in (100, 200, 200, 200, 200, 200):
        listings.add((_runs(first, 3),))
    assert listings.have(RunId(100))
