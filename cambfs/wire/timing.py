"""Timing of a connection: how long each step took, the result of the TLS handshake, and the round trip.

Mixed into the connections of `pool`, which needs the times itself; `cambfs doctor` shows them as those of a mount's own
requests. Threads: a connection
belongs to the thread that has taken it, and so do its figures.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from urllib3.connection import HTTPConnection

# Where the kernel's `struct tcp_info` has the shortest round trip of the last minutes, in microseconds, and what stands
# there when there is none.
_MIN_RTT = struct.Struct("148xI")
_NO_RTT = 2**32 - 1


@dataclass(frozen=True)
class Made:
    """`connect_s` counts the look-up of the name and the TCP handshake, with the proxy if there is one; `secure_s` the
    steps after it: the proxy's tunnel and TLS. `tls` is its version, "" without TLS. `certificate` is as
    `SSLSocket.getpeercert` returns it, empty for one that was not checked."""

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


def round_trip_s(sock: socket.socket) -> float:
    """The shortest round trip of a connection in the last minutes, in seconds; 0 where it is not known. A response
    cannot come sooner after its request."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT.size)
    except OSError:
        return 0.0
    (microseconds,) = _MIN_RTT.unpack(info) if len(info) == _MIN_RTT.size else (_NO_RTT,)
    return 0.0 if microseconds == _NO_RTT else microseconds / 1e6
