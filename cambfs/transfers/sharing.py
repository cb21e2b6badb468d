"""The part of one run's stream in the shared tier: it follows another machine, or fetches and shares.

Threads: that of the stream; the upload has one of its own, share-RUN. No lock: each word is written by one thread at a
time, and any may read it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Event
from typing import Protocol

from cambfs.errors import CambfsError
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.source import Body
from cambfs.tier.follow import SharedBody
from cambfs.tier.seals import Header
from cambfs.tier.tier import Tier
from cambfs.tier.upload import Lead, Origin
from cambfs.transfers.context import ObservedApi

log = logging.getLogger(__name__)

# How long a stream that has not got its turn yet keeps storage from being asked for the size.
_TURN_TAKES_S = 0.1
# How many logs may end too early before this machine fetches the run for itself.
_MOST_FOLLOWED = 2
# A machine whose reader waits leaves one that brings so many times less than the API last brought.
_FAR_SLOWER = 4


class Owner(Origin, Protocol):
    """The run that is fetched."""

    @property
    def has_waiters(self) -> bool:
        """Whether callers wait for bytes, or for the size. Without the lock."""

    def hear(self, info: RunInfo, proof: str) -> None:
        """Another machine, which fetches the result, trusts this size and time. `proof` is how it has proven the end,
        once all bytes came from it, and "" before."""

    def note_unshared(self) -> None:
        """No other machine is about to tell the size."""


class Sharing:
    def __init__(
        self,
        run_id: RunId,
        tier: Tier,
        closing: Event,
        tells_within_s: float,
        patience_s: float,
        api: ObservedApi,
        owner: Owner,
        work: Callable[[str, Callable[[], None]], None],
    ) -> None:
        """`tells_within_s` is how long another machine is given to tell the size, and `patience_s` to begin. `api`
        is as in `Context`. `work` runs a function in a thread of that name, or raises CambfsError."""
        self._run_id = run_id
        self._tier = tier
        self._closing = closing
        self._tells_within_s = tells_within_s
        self._patience_s = patience_s
        self._api = api
        self._owner = owner
        self._work = work
        self._told_until = 0.0  # in time.monotonic seconds
        self._followed = 0
        self._is_left = False  # the other machine was too slow for this stream
        self._response: Future[Header | None] | None = None  # of the API, for the upload
        self._is_uploading = False

    def expect(self) -> None:
        """A stream is about to begin."""
        self._told_until, self._followed, self._is_left = time.monotonic() + _TURN_TAKES_S, 0, False

    @property
    def is_size_to_come(self) -> bool:
        """Whether another machine may be about to tell the size, so that storage need not be asked."""
        return time.monotonic() < self._told_until

    def end(self) -> None:
        """The stream has ended."""
        self._told_until = 0.0

    def open(self, position: int) -> SharedBody | None:
        """What another machine has of the run, for a stream that is at `position`; None when the API is to be asked."""
        opened = self._open(position)
        if isinstance(opened, SharedBody):
            self._followed += 1
            self._told_until = time.monotonic() + self._tells_within_s
            return opened
        if opened is not None:
            self._start_upload(opened)
        self._told_until = 0.0
        self._owner.note_unshared()
        return None

    def _open(self, position: int) -> SharedBody | Lead | None:
        if self._is_uploading or self._is_left or self._followed >= _MOST_FOLLOWED:
            return None
        self._told_until = time.monotonic() + self._tells_within_s
        return self._tier.open(
            self._run_id, position, self._owner.hear, self._closing, self._patience_s, self._is_enough
        )

    def _is_enough(self, bytes_per_s: float) -> bool:
        usual = self._api.bytes_per_s
        if usual is None or bytes_per_s * _FAR_SLOWER >= usual or not self._owner.has_waiters:
            return True
        log.info("run %d: another machine brings %.0f bytes/s; fetched without it", self._run_id, bytes_per_s)
        self._is_left = True
        return False

    def begin(self, body: Body | None) -> None:
        """The API has responded with this body, or (None) with an error, after `open` had returned None."""
        response, self._response = self._response, None
        if response is not None:
            response.set_result(None if body is None else _header_of(body))

    def _start_upload(self, lead: Lead) -> None:
        self._response, self._is_uploading = Future(), True
        try:
            self._work(f"share-{self._run_id}", partial(self._share, lead, self._response))
        except CambfsError as error:
            log.info("run %d: not shared: %s", self._run_id, error)
            self._response, self._is_uploading = None, False
            self._tier.release(lead)

    def _share(self, lead: Lead, response: Future[Header | None]) -> None:
        try:
            self._tier.share(lead, response, self._owner)
        except Exception:
            log.exception("unexpected error while run %d was shared", self._run_id)
        finally:
            self._is_uploading = False


def _header_of(body: Body) -> Header:
    """What a response of the API told. That of storage tells nothing of the stream."""
    if body.is_stored:
        return Header("", "", None, None, False, None)
    return Header("", body.content_type, body.total, body.etag, body.ranges, body.modified_s)
