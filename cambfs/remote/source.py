"""The interface between the core and the API: declared here, implemented by `http.client`, faked by tests.

Independent of requests and urllib3. Threads: many call a Source at once. One thread reads a Body; another may close
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from cambfs.names import RunId, TaskId


@dataclass(frozen=True)
class SignedUrl:
    """Where the storage object of a run can be fetched without the key. The URL is a bearer secret: not in `repr`.

    `response` is the API's JSON object as it came, with "output_url" in it; or only that, when the rest is too long or
    too deep to be shown. `life_s` says for how many seconds from its arrival the signature holds. `run_id` is whose it
    is, for the log.
    """

    url: str = field(repr=False)
    response: Mapping[str, Any] = field(repr=False)
    life_s: float
    run_id: RunId | None = field(default=None, compare=False)


class TaskKind(Enum):
    """What a task makes; the value is the endpoint that knows it."""

    SPEECH = "tts"
    TRANSLATED = "translated-tts"


@dataclass(frozen=True)
class TaskReport:
    """State of a task: its run when it has succeeded, the reason when it has failed, neither while it is pending."""

    run_id: RunId | None = None
    failure: str | None = None


PENDING = TaskReport()


class Body(Protocol):
    """The bytes of one response, from `start` on.

    start     offset in the result of the first byte that `read` returns; 0 when the server ignored the range
    stop      offset behind the last byte of a partial response (206), when the result may go on there; None when the
              response goes to the end of the result
    total     the length of the whole result in bytes as the headers tell it; None when they do not
    is_stored it is from storage, not from the API
    is_shared it is from the shared tier, where another machine put it
    framed    True: an end that comes too early raises BrokenBody. False: the body just ends when the connection does,
              so its end proves nothing
    etag      a strong validator, or None
    ranges    the server supports ranges (Accept-Ranges: bytes, or a 206)
    content_type   lower case, without parameters; "" when not said
    modified_s     Last-Modified in seconds since the epoch, or None
    """

    start: int
    stop: int | None
    total: int | None
    is_stored: bool
    is_shared: bool
    framed: bool
    etag: str | None
    ranges: bool
    content_type: str
    modified_s: float | None

    def read(self, limit: int) -> bytes:
        """The next 1 … `limit` bytes, as many as have arrived; b"" at the end.

        Raises LinkError (BrokenBody, TimedOut, Unreachable).
        """

    def close(self) -> None:
        """Ends the response. May be called from another thread than the reader's: a blocked `read` then ends soon, with
        nothing or a LinkError."""


class Source(Protocol):
    """Every call raises RemoteError or LinkError, retries nothing, and gives up after the timeout it was made with.

    A LinkError whose `down_for_s` is set says that the host is down: for so long every call to it fails at once.
    """

    def look(self, run_id: RunId) -> None:
        """Raises LinkError when the API cannot be reached. Makes no request; or one about this run, if the API was down
        a moment ago."""

    def open_stream(self, run_id: RunId, start: int = 0, etag: str | None = None) -> Body:
        """Asks the API for a run's audio from `start` on (start > 0 only with the etag of an earlier Body of the run).

        The Body's start is 0 when the range was ignored, or when the result is no longer the one with that etag.
        Raises NotAudio when the content does not begin as audio does; BrokenBody when only the end of the connection
        says that it ended before that was clear.
        """

    def sign(self, run_id: RunId) -> SignedUrl:
        """Asks the API for a run's file_url response."""

    def sign_many(self, run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        """Asks for two to five runs at once; runs that the response does not clearly give are left out.

        Raises RemoteError when the call fails as a whole (one bad id can make it).
        """

    def open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> Body:
        """Asks the storage for bytes start ≤ i < stop (None: to the end), without the key; for the last -`start` bytes
        when that is negative.

        The Body's start is 0 and its `ranges` False when storage ignored the range. Raises SignatureExpired on 403.
        """

    def connect_stored(self) -> None:
        """The connections to storage are in use for long: makes another one ahead for the next request, unless one is
        idle. Does not wait, and raises nothing."""

    def task(self, task_id: TaskId, kind: TaskKind) -> TaskReport:
        """Asks for the state of a task of this kind. Raises UnknownRun when there is none, and BadResponse when the
        response tells of no known state, or of success without a usable run id."""
