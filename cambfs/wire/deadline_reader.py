"""Reads a connection ahead, and limits the time for one step of a response: its head, or the next bytes.

A socket's timeout begins anew with every byte. So a server that sends a byte now and then, or headers, or chunk
trailers without end, would hold a thread for ever. Here the time for a whole step is limited.

`strict_response` interprets the bytes, `pool` manages the connection. Threads: any; a step belongs to the thread that
takes it, a reader to the thread that reads.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# As many bytes as one read of a body requests.
_BUFFER_BYTES = 256 * 1024
_NOTHING_THERE = (BlockingIOError, ssl.SSLWantReadError)


class _Step(threading.local):
    ends_at: float | None = None


_current = _Step()


@contextmanager
def step(seconds: float) -> Iterator[None]:
    """Limits a block of this thread. Reads from a `DeadlineReader` inside the block raise TimeoutError once `seconds`
    have passed since the block began. Blocks do not nest."""
    _current.ends_at = time.monotonic() + seconds
    try:
        yield
    finally:
        _current.ends_at = None


def is_quiet(sock: socket.socket) -> bool:
    """Whether a connection is open and nothing has arrived over it. Takes a byte if there is one, so that a connection
    that is not quiet can only be closed. A poll would not do: TLS has messages of its own, which mean nothing."""
    timeout_s = sock.gettimeout()
    try:
        sock.settimeout(0)
        sock.recv(1)
    except _NOTHING_THERE:
        sock.settimeout(timeout_s)
        return True
    except (OSError, ValueError):
        pass
    return False


class DeadlineReader:
    """Reads a socket ahead, and returns all that is there. The kernel, and even more so TLS (16 KiB a record), return
    less than that at a time, and each piece costs much work. No call waits for more than a byte.

    The socket itself does not block, because each system call releases the interpreter, and setting a timeout is a
    system call. The socket's own timeout applies outside of any step, and is restored by `close`. `waited_s` is the
    time that it spent waiting for bytes.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb", buffering=0)  # keeps the socket open when the connection closes its reference
        self._timeout_s = sock.gettimeout()
        self._failure: OSError | None = None  # the error that ended the connection, after bytes that came before
        # The bytes start ≤ i < stop of the buffer are there and not taken yet.
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._stop = 0
        self.waited_s = 0.0
        sock.settimeout(0)

    @property
    def buffered(self) -> int:
        """Number of bytes that can be taken now."""
        return self._stop - self._start

    def has_line(self, behind: int) -> bool:
        """Whether a line that begins `behind` bytes from here is there to its end."""
        return self._buffer.find(b"\n", self._start + behind, self._stop) >= 0

    def readline(self, limit: int) -> bytes:
        """The next line with its end, at most the first `limit` bytes of it; nothing when the connection has ended.
        Raises ConnectionResetError when it ends within the line: of the padded size of a chunk, as in 00002000, the
        first zeros would be the size of the last chunk, and prove a body whole."""
        while True:
            place = self._buffer.find(b"\n", self._start, min(self._stop, self._start + limit))
            if place >= 0:
                return self.take(place + 1 - self._start)
            if self.buffered >= limit:
                return self.take(limit)
            if not self._more():
                break
        if self.buffered:
            raise ConnectionResetError("the connection ended in the middle of a line")
        return b""

    def fill(self, wanted: int) -> bool:
        """Reads ahead unless `wanted` bytes are there. Waits only while there are none; False when there will be none,
        because the connection has ended."""
        if not self.buffered:
            return self._more()
        if self.buffered < wanted and self._failure is None:
            self._receive()
        return True

    def await_bytes(self, count: int) -> bool:
        """Waits until so many bytes are there, which fit the buffer; False when the connection ends before."""
        while self.buffered < count:
            if not self._more():
                return False
        return True

    def look(self, offset: int, count: int) -> bytes:
        """The bytes at that distance behind the taken ones, as far as they are there. They stay to be taken."""
        start = self._start + offset
        return bytes(self._view[start : min(start + count, self._stop)])

    def take(self, limit: int) -> bytes:
        """The bytes that are there, at most `limit`."""
        start, self._start = self._start, min(self._start + limit, self._stop)
        return bytes(self._view[start : self._start])

    def is_at_end(self) -> bool:
        """Whether nothing came behind the bytes that were taken, and the connection is still open."""
        return not self.buffered and is_quiet(self._sock)

    def close(self) -> None:
        with suppress(OSError):  # it may be closed
            self._sock.settimeout(self._timeout_s)
        self._file.close()
        # An idle connection of http.client keeps its last response, and that its reader.
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._start = self._stop = 0

    def _more(self) -> bool:
        """Waits for at least one byte more; False when the connection has ended."""
        # Checked even when there are bytes: endless lines may arrive faster than they are read.
        self._left_s()
        while (count := self._receive()) is None:
            self._wait()
        if not count and self._failure is not None:
            raise self._failure
        return count > 0

    def _receive(self) -> int | None:
        """Reads the bytes that are there, as far as they fit. Returns their number; None when there are none, 0 at the
        end."""
        if self._failure is not None:
            raise self._failure
        self._make_room()
        before = self._stop
        while self._stop < _BUFFER_BYTES:
            try:
                count = self._sock.recv_into(self._view[self._stop :])
            except _NOTHING_THERE:
                return self._stop - before or None
            except OSError as error:
                if not self._stop:
                    raise
                self._failure = error  # a socket reports an error once, and then an ordinary end
                break
            if not count:
                break
            self._stop += count
        return self._stop - before

    def _make_room(self) -> None:
        if self._start:
            self._view[: self.buffered] = self._view[self._start : self._stop]
            self._start, self._stop = 0, self.buffered

    def _wait(self) -> None:
        left_s = self._left_s()
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        began_at = time.monotonic()
        if not poll.poll(None if left_s is None else math.ceil(left_s * 1000)):
            raise TimeoutError("the step took too long")
        self.waited_s += time.monotonic() - began_at

    def _left_s(self) -> float | None:
        """The time that is left of the step, or the socket's own timeout outside of any; None for no limit."""
        if _current.ends_at is None:
            return self._timeout_s
        left_s: float = _current.ends_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the step took too long")
        return left_s
