"""Logs each request, at the level debug: one line when its response has ended, or when it has failed.

    GET client.camb.ai/apis/tts-result/101: 200 after 52 ms, 481280 bytes in 310 ms, reused connection, run 101

No line holds the key, a query, or anything else that opens an object of storage. Of a URL that is not the API's own,
only the host and the last part of the path are shown. Threads: a record belongs to one request.
"""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

from cambfs.errors import CambfsError
from cambfs.hosts.origins import Origin
from cambfs.redaction.masking import MASK, Key
from cambfs.redaction.response_text import plain

log = logging.getLogger(__name__)


class RequestLog:
    """Record of one request that is sent now. `what` names what it is for, such as a run."""

    def __init__(self, method: str, url: str, origin: Origin, what: str, own: bool, hide: Key) -> None:
        self._begin_at = time.monotonic()
        self._method = method
        self._what = what
        self._head = self._connection = self._place = ""
        if log.isEnabledFor(logging.DEBUG):
            self._place = plain(f"{origin}{_shown_path(url, own)}", hide)

    def responded(self, status: int, was_reused: bool) -> None:
        """The head of the response is there. Logs nothing yet."""
        self._head = f"{status} after {self._ms()} ms"
        self._connection = "reused" if was_reused else "new"

    def ended(self, count: int) -> None:
        """The response's body has ended, or was closed, after `count` bytes."""
        text = "%s %s: %s, %d bytes in %d ms, %s connection, %s"
        log.debug(text, self._method, self._place, self._head, count, self._ms(), self._connection, self._what)

    def failed(self, error: CambfsError) -> None:
        log.debug("%s %s: no response after %d ms: %s", self._method, self._place, self._ms(), error)

    def _ms(self) -> int:
        return round((time.monotonic() - self._begin_at) * 1000)


def _shown_path(url: str, own: bool) -> str:
    path = urlsplit(url).path
    if own:
        return path
    before, _, last = path.rpartition("/")
    return f"/{MASK}/{last}" if before else f"/{last}"
