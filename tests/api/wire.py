"""The connection under a response: operations that ASGI does not offer. Runs in the server's thread."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_POLL_S = 0.002


class Wire:
    """The connection of one request. After `reset` and `cut` nothing that is sent arrives."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._connection: H11Protocol = scope["state"]["connection"]
        self._receive = receive

    @property
    def closing(self) -> bool:
        return self._connection.transport.is_closing()

    def forgive(self, lie_bytes: int) -> None:
        """Makes h11 expect so many bytes fewer than the Content-Length said that it just sent."""
        writer: Any = self._connection.conn._writer
        writer._length -= lie_bytes

    def write(self, data: bytes) -> None:
        """Sends bytes past h11: it neither frames nor counts them."""
        self._connection.transport.write(data)

    @property
    def speaks_http_1_1(self) -> bool:
        """Whether a body without a Content-Length is sent in chunks."""
        return self._connection.conn.their_http_version == b"1.1"

    async def gone(self) -> None:
        """Waits for the end of the connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def rest(self, seconds: float) -> None:
        """Waits, but not longer than the connection lasts."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.gone(), seconds)

    async def reset(self) -> None:
        """Ends the connection with a RST, after everything sent before has arrived."""
        while not self.closing and self._unacknowledged():
            await self.rest(_POLL_S)
        if not self.closing:
            # A reset discards queued bytes, hence the wait; linger of 0 s makes the close a reset.
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.transport.abort()
        await self.gone()

    async def cut(self) -> None:
        """Ends the connection with a FIN, after everything sent before."""
        self._connection.transport.close()
        await self.gone()

    def _unacknowledged(self) -> int:
        """Bytes that the client's kernel has not confirmed yet."""
        queued = fcntl.ioctl(self._socket().fileno(), termios.TIOCOUTQ, bytes(4))
        return self._connection.transport.get_write_buffer_size() + int(struct.unpack("i", queued)[0])

    def _socket(self) -> socket.socket:
        found: socket.socket = self._connection.transport.get_extra_info("socket")
        return found


class Stalled:
    """The responses that have stopped and wait to be told to go on. Only `count` and `release` may be called from
    other threads than the server's."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def count(self) -> int:
        return len(self._waiting)

    async def wait(self, wire: Wire) -> None:
        """Returns when released, or when the connection is lost."""
        self._loop = asyncio.get_running_loop()
        go_on = asyncio.Event()
        self._waiting.add(go_on)
        ends = [asyncio.ensure_future(end) for end in (go_on.wait(), wire.gone())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.discard(go_on)
            for end in ends:
                end.cancel()

    def release(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        for go_on in self._waiting:
            go_on.set()
