"""Follows the looks at sizes and URLs, and requests what is likely to be asked for next.

For a program that goes through a listing these are the sizes and URLs of the next runs, for one that opens what it
looks at the audio of the run itself. Other machines that share results are asked before the API.

Threads: callers, each in its own. `_lock` guards all the lookaheads; the library's lock is taken under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Protocol

from cambfs.ahead.lookahead import Lookahead
from cambfs.ahead.open_habit import OpenHabit
from cambfs.ahead.shared_facts import SharedFacts
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.transfers.context import Context

# Sizes are requested in small steps, so that their responses come one after the other and not all at once. Each takes
# two connections for a round trip.
_SIZES_AHEAD, _SIZES_STEP = 64, 10
# URLs are there before the requests for the sizes need them. They are requested in full bulk requests.
_URLS_AHEAD, _URLS_STEP = 124, 30


class Run(Protocol):
    """A run in use."""

    def want_probe(self) -> None:
        """Asks storage for the size if that may help. Does not wait."""


class Owner(Protocol):
    """The library."""

    def is_answered(self, run_id: RunId) -> bool:
        """Whether a look at the run needs no request."""

    def use(self, run_id: RunId) -> AbstractContextManager[Run]:
        """The run is in use until the context is left. Raises Closing."""


class Lookups:
    def __init__(self, owner: Owner, context: Context) -> None:
        self._owner = owner
        self._context = context
        self._lock = Lock()  # guards all below
        self._sizes = Lookahead(_SIZES_AHEAD, _SIZES_STEP)
        self._urls = Lookahead(_URLS_AHEAD, _URLS_STEP)
        self._habit = OpenHabit(context.tuning.unopened_looks)
        self._shared = SharedFacts()

    def begin(self, listed: Sequence[RunId]) -> None:
        """A directory was listed, in this order."""
        with self._lock:
            self._sizes.begin(listed)
            self._urls.begin(listed)
            self._shared.begin(listed)
            self._habit.listed()

    def opened(self, run_id: RunId) -> None:
        """A caller has opened a result."""
        with self._lock:
            self._habit.opened(run_id)
            self._sizes.opened(run_id)

    def known_size_read(self, run_id: RunId) -> None:
        """A caller has read a size that is known. Where a listing has come so far, the next ones are requested."""
        if self._sizes.is_due(run_id):
            self._request_sizes(run_id)

    def unknown_size_read(self, run_id: RunId) -> bool:
        """A caller is about to ask for a size. The next ones of a listing are requested in bulk; a look at a single run
        requests no other. Returns whether the caller is likely to open the result next."""
        if self._request_sizes(run_id):
            return False
        with self._lock:
            is_likely = self._habit.looked_at(run_id)
        return is_likely and self._context.speculation.is_allowed

    def _request_sizes(self, run_id: RunId) -> bool:
        """Whether the run is one of a listing that a program goes through."""
        with self._lock:
            wanted = self._sizes.window(run_id, self._owner.is_answered)
        if wanted and self._context.speculation.is_allowed:
            self._context.signer.request_many(wanted)
            self.expect_url(run_id)
            for wanted_id in wanted:
                with self._owner.use(wanted_id) as run:
                    run.want_probe()
        return wanted is not None

    def known_url_read(self, run_id: RunId) -> None:
        """As `known_size_read`."""
        if self._urls.is_due(run_id):
            self.expect_url(run_id)

    def expect_url(self, run_id: RunId) -> None:
        """A URL is about to be needed. The next ones of a listing are requested in bulk."""
        signer = self._context.signer
        if self._context.speculation.is_allowed:
            with self._lock:
                wanted = self._urls.window(run_id, lambda run: signer.fresh(run) is not None)
            signer.request_many(wanted or ())

    def shared_by_others(self, run_id: RunId) -> dict[RunId, RunInfo]:
        """What other machines know of the run, and of the next ones of a listing."""
        tier = self._context.shared
        if tier is None:
            return {}
        with self._lock:
            wanted = self._shared.wanted(run_id, self._owner.is_answered)
        return tier.known(wanted)
