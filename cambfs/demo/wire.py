"""The connection under an answer: what ASGI does not let an application do to it.

`WireProtocol` is uvicorn's HTTP/1.1 protocol plus a `Wire`, which applications find as `request.state.wire`. It knows
nothing of runs or faults. Everything here runs in the server's one thread; `Stalled.release` is the exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

_POLL_S = 0.002


class Wire:
    """One connection; `connected` before it is used. After `reset` and `cut` the answer's application just returns."""

    def __init__(self) -> None:
        self._gone = asyncio.Event()
        self.go_on = asyncio.Event()

    def connected(self, conn: h11.Connection, transport: asyncio.Transport) -> None:
        self._conn = conn
        self._transport = transport

    def lost(self) -> None:
        self._gone.set()
        self.go_on.set()

    @property
    def closing(self) -> bool:
        """Nothing that is sent now arrives."""
        return self._transport.is_closing()

    def end_by_close(self) -> None:
        """Makes a body without a Content-Length end with the connection: what h11 does for an HTTP/1.0 client. To be
        called before the headers are sent."""
        self._conn.their_http_version = b"1.0"

    def forgive(self, lie_bytes: int) -> None:
        """Makes h11 expect so many bytes fewer than the Content-Length said that it just sent."""
        writer: Any = self._conn._writer
        writer._length -= lie_bytes

    def write(self, data: bytes) -> None:
        """Sends bytes past h11: it neither frames nor counts them."""
        self._transport.write(data)

    async def gone(self) -> None:
        """Waits for the end of the connection."""
        await self._gone.wait()

    async def rest(self, seconds: float) -> None:
        """Waits, but not longer than the connection lasts."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), seconds)

    async def reset(self) -> None:
        """Ends the connection with a RST, after everything sent before has arrived."""
        while not self.closing and self._unacknowledged():
            await self.rest(_POLL_S)
        if not self.closing:
            # A reset throws away what is still queued, hence the wait; linger of 0 s makes the close a reset.
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        await self._gone.wait()

    async def cut(self) -> None:
        """Ends the connection with a FIN, after everything sent before."""
        self._transport.close()
        await self._gone.wait()

    def abort(self) -> None:
        self._transport.abort()

    def _unacknowledged(self) -> int:
        """Bytes that the client's kernel has not confirmed yet."""
        queued = fcntl.ioctl(self._socket().fileno(), termios.TIOCOUTQ, bytes(4))
        return self._transport.get_write_buffer_size() + int(struct.unpack("i", queued)[0])

    def _socket(self) -> socket.socket:
        return cast(socket.socket, self._transport.get_extra_info("socket"))


class WireProtocol(H11Protocol):
    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.wire = Wire()
        super().__init__(config, server_state, {**app_state, "wire": self.wire}, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.wire.connected(self.conn, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.wire.lost()


class Stalled:
    """The answers that have stopped and wait to be told to go on. Only `count` and `release` may be called from other
    threads than the server's."""

    def __init__(self) -> None:
        self._wires: set[Wire] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def count(self) -> int:
        return len(self._wires)

    async def wait(self, wire: Wire) -> None:
        """Returns when released, or when the connection is lost."""
        self._loop = asyncio.get_running_loop()
        wire.go_on.clear()
        if wire.closing:
            return
        self._wires.add(wire)
        try:
            await wire.go_on.wait()
        finally:
            self._wires.discard(wire)

    def release(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        for wire in self._wires:
            wire.go_on.set()
