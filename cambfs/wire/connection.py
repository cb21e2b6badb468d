"""One connection of a pool: how it is made, with the time of each step, its rest between two requests, and its rate.

A connection rests before it is used again, and only if nothing arrived over it meanwhile. Bytes that a server sends
behind the end of a response, even if they look like a whole one, then never become the next response. On a long way the
next request is sent before the rest is over, by the time that it travels: its response cannot come sooner.

Threads: a connection belongs to the thread that has taken it from the pool.
"""

from __future__ import annotations

import http.client
import math
import select
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from cambfs.clock import since_boot_s
from cambfs.wire.addresses import Addresses
from cambfs.wire.deadline_reader import is_quiet
from cambfs.wire.strict_response import StrictResponse

# Longer than surplus bytes need to arrive that were sent together with the end of a response.
REST_S = 0.05
# Routers forget connections sooner than that, and a machine that slept, or moved, does not know. A request on such a
# connection would wait for its timeout.
STALE_S = 240.0
# A shorter way saves little. And a thread that looks late could not tell a response from what came before it.
_LEAST_TRAVEL_S = 0.025
# The place of tcpi_min_rtt, in microseconds, in the kernel's struct tcp_info (linux/tcp.h, since Linux 4.6).
_MIN_RTT_AT = 148
_MIN_RTT = struct.Struct("=I")
_NOT_MEASURED = 2**32 - 1


@dataclass(frozen=True)
class Made:
    """How a connection was made, for `cambfs doctor`, too. `connect_s` counts the look-up of the name and the TCP
    handshake, with the proxy if there is one; `secure_s` the steps after it: the proxy's tunnel and TLS. `tls` is its
    version, "" without TLS. `certificate` is as `SSLSocket.getpeercert` returns it, empty for one that was not checked.
    """

    connect_s: float
    secure_s: float
    tls: str
    certificate: Mapping[str, Any]


class TimedConnection(HTTPConnection):
    made: Made | None = None
    _connected_at = 0.0

    def connect(self) -> None:
        begun_at = time.monotonic()
        super().connect()
        made_at, sock = time.monotonic(), self.sock
        tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self.made = Made(
            connect_s=self._connected_at - begun_at,
            secure_s=made_at - self._connected_at,
            tls=(tls.version() or "") if tls else "",
            certificate=(tls.getpeercert() or {}) if tls else {},
        )

    def _new_conn(self) -> socket.socket:
        connected = super()._new_conn()
        self._connected_at = time.monotonic()
        return connected


class EarlyBytes(http.client.HTTPException):
    """Bytes that came too early to be the response."""


class GaveUp(http.client.HTTPException):
    """The other side had waited too long for a request, and may not have read it."""


class Connection(HTTPConnection):
    response_class = StrictResponse  # type: ignore[assignment]
    rests_since: float | None = None  # when it was returned to the pool; None for a fresh one
    usable_at = 0.0  # when the next request may be sent
    bytes_per_s = 0.0  # of the last response that was long enough to show it
    made: Made | None  # from TimedConnection; None before it was connected
    addresses: Addresses  # of the host that it connects to, shared by all connections of its pool
    _response: StrictResponse | None = None
    _has_rested = True  # for the request that is sent next, or was just sent

    def takes_request(self) -> bool:
        """Whether the next request may be sent: nothing has come over it."""
        self._has_rested = self.rest_s >= REST_S  # first: the look finds what came until then
        return is_quiet(self.sock)

    def getresponse(self) -> Any:
        """As in urllib3. Raises EarlyBytes and, unless the connection is a fresh one, GaveUp."""
        if self.rests_since is not None:
            self._finish_rest()
        response: Any = super().getresponse()
        if self.rests_since is not None and response.status == HTTPStatus.REQUEST_TIMEOUT:
            response.close()
            raise GaveUp
        self._response = response._original_response
        return response

    def _finish_rest(self) -> None:
        """Looks until a look has begun after the rest. What that one finds may be a response, but nothing shows it."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        while not self._has_rested:
            poll.poll(math.ceil(max(REST_S - self.rest_s, 0.0) * 1000))
            if not self.takes_request():
                raise EarlyBytes

    def begin_rest(self) -> None:
        """Its response has been read to the end."""
        self.rests_since = since_boot_s()
        # Half of the shortest round trip is certain to pass before a response comes.
        travel_s = _shortest_round_trip_s(self.sock) / 2
        self.usable_at = self.rests_since + REST_S - (travel_s if travel_s >= _LEAST_TRAVEL_S else 0.0)
        if self._response is not None:
            self.bytes_per_s = self._response.bytes_per_s or self.bytes_per_s

    def forget(self) -> None:
        """Another connection is made in its place, over which nothing is known yet."""
        self.rests_since, self.bytes_per_s = None, 0.0

    def skip_rest(self) -> None:
        """No request was made over it yet."""
        self.usable_at = since_boot_s()
        self.rests_since = self.usable_at - REST_S

    @property
    def rest_s(self) -> float:
        """For how long it has rested."""
        return since_boot_s() - (self.rests_since or 0.0)

    @property
    def is_usable(self) -> bool:
        """Whether it is still open at both ends, as far as this machine knows, and nothing has come over it."""
        return self.rest_s < STALE_S and is_quiet(self.sock)

    @property
    def is_usable_soon(self) -> bool:
        """Whether waiting for the end of its rest takes less time than making another connection."""
        left_s = self.usable_at - since_boot_s()
        return self.made is not None and left_s < self.made.connect_s + self.made.secure_s


class DirectConnection(Connection):
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


def _shortest_round_trip_s(sock: socket.socket | None) -> float:
    """As the kernel has measured it, to a proxy if there is one; 0 where it does not tell."""
    with suppress(OSError, AttributeError, struct.error):  # no TCP, no such option, an older kernel; closed; none
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT_AT + _MIN_RTT.size)  # type: ignore[union-attr]
        shortest_us: int = _MIN_RTT.unpack_from(info, _MIN_RTT_AT)[0]
        return 0.0 if shortest_us == _NOT_MEASURED else shortest_us / 1e6
    return 0.0
