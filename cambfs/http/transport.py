"""How requests is used, and what it takes from its surroundings: proxies and certificates.

Not what is asked (`client`), nor where the key goes (`exchange`), nor the connections (`pool`). Threads: any number at
once; what two of them compute at the same time is the same.
"""

from __future__ import annotations

import os
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies

from cambfs import __version__
from cambfs.errors import ConfigError
from cambfs.http.origins import Origin
from cambfs.http.pool import strict
from cambfs.http.response_text import plain

_HEADERS = {"User-Agent": f"cambfs/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}


class _Adapter(HTTPAdapter):
    """Gives requests strict pools, without a proxy or with one of any kind."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        _be_strict(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        return _be_strict(super().proxy_manager_for(proxy, **more))

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
    """A session that takes nothing from its surroundings and follows nothing. `connections` is how many idle ones are
    kept for each host."""

    def __init__(self, connections: int) -> None:
        super().__init__()
        self.trust_env = False  # per request it would read .netrc and the environment again
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers.clear()
        self.headers.update(_HEADERS)
        adapter = _Adapter(pool_maxsize=connections)
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
                raise ConfigError(f"{name} names {plain(path)}, which does not exist; correct or unset it")
            return path
    return True
