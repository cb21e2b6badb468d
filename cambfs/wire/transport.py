"""Sets requests up: which pools it has, and what it must not do by itself.

`client` chooses the requests, `exchange` says where the key goes, `pool` has the connections, `surroundings` reads the
environment. Threads: any number at once.
"""

from __future__ import annotations

import ssl
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from cambfs import __version__
from cambfs.wire.pool import strict

_HEADERS = {"User-Agent": f"cambfs/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class _Adapter(HTTPAdapter):
    """Makes requests use strict pools, without a proxy or with one of any kind; all trust the same certificates."""

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


class Session(requests.Session):
    """A session that reads nothing from the environment and follows no redirect. `connections` is the number of idle
    connections that are kept for each host; `tls` says which certificates to trust."""

    def __init__(self, connections: int, tls: ssl.SSLContext) -> None:
        super().__init__()
        self.trust_env = False  # per request it would read .netrc and the environment again
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers.clear()
        self.headers.update(_HEADERS)
        self._adapter = _Adapter(connections, tls)
        self.mount("https://", self._adapter)
        self.mount("http://", self._adapter)

    def has_open_connection(self, host: str, port: int) -> bool:
        """As `_Adapter.has_open_connection`."""
        return self._adapter.has_open_connection(host, port)

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Never one: requests would read a redirect's body to its end, however long, only to prepare the next hop."""
        return
