"""The environment's settings for the way to the servers: proxies, and certificates to trust.

A setting that cannot work is a ConfigError that names it, before any request. No text shows its value where that may
hold a password. `transport` uses the proxies. Threads: any number at once; two threads may compute the same value.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
from pathlib import Path

from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url
from urllib3.util.ssl_ import create_urllib3_context

from cambfs.errors import ConfigError
from cambfs.hosts.origins import Origin
from cambfs.redaction.response_text import plain

# In this order, as requests has the first two, and curl and OpenSSL the others.
CA_SETTINGS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
_PROXIES = ("http", "https", *_SOCKS)


class Proxies:
    """The proxies of the environment, read at the first request to a host."""

    def __init__(self) -> None:
        self._known: dict[Origin, tuple[dict[str, str], str]] = {}

    def towards(self, origin: Origin) -> dict[str, str]:
        """As requests expects them. Raises ConfigError for one that cannot work."""
        return self._found(origin)[0]

    def setting(self, origin: Origin) -> str:
        """The variable that names the proxy towards `origin`; "" when there is none."""
        return self._found(origin)[1]

    def _found(self, origin: Origin) -> tuple[dict[str, str], str]:
        # Two threads may both compute it: the value is the same.
        if origin not in self._known:
            self._known[origin] = _proxy_towards(origin)
        return self._known[origin]


def _proxy_towards(origin: Origin) -> tuple[dict[str, str], str]:
    # A proxy cannot reach this machine, and over plain http it would see the key.
    if origin.is_loopback:
        return {}, ""
    found = get_environ_proxies(f"{origin.scheme}://{origin.host}:{origin.port}/")
    kind = next((kind for kind in (origin.scheme, "all") if found.get(kind)), None)
    if kind is None:
        return {}, ""
    name = max(one for one in os.environ if one.lower() == f"{kind}_proxy")  # lower case wins, as in urllib
    return {origin.scheme: usable_proxy(found[kind], name)}, name


def usable_proxy(url: str, setting: str) -> str:
    """`url`, or how urllib3 writes it. Raises ConfigError, which names `setting`, for one that it cannot use."""
    try:
        url = url if "://" in url else f"http://{url}"
        parsed = parse_url(url)
    except (LocationParseError, ValueError):
        raise ConfigError(
            f"{setting} does not name a proxy; it looks like http://HOST:PORT; in a password write %2F for /, %40 for @"
        ) from None
    scheme = parsed.scheme or ""
    if scheme == "socks":  # GNOME writes it so. It leaves name resolution to the proxy.
        scheme, url = "socks5h", "socks5h" + url[len("socks") :]
    if not parsed.host or parsed.port == 0:
        raise ConfigError(f"{setting} names a proxy without a host or port; correct or unset it")
    if scheme not in _PROXIES:
        raise ConfigError(f"{setting} names a proxy that is none of {', '.join(_PROXIES)}; correct or unset it")
    if scheme in _SOCKS and importlib.util.find_spec("socks") is None:
        raise ConfigError(f"{setting} names a SOCKS proxy, which needs PySocks; pip install PySocks, or unset it")
    return url


def ca_setting() -> tuple[str | None, Path]:
    """The variable that names the trusted certificates, None when none does, and their path."""
    name = next((name for name in CA_SETTINGS if os.environ.get(name)), None)
    return name, Path(os.environ[name] if name else DEFAULT_CA_BUNDLE_PATH)


def tls_context() -> ssl.SSLContext:
    """Trusts the certificates that the environment names, or else those of requests. They are read once: connections
    can be made even if the file is removed later. Raises ConfigError."""
    name, path = ca_setting()
    context = create_urllib3_context()
    try:
        context.load_verify_locations(None, str(path)) if path.is_dir() else context.load_verify_locations(str(path))
    except OSError as error:
        why = "has no certificates" if isinstance(error, ssl.SSLError) else _why_unreadable(error)
        advice = "correct or unset it" if name else "install requests and certifi anew"
        raise ConfigError(f"{name or 'requests'} names {plain(str(path))}, which {why}; {advice}") from None
    return context


def _why_unreadable(error: OSError) -> str:
    return "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
