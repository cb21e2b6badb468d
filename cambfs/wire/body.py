"""The body of one response: how its bytes are read, how its end is proven, how a reader is interrupted.

`strict_response` handles HTTP's framing, `client` the meaning. Threads: one reads; any may close.

The lock guards `_reading` and `_closed` and is never held while waiting for bytes. Two rules follow from urllib3.
Closing a response waits for a read that is under way, so `close` only shuts the socket down while the reader is inside,
and the reader closes it afterwards. A response returns its connection to the pool by itself, inside the read that meets
the end. That step holds the lock, too, or a `close` at the same moment could shut down a connection that another
request already uses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from cambfs.errors import BrokenBody, TimedOut
from cambfs.wire.headers import Head

# Bytes that peek reads at a time.
_PEEK = 65536


class RawResponse(Protocol):
    """The part of urllib3's HTTPResponse that is used."""

    def read1(self, amt: int) -> bytes: ...

    def release_conn(self) -> None: ...

    def shutdown(self) -> None: ...

    def close(self) -> None: ...


Guard = Callable[[], AbstractContextManager[None]]


class HttpBody:
    """A `cambfs.remote.source.Body`. `guard` makes the context that maps the library's exceptions to CambfsErrors.
    `what` begins the texts of errors. `on_end` is called once, when the body is closed, with the number of bytes that
    arrived. After an error or `close` every `read` raises BrokenBody."""

    def __init__(
        self, raw: RawResponse, head: Head, what: str, guard: Guard, on_end: Callable[[int], None] = lambda _count: None
    ) -> None:
        self.start = head.start
        self.stop = head.stop
        self.total = head.total
        self.is_stored = self.is_shared = False
        self.framed = head.framed
        self.etag = head.etag
        self.ranges = head.ranges
        self.content_type = head.content_type
        self.modified_s = head.modified_s
        # set once
        self._raw = raw
        self._length = head.length
        self._chunked = head.chunked
        self._what = what
        self._guard = guard
        self._on_end = on_end
        self._release_conn = raw.release_conn
        raw.release_conn = self._release  # type: ignore[method-assign]
        # used by the reader only
        self._ahead = bytearray()
        self._pulled = 0
        # guarded by _lock
        self._lock = threading.Lock()
        self._reading = False
        self._closed = False

    def read(self, limit: int) -> bytes:
        if limit < 1:
            raise ValueError("a limit below one byte")
        self._refuse_closed()
        if not self._ahead:
            return self._pull(limit)
        data, self._ahead = bytes(self._ahead[:limit]), self._ahead[limit:]
        return data

    def peek(self, count: int, deadline: float) -> bytes:
        """The next `count` bytes and perhaps more, fewer only at the end. They stay to be read. Raises TimedOut when
        they are not all there at `deadline` (of `time.monotonic`), LinkError as `read` does."""
        while len(self._ahead) < count:
            if time.monotonic() > deadline:
                raise TimedOut(f"{self._what}: the response comes too slowly")
            data = self._pull(_PEEK)
            if not data:
                break
            self._ahead += data
        return bytes(self._ahead)

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._reading:
                # RuntimeError: the end was met and the connection returned; ValueError: there is no socket.
                with suppress(OSError, RuntimeError, ValueError):
                    self._raw.shutdown()
            else:
                self._close_raw()

    def _pull(self, limit: int) -> bytes:
        """The next bytes from the connection, at most `limit`; none at the proven end."""
        with self._lock:
            self._refuse_closed()
            self._reading = True
        whole = False
        try:
            data = self._checked(limit)
            whole = True
        except Exception:
            # After a shutdown the layers below may return anything, also TLS records taken for content.
            if self._closed:
                raise self._was_closed() from None
            raise
        finally:
            closed = self._leave(whole)
        if closed:
            raise self._was_closed()
        return data

    def _refuse_closed(self) -> None:
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> BrokenBody:
        return BrokenBody(f"{self._what}: the response was closed")

    def _leave(self, whole: bool) -> bool:
        """Ends a read. Returns whether the body was closed during it, so that its bytes cannot be trusted."""
        with self._lock:
            self._reading = False
            closed = self._closed
            if closed or not whole:
                # Once broken, the library may take a second read for a clean end.
                self._closed = True
                self._close_raw()
            return closed

    def _checked(self, limit: int) -> bytes:
        if self._length is not None and not self._chunked:
            limit = min(limit, self._length - self._pulled)
        if not limit:
            return b""
        # read1 returns the bytes that are there. read and readinto wait until the buffer is full, which holds the first
        # byte back. All run at 1.5-3 GB/s on loopback in pieces of 256 KiB, the private ones no faster.
        with self._guard():
            data = self._raw.read1(limit)
        self._pulled += len(data)
        if self._length is not None and (self._pulled > self._length or (not data and self._pulled < self._length)):
            raise BrokenBody(f"{self._what}: the response has {self._pulled} bytes where it said {self._length}")
        return data

    def _release(self) -> None:
        with self._lock:
            if not self._closed:
                self._release_conn()

    def _close_raw(self) -> None:
        with suppress(OSError, RuntimeError, ValueError):
            self._raw.close()
        self._on_end(self._pulled)
