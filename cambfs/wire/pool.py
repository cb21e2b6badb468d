"""Connection pools, one for each host: how connections are kept and reused, and what happens when that fails.

A connection rests before it is used again (`connection`). If none has rested, a new one is made, or the rest is waited
for where that is sooner: round trips and TLS take longer than a rest on most links. A connection that has rested for
minutes is closed instead.

TCP remembers for each connection how much the link took. Audio gets the connection that was fastest, and waits for its
rest where the others were far slower; requests with a short response leave it free.

A server may close a kept connection at the moment when the next request is sent on it, and some say 408 then: they
waited too long for a request. That says nothing about the request, so it is sent once more at once, on a fresh
connection. This is safe for GET, and for the one POST, which only reads.

`strict_response` reads the responses, `addresses` chooses the address, `transport` the proxy. Threads: any number;
`_Idle` has its own lock, and each thread its own wish.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import compress
from operator import attrgetter
from threading import Lock
from time import sleep
from typing import Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ClosedPoolError, ReadTimeoutError

from cambfs.clock import since_boot_s
from cambfs.wire.addresses import Addresses
from cambfs.wire.coming import Coming
from cambfs.wire.connection import STALE_S, Connection, DirectConnection, TimedConnection

# Others bring less than that even after a rest that is waited for.
_FAR_FASTER = 2
# A connection that had ended, or was about to, and stray bytes in place of a head. A timeout is not among them: it used
# up the wait.
_LOST = (ConnectionError, ssl.SSLError, http.client.HTTPException)
_is_usable, _bytes_per_s = attrgetter("is_usable"), attrgetter("bytes_per_s")


class _Wish(threading.local):
    is_long = False


_wish = _Wish()


@contextmanager
def wishing(*, is_long: bool) -> Iterator[None]:
    """Whether the responses to the requests of this thread inside the block may be long, as audio is."""
    _wish.is_long = is_long
    try:
        yield
    finally:
        _wish.is_long = False


def _for_long_response(rested: Sequence[Connection], soon: Sequence[Connection]) -> Connection | None:
    fastest = max((*rested, *soon), key=_bytes_per_s, default=None)
    best = max(rested, key=_bytes_per_s, default=None)
    if fastest is None or best is None or best.bytes_per_s * _FAR_FASTER < fastest.bytes_per_s:
        return fastest
    return best


def _for_short_response(rested: Sequence[Connection], soon: Sequence[Connection]) -> Connection | None:
    return min(rested, key=_bytes_per_s, default=None) or next(iter(soon), None)


class _Idle:
    """The connections that rest, at most `most`, in the order in which they came to rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()  # guards _resting
        self._resting: deque[Connection] = deque()

    def put(self, connection: Connection) -> None:
        connection.begin_rest()
        with self._lock:
            self._resting.append(connection)
            surplus = self._surplus()
        for one in surplus:
            one.close()

    def _surplus(self) -> list[Connection]:
        """Takes out those that have rested for too long, and of too many the slowest; of equal ones the oldest."""
        surplus = []
        while self._resting and self._resting[0].rest_s >= STALE_S:
            surplus.append(self._resting.popleft())
        while len(self._resting) > self._most:
            slowest = min(self._resting, key=_bytes_per_s)
            self._resting.remove(slowest)
            surplus.append(slowest)
        return surplus

    def take(self, is_long: bool) -> Connection | None:
        """One that has rested, and over which nothing has come; None when there is none. Of equal ones it is the one
        that was in use last. Waits for the end of a rest, if that comes sooner than a new connection."""
        while (connection := self._take_one(is_long)) is not None:
            sleep(max(connection.usable_at - since_boot_s(), 0.0))
            if connection.is_usable:
                return connection
            connection.close()
        return None

    def _take_one(self, is_long: bool) -> Connection | None:
        now = since_boot_s()
        with self._lock:
            rested = [one for one in reversed(self._resting) if one.usable_at <= now]
            soon = [one for one in self._resting if one.usable_at > now and one.is_usable_soon]
            found = _for_long_response(rested, soon) if is_long else _for_short_response(rested, soon)
            if found is not None:
                self._resting.remove(found)
            return found

    def is_any_open(self) -> bool:
        """Whether the other side has kept one open. Closes the others."""
        with self._lock:  # or a thread could take one that is being examined
            resting = list(self._resting)
            is_open = [connection.is_usable for connection in resting]
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
        self._coming: Coming[Connection] = Coming()
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

    def _connected(self, timeout_s: float) -> Connection:
        connection: Connection = self._new_conn()
        connection.timeout = timeout_s
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.skip_rest()
        return connection

    def _get_conn(self, timeout: float | None = None) -> Any:  # noqa: ARG002
        if self.pool is None:
            raise ClosedPoolError(self, "Pool is closed.")
        return self._idle.take(_wish.is_long) or self._coming.take(_is_usable) or self._new_conn()

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
        if conn.rests_since is not None and not conn.takes_request():
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
        conn.forget()
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
    ours = DirectConnection if kind._new_conn is HTTPConnection._new_conn else Connection
    connection = type(f"Strict{kind.__name__}", (TimedConnection, ours, kind), {})
    return type(f"Strict{pool.__name__}", (_Pool, pool), {"ConnectionCls": connection})
