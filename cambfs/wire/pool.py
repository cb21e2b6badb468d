"""Connection pools, one for each host: how connections are kept and reused, and what happens when that fails.

A connection rests before it is used again, and only if nothing arrived over it meanwhile. Bytes that a server sends
behind the end of a response, even if they look like a whole one, then never become the next response. If none has
rested, a new connection is made, or the rest is waited for where that is sooner: round trips and TLS take longer than a
rest on most links. A connection that has rested for minutes is closed instead.

A server may close a kept connection at the moment when the next request is sent on it. That says nothing about the
request, so it is sent once more at once, on a fresh connection. This is safe for GET, and for the one POST, which only
reads.

`strict_response` reads the responses, `addresses` chooses the address, `transport` the proxy. Threads: any number;
`_Idle` has its own lock, a connection belongs to the thread that has taken it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import weakref
from collections import deque
from functools import cache
from itertools import compress
from threading import Lock
from time import sleep
from typing import Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from cambfs.clock import since_boot_s
from cambfs.wire.addresses import Addresses
from cambfs.wire.coming import Coming
from cambfs.wire.deadline_reader import is_quiet
from cambfs.wire.strict_response import StrictResponse
from cambfs.wire.timing import Made, TimedConnection

# Longer than surplus bytes need to arrive that were sent together with the end of a response.
REST_S = 0.05
# Routers forget connections sooner than that, and a machine that slept, or moved, does not know. A request on such a
# connection would wait for its timeout.
STALE_S = 240.0
# A connection that had ended, and stray bytes in place of a head. A timeout is not among them: it used up the wait.
_LOST = (ConnectionError, ssl.SSLError, http.client.HTTPException)


class _Connection(HTTPConnection):
    response_class = StrictResponse  # type: ignore[assignment]
    rests_since: float | None = None  # when it was returned; None for a fresh one
    made: Made | None  # from TimedConnection; None before it was connected
    addresses: Addresses  # of the host that it connects to, shared by all connections of its pool


class _DirectConnection(_Connection):
    """A connection to a host, or to an HTTP proxy; others go through a SOCKS proxy, which accepts one address at a
    time."""

    def _new_conn(self) -> socket.socket:
        timeout_s = float(self.timeout or 0.0)  # always a number: each request sets one
        try:
            return self.addresses.connect(self._dns_host, self.port, timeout_s, self.socket_options or ())
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection within {timeout_s:g} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection: {error}") from error


def _rest_s(connection: _Connection) -> float:
    return since_boot_s() - (connection.rests_since or 0.0)


def _is_usable(connection: _Connection) -> bool:
    return _rest_s(connection) < STALE_S and is_quiet(connection.sock)


class _Idle:
    """The connections that rest, at most `most`, in the order in which they came to rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()  # guards _resting
        self._resting: deque[_Connection] = deque()

    def put(self, connection: _Connection) -> None:
        connection.rests_since = since_boot_s()
        with self._lock:
            self._resting.append(connection)
            surplus = []
            while self._resting and (len(self._resting) > self._most or _rest_s(self._resting[0]) >= STALE_S):
                surplus.append(self._resting.popleft())
        for one in surplus:
            one.close()

    def take(self) -> _Connection | None:
        """The one that was in use last, has rested, and over which nothing has come; None when there is none. Its
        congestion window is the largest: another one has to begin small again. Waits for the end of a rest, if that
        comes sooner than a new connection."""
        while (connection := self._take_rested()) is not None:
            sleep(max(REST_S - _rest_s(connection), 0.0))
            if _is_usable(connection):
                return connection
            connection.close()
        return None

    def _take_rested(self) -> _Connection | None:
        with self._lock:
            rested = (one for one in reversed(self._resting) if _rest_s(one) >= REST_S)
            found = next(rested, None) or self._soon_rested()
            if found is not None:
                self._resting.remove(found)
            return found

    def _soon_rested(self) -> _Connection | None:
        """The next one whose rest ends, if a new connection takes longer."""
        first = self._resting[0] if self._resting else None
        if first is None or first.made is None or REST_S - _rest_s(first) >= first.made.connect_s + first.made.secure_s:
            return None
        return first

    def is_any_open(self) -> bool:
        """Whether the other side has kept one open. Closes the others."""
        with self._lock:  # or a thread could take one that is being examined
            resting = list(self._resting)
            is_open = [_is_usable(connection) for connection in resting]
            self._resting = deque(compress(resting, is_open))
        for connection, was_open in zip(resting, is_open, strict=True):
            if not was_open:
                connection.close()
        return any(is_open)

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
        self._coming: Coming[_Connection] = Coming()
        self._addresses = Addresses()
        weakref.finalize(self, self._idle.close)
        weakref.finalize(self, self._coming.close)

    def urlopen(self, method: str, url: str, *arguments: Any, **more: Any) -> Any:
        # urllib3 normalises a URL, and a signature may not cover the result.
        return super().urlopen(method, url, *arguments, target=url, **more)

    def has_open_connection(self) -> bool:
        """Whether an idle connection is open at both ends, as far as this machine knows."""
        return self._idle.is_any_open()

    def connect_ahead(self, timeout_s: float) -> None:
        """Makes a connection for the next request, unless an idle one is open. Raises nothing."""
        if not self._idle.is_any_open():
            self._coming.make(lambda: self._connected(timeout_s), _is_usable)

    def _connected(self, timeout_s: float) -> _Connection:
        connection: _Connection = self._new_conn()
        connection.timeout = timeout_s
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.rests_since = since_boot_s() - REST_S  # it needs none: no request was made yet
        return connection

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        if self.pool is None:
            raise ClosedPoolError(self, "Pool is closed.")
        return self._idle.take() or self._coming.take(_is_usable) or self._new_conn()

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.addresses = self._addresses
        return connection

    def _put_conn(self, conn: Any) -> None:
        if conn is None:
            return
        if self.pool is not None and conn.sock is not None and conn.sock.fileno() >= 0:
            self._idle.put(conn)
        else:
            conn.close()

    def _make_request(self, conn: Any, method: str, url: str, *, target: str, **more: Any) -> Any:  # type: ignore[override]  # noqa: ARG002
        response = self._respond(conn, method, target, **more)
        response.was_reused = conn.rests_since is not None
        return response

    def _respond(self, conn: Any, method: str, target: str, **more: Any) -> Any:
        is_tunnel = conn.proxy_is_tunneling  # a connection that fails loses it
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
        self._coming.close()
        super().close()


@cache
def strict(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """As a pool of urllib3's, but with the rules of this module."""
    if issubclass(pool, _Pool):
        return pool
    kind: Any = pool.ConnectionCls
    ours = _DirectConnection if kind._new_conn is HTTPConnection._new_conn else _Connection
    connection = type(f"Strict{kind.__name__}", (TimedConnection, ours, kind), {})
    return type(f"Strict{pool.__name__}", (_Pool, pool), {"ConnectionCls": connection})
