"""The sockets of one client of the library, so that any thread can end what others read from them.

A socket that is closed while a thread reads gives its number to the next socket or file of the program, and the reader
would take bytes of that. So a socket is shut down, which wakes its reader, and closed once no thread uses it.

Threads: any. The locks are leaves.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any, Protocol
from weakref import WeakSet


class GuardedSocket:
    """A socket of which `close` and `shutdown` are safe in any thread, at any time."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._lock = Lock()  # guards the next two, and is held while the socket is closed or shut down
        self._users = 0
        self._is_closed = False

    def recv_into(self, buffer: bytearray) -> int:
        with self._used():
            return self._raw.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        with self._used():
            self._raw.sendall(data)

    def settimeout(self, seconds: float | None) -> None:
        with self._used():
            self._raw.settimeout(seconds)

    def shutdown(self, how: int) -> None:
        """As `socket.shutdown`, but TLS goes on: otherwise the other thread would read and write without it."""
        with self._lock:
            socket.socket.shutdown(self._raw, how)

    def close(self) -> None:
        """At once, or when the last thread that uses the socket does not any more."""
        with self._lock:
            self._is_closed = True
            self._close_if_unused()

    @contextmanager
    def _used(self) -> Iterator[None]:
        with self._lock:
            if self._is_closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closed and not self._users:
            self._raw.close()


class Connection(Protocol):
    """A connection of the library, in the thread that connects it."""

    _sock: Any

    def on_connect(self) -> None: ...


class Sockets:
    """Those of one client."""

    def __init__(self) -> None:
        self._lock = Lock()  # guards the next two
        self._is_cut = False
        self._sockets: WeakSet[GuardedSocket] = WeakSet()

    def guard(self, connection: Connection) -> None:
        """Call for each connection before anything is read from it."""
        guarded = connection._sock = GuardedSocket(connection._sock)
        with self._lock:
            self._sockets.add(guarded)
            is_cut = self._is_cut
        if is_cut:
            _end(guarded)

    def cut(self) -> None:
        """Ends what is read from all of them, and from those to come."""
        with self._lock:
            self._is_cut = True
            sockets = list(self._sockets)
        for guarded in sockets:
            _end(guarded)


def _end(guarded: GuardedSocket) -> None:
    with suppress(OSError):  # it has ended
        guarded.shutdown(socket.SHUT_RDWR)
