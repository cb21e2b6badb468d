"""Sets requests up: which pools it has, and what a request says of its sender.

`client` chooses the requests, `exchange` says where the key goes, `pool` has the connections, `surroundings` reads the
environment. There is no session of requests: it would read the environment, keep cookies, and prepare redirects. And it
takes as much processor time as the rest of a small request. Threads: any number at once.
"""

from __future__ import annotations

import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from cambfs import __version__
from cambfs.wire.pool import strict, wishing

_HEADERS = {"User-Agent": f"cambfs/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


def prepared(request: requests.Request) -> requests.PreparedRequest:
    """The request as it is sent."""
    request.headers = {**_HEADERS, **request.headers}
    return request.prepare()


class Transport(HTTPAdapter):
    """Makes requests use strict pools, without a proxy or with one of any kind. `connections` is the number of idle
    connections that are kept for each host; `tls` says which certificates to trust. It follows no redirect."""

    def __init__(self, connections: int, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, ssl_context=self._tls, **more)
        _be_strict(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        own = {} if proxy.lower().startswith("socks") else {"proxy_ssl_context": self._tls}
        return _be_strict(super().proxy_manager_for(proxy, ssl_context=self._tls, **own, **more))

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:  # noqa: ARG002
        """As in requests, without its own certificates: the context has them."""
        conn.cert_reqs = "CERT_REQUIRED"

    def send(self, request: requests.PreparedRequest, *arguments: Any, is_long: bool = False, **more: Any) -> Any:
        """As in requests. `is_long`: the response may be long."""
        with wishing(is_long=is_long):
            return super().send(request, *arguments, **more)

    def connect_ahead(self, url: str, timeout_s: float) -> None:
        """Makes a connection for the next request to this host, unless an idle one is open. Not through a proxy. Raises
        nothing."""
        pool: Any = self.get_connection_with_tls_context(requests.Request("GET", url).prepare(), verify=True)
        self.cert_verify(pool, url, verify=True, cert=None)
        pool.connect_ahead(timeout_s)

    def has_open_connection(self, host: str, port: int) -> bool:
        """Whether an idle connection to it is open at both ends, as far as this machine knows."""
        pools = (self.poolmanager.pools.get(place) for place in self.poolmanager.pools.keys())  # noqa: SIM118
        return any(pool.has_open_connection() for pool in pools if (pool.host, pool.port) == (host, port))

    def close(self) -> None:
        """Closes the idle connections. urllib3 would leave that to the garbage collector."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for place in manager.pools.keys():  # noqa: SIM118
                manager.pools[place].close()
        super().close()


def _be_strict(manager: Any) -> Any:
    manager.pool_classes_by_scheme = {scheme: strict(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}
    return manager
