"""How long one step of an answer may take: its whole head, or the next bytes of its body.

A timeout of a socket begins anew with every byte that comes, so a server that sends one now and then, or headers, or
chunk trailers without end, holds a thread for ever. Here the time for all of them together is limited.

Not what is read (`body`), nor the connection (`session`). Threads: any; a step belongs to the thread that takes it.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_current = threading.local()


@contextmanager
def step(seconds: float) -> Iterator[None]:
    """What this thread reads of a `SteppedResponse` inside the block raises TimeoutError once `seconds` have passed
    since the block began. Blocks do not nest."""
    _current.ends_at = time.monotonic() + seconds
    try:
        yield
    finally:
        _current.ends_at = None


class _Stepped(io.RawIOBase):
    """A socket's file that knows the step."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        ends_at: float | None = getattr(_current, "ends_at", None)
        if ends_at is not None:
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("the step took too long")
            self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """Takes no part of a line for one: of the padded size of a chunk, as in 00002000, the first zeros would be the size
    of the last chunk, and the end of a connection there would prove a body whole."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if line and not line.endswith(b"\n") and (size is None or size < 0 or len(line) < size):
            raise ConnectionResetError("the connection ended in the middle of a line")
        return line


class SteppedResponse(http.client.HTTPResponse):
    """The standard library's, reading in steps; for the `response_class` of a connection.

    A head with a line that is none is refused (HTTPException): the library would leave out all that follow, and among
    them those that say how the body is framed, so that the sizes of chunks were taken for content.
    """

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp = _Lines(_Stepped(self.fp.detach(), sock))

    def begin(self) -> None:
        super().begin()
        if self.headers.get_payload():
            raise http.client.HTTPException("a line that is no header")
