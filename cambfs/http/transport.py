"""The connections to the API and to other hosts, and what they take from their surroundings: proxies and certificates.

Beside `client` the only module that knows requests and urllib3. Not what is asked, nor where the key goes (`client`).
Threads: any number at once. What one thread learns of where the API is, the others may know a little later.
"""

from __future__ import annotations

import os
import socket
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from cambfs import __version__
from cambfs.errors import ConfigError
from cambfs.http.answers import plain
from cambfs.http.deadline_reader import SteppedResponse
from cambfs.http.origins import Origin, reach_of

_HEADERS = {"User-Agent": f"cambfs/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class TooNear(Exception):
    """A host's name led into a local network that is none of the API's. The text is the address."""


class Peers:
    """Which addresses may be talked to: the API's own, and nothing nearer than that. `reach` is how near it is."""

    def __init__(self, api: Origin) -> None:
        self._api = api.host.strip("[]"), api.port
        self.reach = api.reach

    def check(self, host: str, port: int | None, address: str) -> None:
        """Of a connection that is there, and over which nothing has been sent. Raises TooNear."""
        reach = reach_of(address)
        if (host.strip("[]"), port) == self._api:
            self.reach = max(self.reach, reach)
        elif reach > self.reach:
            raise TooNear(address)


class _Connection(HTTPConnection):
    response_class = SteppedResponse
    peers: Peers

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        # A proxy looks names up by itself, so nothing is known of the address behind it.
        if self.proxy is None:
            try:
                self.peers.check(self.host, self.port, sock.getpeername()[0])
            except BaseException:
                sock.close()
                raise
        return sock


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection

    def __init__(self, peers: Peers, *arguments: Any, **more: Any) -> None:
        self._peers = peers
        super().__init__(*arguments, **more)

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.peers = self._peers
        return connection


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def __init__(self, peers: Peers, connections: int) -> None:
        self._pools = {"http": partial(_Pool, peers), "https": partial(_TlsPool, peers)}
        super().__init__(pool_maxsize=connections, max_retries=0, pool_block=False)

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **more)
        if proxy.lower().startswith("socks"):  # those have connections of their own
            pools = manager.pool_classes_by_scheme
            manager.pool_classes_by_scheme = {scheme: _stepped(pool) for scheme, pool in pools.items()}
        else:
            manager.pool_classes_by_scheme = self._pools
        return manager


def _stepped(pool: Any) -> Any:
    """As `pool`, but what is read from its connections is read in steps."""
    if issubclass(pool.ConnectionCls.response_class, SteppedResponse):
        return pool
    connection = type(pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"response_class": SteppedResponse})
    return type(pool.__name__, (pool,), {"ConnectionCls": connection})


class Session(requests.Session):
    """A session that takes nothing from its surroundings, follows nothing, and connects to what `peers` lets it.
    `connections` is how many idle ones are kept for each host."""

    def __init__(self, peers: Peers, connections: int) -> None:
        super().__init__()
        self.trust_env = False  # per request it would read .netrc and the environment again
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers.clear()
        self.headers.update(_HEADERS)
        adapter = _Adapter(peers, connections)
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Never one: requests would read a redirect's body to its end, however long, only to prepare the next hop."""
        return


class Proxies:
    """The proxies of the environment, as they are when a host is asked for the first time."""

    def __init__(self) -> None:
        self._known: dict[Origin, dict[str, str]] = {}

    def towards(self, origin: Origin) -> dict[str, str]:
        # Two threads may both compute it: the same.
        if origin not in self._known:
            url = f"{origin.scheme}://{origin.host}:{origin.port}/"
            # A proxy cannot reach this machine, and over plain http it would see the key.
            self._known[origin] = {} if origin.is_loopback else dict(get_environ_proxies(url))
        return self._known[origin]


def ca_bundle() -> str | bool:
    """The certificates to trust: True for requests' own. Raises ConfigError."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path:
            if not Path(path).exists():
                raise ConfigError(f"{name} names {plain(path)}, which is not there; mend or unset it")
            return path
    return True
