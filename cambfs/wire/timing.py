"""Timing of a connection: how long each step took, and the result of the TLS handshake. For `cambfs doctor`.

Mixed into the connections of `pool`, so that the figures are those of a mount's own requests. Threads: a connection
belongs to the thread that has taken it, and so do its figures.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection

if TYPE_CHECKING:
    import socket


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
