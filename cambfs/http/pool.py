"""The connections to one host: how they are kept, when one is used again, and what happens when that fails.

A connection rests before it is used again, and only one is used over which nothing came meanwhile: bytes that a server
sends behind the end of a response, even if they look like a whole one, then never become the next response. Where none
has rested, a new connection is made; so requests one after the other soon take turns on a few.

A server may close a kept connection at the moment when the next request is sent on it. That says nothing about the
request, so it is sent once more at once, on a fresh connection, whatever was asked: GET, or the POST that only reads.

Not what comes over a connection (`strict_response`), nor proxies (`transport`). Threads: any number; `_Idle` has its
own lock, a connection belongs to the thread that has taken it.
"""

from __future__ import annotations

import http.client
import ssl
import time
import weakref
from collections import deque
from functools import cache
from threading import Lock
from typing import Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ClosedPoolError, ReadTimeoutError

from cambfs.http.deadline_reader import is_quiet
from cambfs.http.strict_response import StrictResponse

# Longer than anything is under way that was sent together with the end of a response.
REST_S = 0.05
# A connection that had ended, and stray bytes in place of a head. A timeout is none of these: it was waited enough.
_LOST = (ConnectionError, ssl.SSLError, http.client.HTTPException)


class _Connection(HTTPConnection):
    response_class = StrictResponse  # type: ignore[assignment]
    rests_since: float | None = None  # when it was given back; None for a fresh one


class _Idle:
    """The connections that rest, at most `most`, those first that do so longest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()  # guards _resting
        self._resting: deque[_Connection] = deque()

    def put(self, connection: _Connection) -> None:
        connection.rests_since = time.monotonic()
        with self._lock:
            self._resting.append(connection)
            surplus = self._resting.popleft() if len(self._resting) > self._most else None
        if surplus is not None:
            surplus.close()

    def take(self) -> _Connection | None:
        """One that has rested, and over which nothing has come; None when there is none."""
        while (connection := self._take_rested()) is not None:
            if is_quiet(connection.sock):
                return connection
            connection.close()
        return None

    def _take_rested(self) -> _Connection | None:
        with self._lock:
            if self._resting and time.monotonic() - (self._resting[0].rests_since or 0.0) >= REST_S:
                return self._resting.popleft()
            return None

    def close(self) -> None:
        with self._lock:
            resting, self._resting = self._resting, deque()
        for connection in resting:
            connection.close()


class _Pool(HTTPConnectionPool):
    """Mixed into a pool of urllib3, in place of its own way to keep connections."""

    def __init__(self, host: str, port: int | None = None, maxsize: int = 1, **more: Any) -> None:
        super().__init__(host, port, maxsize=1, **more)
        self._idle = _Idle(maxsize)
        weakref.finalize(self, self._idle.close)

    def urlopen(self, method: str, url: str, *arguments: Any, **more: Any) -> Any:
        # What urllib3 makes of a URL is another one, which a signature may not cover.
        return super().urlopen(method, url, *arguments, target=url, **more)

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        if self.pool is None:
            raise ClosedPoolError(self, "Pool is closed.")
        return self._idle.take() or self._new_conn()

    def _put_conn(self, conn: Any) -> None:
        if conn is None:
            return
        if self.pool is not None and conn.sock is not None and conn.sock.fileno() >= 0:
            self._idle.put(conn)
        else:
            conn.close()

    def _make_request(self, conn: Any, method: str, url: str, *, target: str, **more: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        is_tunnel = conn.proxy_is_tunneling  # a connection that fails has forgotten it
        if conn.rests_since is not None and not is_quiet(conn.sock):
            self._renew(conn, is_tunnel)
        try:
            return super()._make_request(conn, method, target, **more)
        except ReadTimeoutError:
            if conn.rests_since is not None:
                self._idle.close()  # dead without either end knowing, and so may be the others
            raise
        except _LOST:
            if conn.rests_since is None:
                raise
        self._renew(conn, is_tunnel)
        return super()._make_request(conn, method, target, **more)

    def _renew(self, conn: Any, is_tunnel: bool) -> None:
        """Closes a connection, so that the next request on it opens a fresh one, through the same proxy."""
        conn.close()
        conn.rests_since = None
        if is_tunnel:
            self._prepare_proxy(conn)

    def close(self) -> None:
        self._idle.close()
        super().close()


@cache
def strict(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """As a pool of urllib3's, but with the rules of this module."""
    if issubclass(pool, _Pool):
        return pool
    connection = type(f"Strict{pool.ConnectionCls.__name__}", (_Connection, pool.ConnectionCls), {})
    return type(f"Strict{pool.__name__}", (_Pool, pool), {"ConnectionCls": connection})
