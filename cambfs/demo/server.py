"""Starts and stops the embedded API: two origins on loopback, for as long as a `with` lasts.

One thread a server, "cambfs-demo": uvicorn's event loop, in which all requests are answered. Everything public here
may be used from any thread, before, during and after the `with`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import uvicorn

from cambfs.demo.api import BASE_PATH
from cambfs.demo.app import Origins
from cambfs.demo.faults import Fault, Kind
from cambfs.demo.log import Record
from cambfs.demo.profile import Profile
from cambfs.demo.store import Store
from cambfs.demo.wire import WireProtocol

_HOST = "127.0.0.1"
_START_S = 10.0
_STOP_S = 10.0
_ROUND_S = 0.005


class Server:
    """An API with these results: run id → the file that holds its audio.

    `results` may be changed while it runs, and `profile` set to another: both hold from the next request on. A file
    that is replaced is served anew; one that shrinks while it is sent breaks the connection.

    `port` and `storage_port` 0 mean any free port. `start` raises OSError when a port is taken. `stop` ends also
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

    @property
    def storage_url(self) -> str:
        return self._store.storage_url

    @property
    def results(self) -> dict[int, Path]:
        return self._store.results

    @property
    def profile(self) -> Profile:
        return self._store.profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        self._store.profile = profile

    @property
    def requests(self) -> tuple[Record, ...]:
        """Every request since the start or `forget`, oldest first, also those that are being answered."""
        return self._store.log.snapshot()

    def count(self, kind: Kind, run_id: int | None = None) -> int:
        """How many requests of a kind there were, for one run or for all, refused ones included."""
        return sum(record.kind == kind and run_id in (None, record.run_id) for record in self.requests)

    def forget(self) -> None:
        """Empties the log."""
        self._store.log.clear()

    def fail(self, fault: Fault) -> None:
        """Lets a coming request go wrong."""
        self._store.faults.add(fault)

    def heal(self) -> None:
        """Takes back the faults that have not happened yet, and releases what has stalled."""
        self._store.faults.clear()
        self.release()

    @property
    def stalled(self) -> int:
        """How many answers have stalled and are still connected."""
        return self._store.stalled.count

    def release(self) -> None:
        """Lets the answers go on that have stalled by now."""
        self._store.stalled.release()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when both ports answer."""
        listeners = _listeners(self._wanted_ports)
        # Bound and never listened on: connections to it are refused, and nobody else can take it.
        self._closed = socket.socket()
        self._closed.bind((_HOST, 0))
        api, storage, closed = (found.getsockname()[1] for found in (*listeners, self._closed))
        self.base_url = f"http://{_HOST}:{api}{BASE_PATH}"
        self._store.storage_url = f"http://{_HOST}:{storage}"
        self._store.closed_url = f"http://{_HOST}:{closed}"
        self._uvicorn = _Uvicorn(Origins(self._store, {api: "api", storage: "storage"}))
        self._thread = threading.Thread(target=self._uvicorn.run, args=(listeners,), name="cambfs-demo", daemon=True)
        self._thread.start()
        if not self._uvicorn.ready.wait(_START_S):
            raise RuntimeError("the embedded API did not start")

    def stop(self) -> None:
        """Returns when the thread has ended and the ports are free; does nothing when it does not run."""
        if self._thread is None:
            return
        self._uvicorn.ask_to_stop()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            raise RuntimeError("the embedded API did not stop")
        self._thread = None
        self._closed.close()


def _listeners(ports: tuple[int, int]) -> list[socket.socket]:
    first = socket.create_server((_HOST, ports[0]))
    try:
        return [first, socket.create_server((_HOST, ports[1]))]
    except OSError:
        first.close()
        raise


class _Uvicorn(uvicorn.Server):
    """uvicorn that says when it has started, is woken to stop, and then waits for nobody."""

    def __init__(self, app: Origins) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                interface="asgi3",
                http=WireProtocol,
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

    def ask_to_stop(self) -> None:
        self._loop.call_soon_threadsafe(self._wake.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # The base class looks every 0.1 s; the tick it takes then only keeps the Date header.
        while not self._wake.is_set():
            await self.on_tick(0)
            try:
                await asyncio.wait_for(self._wake.wait(), 1)
            except TimeoutError:
                continue

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # asyncio leaks a connection that was accepted when the server closes before it has its transport.
        for listener in (found for server in self.servers for found in server.sockets):
            self._loop.remove_reader(listener)
        while self.server_state.connections or asyncio.all_tasks() - {asyncio.current_task()}:
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await asyncio.sleep(_ROUND_S)
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
