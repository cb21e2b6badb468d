"""Which URLs may be asked, and which of them are the API's own: the guard of the key and of the local network.

Not DNS: a host is judged by how it is written. A literal address in any spelling that resolvers take, `localhost` and
names below it are recognised as local; a name that merely *resolves* to a local address is not, because a look-up here
and another one at the connection may differ. What such a name can reach is a GET without the key. Pure functions, no
threads.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from cambfs.errors import ConfigError

# Narrower than the standard, so that no two URL parsers can read two different hosts out of what passes: no user
# information, no backslash, no escapes, no international names but in their ASCII form.
_URL = re.compile(r"(https?)://([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?(?=[/?#]|$)", re.I | re.ASCII)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme and host in lower case, and the port, written or not. `str()` is fit for a user."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """The host is written as this machine."""
        address = _address(self.host)
        return _is_localhost(self.host) if address is None else address.is_loopback

    @property
    def is_local(self) -> bool:
        """The host is written as this machine or as one of a network that is not the public one."""
        address = _address(self.host)
        if address is None:
            return _is_localhost(self.host)
        return not address.is_global or address.is_multicast


def origin_of(url: str) -> Origin:
    """The origin of an absolute http or https URL. Raises ValueError, with a text for users, for anything else."""
    match = _URL.match(url)
    if match is None or not url.isprintable():
        raise ValueError("not a plain http or https URL")
    scheme = match[1].lower()
    port = int(match[3] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise ValueError("a URL with an impossible port")
    return Origin(scheme, match[2].lower(), port)


def allowed_origin(url: str, base: Origin) -> Origin:
    """The origin of a URL that the API sent, if it may be asked at all when the API's own origin is `base`: https, or
    http where `base` is; a local host only where `base` is local. Raises ValueError, with a text for users."""
    origin = origin_of(url)
    if origin.scheme != "https" and base.scheme != "http":
        raise ValueError(f"a URL on {origin} that is not https")
    if origin.is_local and not base.is_local:
        raise ValueError(f"a URL into the local network ({origin})")
    return origin


def base_origin(base_url: str) -> Origin:
    """The origin of the API's base URL, fit to be sent a key: https, or http on this machine. Raises ConfigError."""
    example = "it looks like https://client.camb.ai/apis"
    try:
        origin = origin_of(base_url)
    except ValueError as error:
        raise ConfigError(f"the base URL is {error}; {example}") from None
    if "?" in base_url or "#" in base_url:
        raise ConfigError(f"the base URL has a query or a fragment; {example}")
    if origin.scheme == "http" and not origin.is_loopback:
        raise ConfigError(f"the base URL would send the key to {origin} unencrypted; write https:// instead of http://")
    return origin


def _is_localhost(host: str) -> bool:
    name = host.removesuffix(".")
    return name == "localhost" or name.endswith(".localhost")


def _address(host: str) -> IPv4Address | IPv6Address | None:
    text = host.strip("[]").removesuffix(".")
    try:
        address = ip_address(text)
    except ValueError:
        return _old_address(text)
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _old_address(text: str) -> IPv4Address | None:
    # 127.1, 0x7f000001, 2130706433: resolvers read these as addresses without asking anybody.
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None
