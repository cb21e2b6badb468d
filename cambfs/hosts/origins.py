"""Which URLs may be requested, and which of them are the API's own. Guards the key and the local network.

A host is judged by its spelling, without DNS: a literal address in any form that resolvers accept, or `localhost` or a
name below it. A name that resolves to a local address is allowed over https: the server has to prove with a certificate
that it is the host of that name. Pure functions, no threads.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from cambfs.errors import ConfigError

# Narrower than the standard, so that no two URL parsers can read two different hosts from an accepted URL: no user
# information, no backslash, no escapes, no international names but in their ASCII form.
_URL = re.compile(r"(https?)://([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?(?=[/?#]|$)", re.I | re.ASCII)
# A dot at the end belongs to the name.
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.ASCII)
_PORTS = {"http": 80, "https": 443}
# Signed URLs have one or two thousand characters.
_MAX_URL = 8192
# The prefix with which a gateway from IPv6 to IPv4 maps an IPv4 address.
_NAT64 = IPv6Network("64:ff9b::/96")


class Reach(IntEnum):
    """From where an address can be reached: the larger, the nearer. NOWHERE_ELSE: on one link or by one machine only,
    where routers and clouds serve data about themselves; or an address that no request may go to."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2
    NOWHERE_ELSE = 3


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
    def reach(self) -> Reach:
        """How near the host is, as far as its spelling tells."""
        if _is_localhost(self.host):
            return Reach.LOOPBACK
        address = _address(self.host)
        return Reach.PUBLIC if address is None else _reach(address)


def origin_of(url: str) -> Origin:
    """The origin of an absolute http or https URL. Raises ValueError, with a text for users, for anything else."""
    if len(url) > _MAX_URL:
        raise ValueError("a URL that is too long")
    match = _URL.match(url)
    if match is None or not url.isprintable():
        raise ValueError("not a plain http or https URL")
    scheme, host = match[1].lower(), match[2].lower()
    if not _is_host(host):
        raise ValueError("a URL with an impossible host")
    port = int(match[3] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise ValueError("a URL with an impossible port")
    return Origin(scheme, host, port)


def _is_host(text: str) -> bool:
    """Whether a host can have this name or address. For others the HTTP library raises errors of its own."""
    if not text.startswith("["):
        return _NAME.fullmatch(text) is not None
    try:
        return isinstance(ip_address(text.strip("[]")), IPv6Address)
    except ValueError:
        return False


def allowed_origin(url: str, base: Origin) -> Origin:
    """The origin of a URL that the API sent, if a request may go there when the API's own origin is `base`: https, or
    http where `base` is; and nothing that is written as nearer than `base` is. Raises ValueError, with a text for
    users, for anything else."""
    origin = origin_of(url)
    if origin.scheme != "https" and base.scheme != "http":
        raise ValueError(f"a URL on {origin} that is not https")
    if origin != base and origin.reach > base.reach:
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
        return _inner(ip_address(text))
    except ValueError:
        return _old_address(text)


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _old_address(text: str) -> IPv4Address | None:
    # 127.1, 0x7f000001, 2130706433: resolvers read these forms as addresses without a DNS query.
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _reach(address: IPv4Address | IPv6Address) -> Reach:
    # A connection to 0.0.0.0 or :: is one to this machine.
    if address.is_loopback or address.is_unspecified:
        return Reach.LOOPBACK
    if address.is_link_local or address.is_multicast or address.is_reserved:
        return Reach.NOWHERE_ELSE
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE
