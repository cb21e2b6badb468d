"""How long one step of an answer may take: its whole head, or the next bytes of its body.

A timeout of a socket begins anew with every byte that comes, so a server that sends one now and then, or headers, or
chunk trailers without end, holds a thread for ever. Here the time for all of them together is limited.

Not what is read (`body`), nor the connection (`transport`). Threads: any; a step belongs to the thread that takes it.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

# What is read ahead of a body: lines, and small chunks.
_BUFFER_BYTES = 64 * 1024

_CHUNK_SIZE = re.compile(rb"0*[0-9A-Fa-f]{1,16}")
_LONGEST_LINE = 65536


class _Step(threading.local):
    ends_at: float | None = None


_current = _Step()


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
    """A socket's file that knows the step, and gives all that is there: the kernel, and even more so TLS (16 KiB a
    record), give less than that at a time, and for each piece there is much to do. Nothing waits for more than a byte.

    The socket does not wait by itself, for each system call gives the interpreter away, and to set a timeout is one.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout_s = sock.gettimeout()
        self._failure: OSError | None = None  # what ended the connection, behind bytes that came before
        self.only_there = False
        sock.settimeout(0)

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        if self.only_there:
            return self._take(buffer)
        # Looked at also when there is something: lines without end may come faster than they are read.
        self._left_s()
        while (taken := self._take(buffer)) is None:
            self._wait()
        return taken

    def _take(self, buffer: Any) -> int | None:
        """What is there; None when nothing is, 0 at the end of the connection."""
        if self._failure is not None:
            raise self._failure
        taken = 0
        while taken < len(buffer):
            try:
                count = self._raw.readinto(buffer[taken:] if taken else buffer)
            except ssl.SSLWantReadError:
                count = None
            except OSError as error:
                if not taken:
                    raise
                self._failure = error  # a socket says it once, and then that it has just ended
                break
            if not count:
                return taken or count
            taken += count
        return taken

    def _wait(self) -> None:
        left_s = self._left_s()
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if not poll.poll(None if left_s is None else math.ceil(left_s * 1000)):
            raise TimeoutError("the step took too long")

    def _left_s(self) -> float | None:
        """Of the step, or of the socket's own timeout outside of any; None for no limit."""
        if _current.ends_at is None:
            return self._timeout_s
        left_s: float = _current.ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the step took too long")
        return left_s

    def close(self) -> None:
        with suppress(OSError):  # it may be closed
            self._sock.settimeout(self._timeout_s)
        self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """Takes no part of a line for one: of the padded size of a chunk, as in 00002000, the first zeros would be the size
    of the last chunk, and the end of a connection there would prove a body whole."""

    def __init__(self, stepped: _Stepped) -> None:
        super().__init__(stepped, _BUFFER_BYTES)
        self._stepped = stepped

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if line and not line.endswith(b"\n") and (size is None or size < 0 or len(line) < size):
            raise ConnectionResetError("the connection ended in the middle of a line")
        return line

    def there(self) -> bytes:
        """The next bytes, as far as they have come. They stay to be read."""
        self._stepped.only_there = True
        try:
            return self.peek()
        finally:
            self._stepped.only_there = False


class SteppedResponse(http.client.HTTPResponse):
    """The standard library's, reading in steps; for the `response_class` of a connection.

    A head with a line that is none is refused (HTTPException): the library would leave out all that follow, and among
    them those that say how the body is framed, so that the sizes of chunks were taken for content.
    """

    chunked: bool
    chunk_left: int | None

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp = self._lines = _Lines(_Stepped(self.fp.detach(), sock))
        self._failure: Exception | None = None  # what came behind bytes that were given out first

    def begin(self) -> None:
        super().begin()
        if self.headers.get_payload():
            raise http.client.HTTPException("a line that is no header")

    def read1(self, n: int = -1) -> bytes:
        """As the library's, but of the chunks that are there not only the first: many servers send small ones."""
        if self._failure is not None:
            raise self._failure
        pieces = [super().read1(n)]
        missing = n - len(pieces[0])
        try:
            while self.chunked and missing > 0 and self._is_more_there():
                pieces.append(super().read1(missing))
                missing -= len(pieces[-1])
        except Exception as error:
            self._failure = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_next_chunk_size(self) -> int:
        """As the library's, which takes whatever Python takes for a number: of 1_0 it would read sixteen bytes, and of
        -5 all that is there, the sizes of other chunks among them."""
        size = _chunk_size(self._lines.readline(_LONGEST_LINE))
        if size is None:
            raise ValueError("no size of a chunk")
        return size

    def _is_more_there(self) -> bool:
        """Of the body, so that to read it neither waits nor fails: what is no plain size of a chunk, the mark of the
        end among them, is left to a read of its own, or a broken connection would be given back as a good one."""
        if self.fp is None:
            return False
        there = self._lines.there()
        if self.chunk_left:
            return bool(there)
        line, newline, content = there[2:].partition(b"\n")  # behind the end of the chunk before
        return bool(newline and content and _chunk_size(line))


def _chunk_size(line: bytes) -> int | None:
    size = line.partition(b";")[0].strip()
    return int(size, 16) if _CHUNK_SIZE.fullmatch(size) else None
