"""The orders of the last listings, in which programs may open the results.

It only remembers. No threads and no lock: its owner, `Sequences`, is used by one thread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from cambfs.names import RunId

# Programs may go through the folders that they listed at the same time.
_REMEMBERED = 4
# In the last listing and the ones before it; the last one alone may have more. A run takes about 100 bytes.
_MOST_RUNS = 200_000


class Order:
    """An order in which programs may open the runs of a listing. Each run is in it once."""

    def __init__(self, runs: Sequence[RunId]) -> None:
        self.runs = runs

    @cached_property
    def places(self) -> Mapping[RunId, int]:
        return {run_id: place for place, run_id in enumerate(self.runs)}

    def step(self, before: RunId, run_id: RunId) -> int | None:
        """How far a run is behind another one; None where that is not known."""
        here, there = self.places.get(run_id), self.places.get(before)
        return None if here is None or there is None else here - there

    def behind(self, run_id: RunId, count: int) -> Sequence[RunId]:
        """The next runs."""
        place = self.places.get(run_id)
        return () if place is None else self.runs[place + 1 : place + 1 + count]


class _Listing:
    def __init__(self, orders: Sequence[Sequence[RunId]]) -> None:
        self.given = orders
        self.orders = [Order(runs) for runs in orders]  # the one that was used last comes first
        self._all = self.orders[0]
        self.count = len(self._all.runs)

    def has(self, *run_ids: RunId) -> bool:
        return all(run_id in self._all.places for run_id in run_ids)

    def order_of(self, before: RunId, run_id: RunId) -> Order | None:
        found = next((order for order in self.orders if order.step(before, run_id) == 1), None)
        if found is not None:
            self.orders.sort(key=lambda order: order is not found)  # stable
        return found


class Listings:
    def __init__(self) -> None:
        self._listings: list[_Listing] = []  # the last one first

    def add(self, orders: Sequence[Sequence[RunId]]) -> None:
        """A directory was listed. The first order has all runs. One that is listed again, and has not changed, is not
        remembered twice."""
        same = next((listing for listing in self._listings if listing.given == orders), None)
        others = [listing for listing in self._listings if listing is not same]
        self._listings = [same or _Listing(orders), *others[: _REMEMBERED - 1]]
        while len(self._listings) > 1 and sum(listing.count for listing in self._listings) > _MOST_RUNS:
            self._listings.pop()

    def have(self, run_id: RunId) -> bool:
        return any(listing.has(run_id) for listing in self._listings)

    def order_of(self, before: RunId, run_id: RunId, preferred: Order | None) -> Order | None:
        """The order in which the run is the next one: the preferred one, or one of the last listing that has both."""
        if preferred is not None and preferred.step(before, run_id) == 1:
            return preferred
        listing = next((listing for listing in self._listings if listing.has(before, run_id)), None)
        return None if listing is None else listing.order_of(before, run_id)
