"""Counts the requests to the API and to storage, at the one place where all of them pass: the `Source`.

Not counted: the check of the key at mount, redirects within a request, and the bytes of responses that are not audio.
Threads: any. `_lock` is a leaf.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TypeVar

from cachetools import LRUCache

from cambfs.errors import CambfsError, LinkError, RemoteError
from cambfs.names import RunId, TaskId
from cambfs.remote.source import Body, SignedUrl, Source, TaskKind, TaskReport

NO_RESPONSE = "none"
_FAILED_KEPT = 1024

T = TypeVar("T")
_Request = tuple[str, object]


@dataclass(frozen=True)
class Counts:
    """`requests` by kind ("stream", "sign", "bulk", "storage", "task") and class of the status ("2xx" … "5xx", or
    NO_RESPONSE). `retries` counts those among them that repeat a temporary failure. `received_bytes` counts bytes of
    audio."""

    requests: Mapping[tuple[str, str], int]
    retries: int
    received_bytes: int


class Counters:
    """`source` makes a Source whose requests are counted here."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards all below
        self._requests: Counter[tuple[str, str]] = Counter()
        self._retries = 0
        self._received_bytes = 0
        # The requests that failed temporarily and may be repeated. Many never are.
        self._failed: LRUCache[_Request, bool] = LRUCache(_FAILED_KEPT)

    def counts(self) -> Counts:
        with self._lock:
            return Counts(dict(self._requests), self._retries, self._received_bytes)

    def source(self, source: Source) -> Source:
        return _CountedSource(source, self)

    def note_request(self, request: _Request, error: CambfsError | None) -> None:
        """A request has got its response, or failed."""
        with self._lock:
            self._requests[request[0], _status_class(error)] += 1
            self._retries += self._failed.pop(request, False)
        if error is not None:
            self.note_failure(request, error)

    def note_failure(self, request: _Request, error: CambfsError) -> None:
        """It failed, perhaps within the body of its response."""
        if error.temporary:
            with self._lock:
                self._failed[request] = True

    def note_received(self, count: int) -> None:
        with self._lock:
            self._received_bytes += count


def _status_class(error: CambfsError | None) -> str:
    if isinstance(error, RemoteError):
        return f"{error.status // 100}xx"
    return NO_RESPONSE if isinstance(error, LinkError) else "2xx"


def _was_sent(error: CambfsError) -> bool:
    if isinstance(error, RemoteError):
        return error.status != 0
    return not isinstance(error, LinkError) or error.was_sent


class _CountedSource:
    """A `cambfs.remote.source.Source` around another one."""

    def __init__(self, source: Source, counters: Counters) -> None:
        self._source = source
        self._counters = counters

    def look(self, run_id: RunId) -> None:
        self._source.look(run_id)

    def open_stream(self, run_id: RunId, start: int = 0, etag: str | None = None) -> Body:
        request = "stream", run_id
        body = self._counted(request, lambda: self._source.open_stream(run_id, start, etag))
        return _CountedBody(body, self._counters, request)

    def sign(self, run_id: RunId) -> SignedUrl:
        return self._counted(("sign", run_id), lambda: self._source.sign(run_id))

    def sign_many(self, run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        return self._counted(("bulk", tuple(run_ids)), lambda: self._source.sign_many(run_ids))

    def open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> Body:
        request = "storage", (signed.url, start)
        body = self._counted(request, lambda: self._source.open_stored(signed, start, stop))
        return _CountedBody(body, self._counters, request)

    def connect_stored(self) -> None:
        self._source.connect_stored()

    def task(self, task_id: TaskId, kind: TaskKind) -> TaskReport:
        return self._counted(("task", (task_id, kind)), lambda: self._source.task(task_id, kind))

    def _counted(self, request: _Request, call: Callable[[], T]) -> T:
        try:
            response = call()
        except CambfsError as error:
            if _was_sent(error):
                self._counters.note_request(request, error)
            raise
        self._counters.note_request(request, None)
        return response


class _CountedBody:
    """A `cambfs.remote.source.Body` around another one."""

    def __init__(self, body: Body, counters: Counters, request: _Request) -> None:
        self.start = body.start
        self.stop = body.stop
        self.total = body.total
        self.is_stored = body.is_stored
        self.is_shared = body.is_shared
        self.framed = body.framed
        self.etag = body.etag
        self.ranges = body.ranges
        self.content_type = body.content_type
        self.modified_s = body.modified_s
        self.close = body.close
        self._read = body.read
        self._counters = counters
        self._request = request

    def read(self, limit: int) -> bytes:
        try:
            data = self._read(limit)
        except CambfsError as error:
            self._counters.note_failure(self._request, error)
            raise
        self._counters.note_received(len(data))
        return data
