"""Where a shared engine is: the URL of the setting `shared_cache`. Pure functions, no threads.

    valkey://HOST[:PORT][/DB]                                    one server; valkeys:// with TLS
    valkey+sentinel://HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DB]    the primary that these Sentinels name
    valkey+cluster://HOST[:PORT][,HOST[:PORT]…]                  a cluster; the others are found by asking these

`redis` and `rediss` stand for the same. USER@ before the first host names a user of the server's access list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import quote, unquote

from cambfs.text import quoted

_PORT, _SENTINEL_PORT = 6379, 26379
_URL = re.compile(r"(valkey|redis)(s?)(?:\+(sentinel|cluster))?://(?:([^@/]*)@)?([^/?#]*)(?:/([^?#]*))?", re.IGNORECASE)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_FORMS = "valkey://HOST:6379/0, valkey+sentinel://HOST:26379/SERVICE or valkey+cluster://HOST:6379"
_PASSWORD_PLACE = (
    "a password does not belong in the URL; set CAMBFS_SHARED_CACHE_PASSWORD, "
    "or name a file with --shared-cache-password-file"
)


class Layout(Enum):
    """How the servers form an engine; the value is what follows the scheme."""

    SINGLE = ""
    SENTINEL = "+sentinel"
    CLUSTER = "+cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """`hosts` are the Sentinels, or some nodes of the cluster, or the one server. `user` and `service` may be ""."""

    layout: Layout
    hosts: tuple[tuple[str, int], ...]
    is_tls: bool = False
    user: str = ""
    service: str = ""
    database: int = 0

    def __str__(self) -> str:
        """The URL, complete; it has no secret."""
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = {
            Layout.SINGLE: f"/{self.database}",
            Layout.SENTINEL: f"/{quote(self.service, safe='')}/{self.database}",
            Layout.CLUSTER: "",
        }[self.layout]
        return f"valkey{'s' if self.is_tls else ''}{self.layout.value}://{user}{hosts}{path}"


def parse(url: str) -> Address:
    """The address that the URL names. Raises ValueError with a sentence, which never has a part of a password."""
    url = url.strip()
    if (userinfo := _userinfo(url)) and ":" in userinfo:
        raise ValueError(_PASSWORD_PLACE)
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(f"this is not the address of a Valkey or Redis server; write for example {_FORMS}")
    _, secure, layout_text, user, hosts_text, path = match.groups()
    layout = Layout(f"+{layout_text.lower()}" if layout_text else "")
    hosts = _hosts(hosts_text, _SENTINEL_PORT if layout is Layout.SENTINEL else _PORT)
    if layout is Layout.SINGLE and len(hosts) > 1:
        raise ValueError(
            "several hosts are either Sentinels or a cluster; write valkey+sentinel:// or valkey+cluster://"
        )
    service, database = _service_and_database(layout, path or "")
    return Address(layout, hosts, bool(secure), unquote(user or ""), service, database)


def _userinfo(url: str) -> str:
    return url.rpartition("@")[0].partition("://")[2]


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None or not 0 < int(match[2] or default_port) < 1 << 16:
            raise ValueError(
                f"{quoted(part)} is not a host and a port; write for example cache.example.com:{default_port}"
            )
        hosts.append((match[1].strip("[]"), int(match[2] or default_port)))
    return tuple(hosts)


def _service_and_database(layout: Layout, path: str) -> tuple[str, int]:
    service, rest = "", path.removesuffix("/")
    if layout is Layout.SENTINEL:
        service, _, rest = rest.partition("/")
        if not service:
            raise ValueError("the name of the service is missing; write valkey+sentinel://HOST:26379/SERVICE")
    if rest and not re.fullmatch(r"[0-9]{1,4}", rest, re.ASCII):
        raise ValueError(f"{quoted(rest)} is not the number of a database; write for example /0 at the end")
    if layout is Layout.CLUSTER and int(rest or 0):
        raise ValueError("a cluster has database 0 only; leave the number out")
    return unquote(service), int(rest or 0)
