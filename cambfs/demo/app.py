"""What the server runs: a record of each request, then the application of the origin that was asked.

Runs in the server's thread.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from cambfs.demo.api import Api
from cambfs.demo.log import Origin, Record
from cambfs.demo.storage import Storage
from cambfs.demo.store import Store


class Origins:
    """The application that the server runs: logs each request, waits, and hands it to the origin of its port."""

    def __init__(self, store: Store, ports: Mapping[int, Origin]) -> None:
        self._store = store
        self._ports = ports
        self._apps: dict[Origin, ASGIApp] = {"api": Api(store).asgi(), "storage": Storage(store).asgi()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = self._ports[scope["server"][1]]
        number = scope["state"]["number"] = self._store.log.open(self._record(origin, scope))

        async def logged_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._store.log.update(number, status=message["status"])
            await send(message)

        with contextlib.suppress(ClientDisconnect):
            await self._apps[origin](scope, receive, logged_send)

    def _record(self, origin: Origin, scope: Scope) -> Record:
        headers = scope["headers"]
        everything = b"\n".join([scope["raw_path"], scope["query_string"], *(value for _, value in headers)])
        return Record(
            origin=origin,
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            range=next((value.decode("latin-1") for name, value in headers if name == b"range"), None),
            had_key=self._store.key.encode() in everything,
            time_s=time.monotonic(),
        )
