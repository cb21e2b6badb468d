"""Whether requests may be made that no caller waits for. Every request passes here, so that a busy server is noticed.

Threads: any. No lock: the deadline is a single value, and the last write wins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from cambfs.errors import RateLimited, RemoteError, ServerError
from cambfs.names import RunId, TaskId
from cambfs.remote.source import Body, SignedUrl, Source, TaskKind, TaskReport

# Longer than the backoff of the requests that callers wait for: they have recovered by then.
_BUSY_FOR_S = 10.0
# What a server may demand. After that, one request shows whether it is still busy.
_LONGEST_S = 300.0
_UNAVAILABLE = 503


class Speculation:
    """`is_allowed` turns false when the API or storage says that it is busy (429, 503), and true after a while."""

    def __init__(self, busy_for_s: float = _BUSY_FOR_S) -> None:
        self._busy_for_s = busy_for_s
        self._not_before = 0.0

    @property
    def is_allowed(self) -> bool:
        return time.monotonic() >= self._not_before

    def source(self, source: Source) -> Source:
        """The same source, watched."""
        return _WatchedSource(source, self)

    @contextmanager
    def watching(self) -> Iterator[None]:
        try:
            yield
        except RemoteError as error:
            if isinstance(error, RateLimited) or (isinstance(error, ServerError) and error.status == _UNAVAILABLE):
                wait_s = min(max(error.retry_after_s or 0.0, self._busy_for_s), _LONGEST_S)
                self._not_before = max(self._not_before, time.monotonic() + wait_s)
            raise


class _WatchedSource:
    """A `cambfs.remote.source.Source` around another one."""

    def __init__(self, source: Source, speculation: Speculation) -> None:
        self._source = source
        self._watching = speculation.watching
        self.look = source.look
        self.connect_stored = source.connect_stored

    def open_stream(self, run_id: RunId, start: int = 0, etag: str | None = None) -> Body:
        with self._watching():
            return self._source.open_stream(run_id, start, etag)

    def sign(self, run_id: RunId) -> SignedUrl:
        with self._watching():
            return self._source.sign(run_id)

    def sign_many(self, run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        with self._watching():
            return self._source.sign_many(run_ids)

    def task(self, task_id: TaskId, kind: TaskKind) -> TaskReport:
        with self._watching():
            return self._source.task(task_id, kind)

    def open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> Body:
        with self._watching():
            return self._source.open_stored(signed, start, stop)
