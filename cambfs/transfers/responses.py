"""Where the bytes of one run come from: opens its responses from the API and its ranges from the API or storage.

Threads: those of the run's transfers. No lock: only the stream, of which there is one at a time, changes anything.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Protocol

from cambfs.errors import BadResponse, RemoteError, StorageUseless
from cambfs.names import RunId
from cambfs.remote.object_store import Probe
from cambfs.remote.source import Body
from cambfs.transfers.context import Context
from cambfs.transfers.sharing import Sharing

log = logging.getLogger(__name__)

# Where storage goes on with a stream, so much of it is compared: the result may have changed behind its head.
_OVERLAP_BYTES = 4096


class _NoRange(Exception):
    """The API or storage does not give the range now. The text says why."""


class Owner(Protocol):
    """The run that is fetched."""

    def ranges(self) -> tuple[str | None, Probe | None]:
        """Where ranges of this very result are available: the validator for the API's, the probe for storage's."""

    def lost_ranges(self, *, of_api: bool) -> None:
        """The API gives no ranges after all; or, unless `of_api`, neither source does."""


class Responses:
    def __init__(self, run_id: RunId, context: Context, owner: Owner, sharing: Sharing | None) -> None:
        """`sharing` is None without a shared tier."""
        self._id = run_id
        self._sharing = sharing
        self._context = context
        self._owner = owner
        self._stored_from: int | None = None  # where the stream's last range from storage began

    def forget_stream(self) -> None:
        """The stream has ended."""
        self._stored_from = None

    def open_stream(self, position: int) -> Body:
        """For the stream: from another machine's bytes, or from the API as `_open_unshared`."""
        if self._sharing is None:
            return self._open_unshared(position)
        shared = self._sharing.open(position)
        if shared is not None:
            return shared
        body = None
        try:
            body = self._open_unshared(position)
        finally:
            self._sharing.begin(body)
        return body

    def _open_unshared(self, position: int) -> Body:
        """From `position` on where ranges are available, else from 0."""
        stored_from, self._stored_from = self._stored_from, None
        if stored_from is not None and position - stored_from < self._context.tuning.stored_worth_bytes:
            self._owner.lost_ranges(of_api=False)  # storage broke off, too: back to the API
        body = self._range_from(position, overlap=_OVERLAP_BYTES) if position > 0 else None
        if body is not None and body.is_stored:
            self._stored_from = position
        if body is None:
            body = self._context.source.open_stream(self._id)
            self._context.api.stream_has_length = body.total is not None
            self._context.api.stream_tells_time = body.modified_s is not None
        return body

    def open_range(self, position: int, stop: int | None) -> Body:
        """For a range: position … stop. Raises BadResponse when no source gives it."""
        body = self._range_from(position, stop)
        if body is not None and body.start == position:
            return body
        if body is not None:
            body.close()
        raise BadResponse(f"run {self._id}: ranges of it are no longer available", 200)

    def opener_beside(self, stop: int | None) -> Callable[[int], Body]:
        """For a range that no caller waits for, from storage, which is asked only once: where it breaks each response
        off, there would be no end of them. Raises StorageUseless."""
        attempts = count()

        def open_at(position: int) -> Body:
            if next(attempts):
                raise StorageUseless(f"run {self._id}: storage broke off")
            return self._open_beside(position, stop)

        return open_at

    def _open_beside(self, position: int, stop: int | None) -> Body:
        _, probe = self._owner.ranges()
        if probe is None:
            raise StorageUseless(f"run {self._id}: storage gives no ranges of it")
        try:
            return self._context.store.open(self._id, probe, position, stop, is_spare=True)
        except RemoteError as error:
            raise StorageUseless(str(error)) from error

    def _range_from(self, position: int, stop: int | None = None, *, overlap: int = 0) -> Body | None:
        """From the API or from storage; None where neither gives ranges. A source that fails is not asked again.
        Storage's range begins `overlap` bytes earlier."""
        etag, probe = self._owner.ranges()
        try:
            if etag is not None:
                return self._range_of_api(position, etag)
            if probe is not None:
                return self._range_of_storage(probe, max(position - overlap, 0), stop)
        except _NoRange as error:
            log.info("run %d: no range of it: %s", self._id, error)
            self._owner.lost_ranges(of_api=False)
        return None

    def _range_of_api(self, position: int, etag: str) -> Body:
        try:
            body = self._context.source.open_stream(self._id, position, etag)
        except BadResponse as error:
            raise _NoRange(str(error)) from None
        self._context.api.gives_ranges = body.start == position
        if body.start != position:
            self._owner.lost_ranges(of_api=True)
        return body

    def _range_of_storage(self, probe: Probe, start: int, stop: int | None) -> Body:
        try:
            return self._context.store.open(self._id, probe, start, stop)
        except (RemoteError, StorageUseless) as error:
            raise _NoRange(str(error)) from None
