"""Starts and stops the API: two origins on loopback, for as long as a `with` lasts.

One thread per server, "cambfs-demo": uvicorn's event loop, which handles all requests. Everything public here may be
used from any thread, before, during and after the `with`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cambfs.demo.api import BASE_PATH, Api, Tasks
from cambfs.demo.profile import Profile
from cambfs.demo.responses import Refused, error
from cambfs.demo.storage import Storage
from cambfs.demo.store import Store, Task

_HOST = "127.0.0.1"
_START_S = 10.0
_STOP_S = 10.0
_ROUND_S = 0.005


class Server:
    """An API with these results: run id → the file that holds its audio.

    `results` and `tasks` may be changed while it runs, and `profile` and `key` replaced: changes apply from the next
    request on. A file that is replaced is read again.

    `port` and `storage_port` 0 mean any free port. `start` raises OSError when a port is taken. `stop` also ends
    connections that are under way, within a second. `base_url`, `storage_url` are set by `start` and stay set.
    """

    def __init__(
        self,
        results: Mapping[int, Path],
        profile: Profile | None = None,
        key: str = "demo-key",
        port: int = 0,
        storage_port: int = 0,
    ) -> None:
        self._store = Store(results, profile or Profile(), key)
        self._wanted_ports = port, storage_port
        self._thread: threading.Thread | None = None
        self.base_url = ""

    @property
    def key(self) -> str:
        return self._store.key

    @key.setter
    def key(self, key: str) -> None:
        self._store.key = key

    @property
    def storage_url(self) -> str:
        return self._store.storage_url

    @property
    def results(self) -> dict[int, Path]:
        return self._store.results

    @property
    def tasks(self) -> dict[str, Task]:
        """By task id."""
        return self._store.tasks

    @property
    def profile(self) -> Profile:
        return self._store.profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self._store.profile = profile

    def application(self) -> ASGIApp:
        """The application at both ports; a subclass may wrap it."""
        routes = [*Api(self._store).routes(), *Tasks(self._store).routes(), *Storage(self._store).routes()]
        return Starlette(routes=routes, exception_handlers={Refused: _refused, HTTPException: _not_routed})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when both ports respond."""
        listeners = _listeners(self._wanted_ports)
        # Bound and never listened on: connections to it are refused, and no other process can take it.
        self._closed = socket.socket()
        self._closed.bind((_HOST, 0))
        api, storage, closed = (found.getsockname()[1] for found in (*listeners, self._closed))
        self.base_url = f"http://{_HOST}:{api}{BASE_PATH}"
        self._store.storage_url = f"http://{_HOST}:{storage}"
        self._store.closed_url = f"http://{_HOST}:{closed}"
        self._uvicorn = _Uvicorn(self.application())
        self._thread = threading.Thread(target=self._uvicorn.run, args=(listeners,), name="cambfs-demo", daemon=True)
        self._thread.start()
        if not self._uvicorn.ready.wait(_START_S):
            raise RuntimeError("the demo's API did not start")

    def stop(self) -> None:
        """Returns when the thread has ended and the ports are free; does nothing when it does not run."""
        if self._thread is None:
            return
        self._uvicorn.should_exit = True
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            raise RuntimeError("the demo's API did not stop")
        self._thread = None
        self._closed.close()


async def _refused(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response


async def _not_routed(_request: Request, cause: Exception) -> Response:
    assert isinstance(cause, HTTPException)
    return error(cause.status_code, cause.detail).response


def _listeners(ports: tuple[int, int]) -> list[socket.socket]:
    first = socket.create_server((_HOST, ports[0]))
    try:
        return [first, socket.create_server((_HOST, ports[1]))]
    except OSError:
        first.close()
        raise


class _Protocol(H11Protocol):
    """Makes itself available to the applications, as `request.state.connection`: ASGI does not control how a body
    ends."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)


class _Uvicorn(uvicorn.Server):
    """uvicorn that signals when it has started, and does not wait for clients when it stops."""

    def __init__(self, application: ASGIApp) -> None:
        async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
            # A client may leave at any time, and so may the server; uvicorn would log both as errors.
            with contextlib.suppress(ClientDisconnect, asyncio.CancelledError):
                await application(scope, receive, send)

        super().__init__(
            uvicorn.Config(
                quiet,
                interface="asgi3",
                http=_Protocol,
                loop="asyncio",
                ws="none",
                lifespan="off",
                proxy_headers=False,
                server_header=False,
                access_log=False,
                log_config=None,
                log_level="error",
                # Longer than any client here keeps a connection, or a request could meet its closing.
                timeout_keep_alive=300,
            )
        )
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # asyncio leaks a connection that was accepted when the server closes before it has its transport.
        loop = asyncio.get_running_loop()
        for listener in (found for server in self.servers for found in server.sockets):
            loop.remove_reader(listener)
        while self.server_state.connections or asyncio.all_tasks() - {asyncio.current_task()}:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(_ROUND_S)
            for task in self.server_state.tasks:
                task.cancel()
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
