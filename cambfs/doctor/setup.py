"""The settings: config.toml, the key, the base URL, proxies, certificates. Makes no request; no threads.

`cli` reads the settings, and passes a `Setup` to the checks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cambfs.doctor.report import Check, Finding, broken, ok, refused, warning
from cambfs.errors import CambfsError, ConfigError
from cambfs.hosts.origins import base_origin
from cambfs.hosts.surroundings import Proxies, ca_setting, tls_context
from cambfs.settings.config import Settings, config_file

_PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
# Scheme → the default port.
_PROXY_SCHEMES = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True)
class Setup:
    """The resulting settings. `settings` is None when some are wrong, as `troubles` say; its key is None when
    `key_trouble` says why, and so is the password of the shared cache with `password_trouble`. `unknown` has a line for
    each `CAMBFS_` variable that is not a setting."""

    settings: Settings | None
    troubles: Sequence[CambfsError] = ()
    key_trouble: CambfsError | None = None
    unknown: Sequence[str] = ()
    password_trouble: CambfsError | None = None


def checks(setup: Setup) -> Iterator[Check]:
    yield Check("settings", "config.toml", lambda: configuration(setup))
    settings = setup.settings
    if settings is not None:
        yield Check("settings", "key", lambda: key(setup, settings))
        yield Check("settings", "base URL", lambda: base_url(settings))
        yield Check("settings", "proxy", lambda: proxy(settings))
    yield Check("settings", "certificates", certificates)


def configuration(setup: Setup) -> Iterator[Finding]:
    file = config_file()
    for trouble in setup.troubles:
        yield refused("config.toml" if file and str(file) in str(trouble) else "settings", trouble)
    if setup.troubles:
        pass
    elif file is None:
        yield warning("config.toml", "no home directory is known", "set HOME")
    elif file.exists():
        yield ok("config.toml", f"{file}, {mode_of(file)}, all names and values are right")
    else:
        yield ok("config.toml", f"there is none at {file}; the defaults hold")
    for line in setup.unknown:
        found, _, hint = line.partition("; ")
        yield warning("environment", found, hint or f"unset {found.partition(' ')[0]}")


def mode_of(file: Path) -> str:
    return f"mode {stat.S_IMODE(file.stat().st_mode):04o}"


def key(setup: Setup, settings: Settings) -> Iterator[Finding]:
    """Shows neither the key nor its length."""
    if setup.key_trouble is not None:
        yield refused("key", setup.key_trouble)
    elif settings.key is None:
        yield broken("key", "there is none", "export CAMB_API_KEY=…, or name a file with --api-key-file")
    else:
        place = settings.key.place
        is_file = place.startswith("/") and Path(place).is_file()
        yield ok("key", f"from {place}" + (f", {mode_of(Path(place))}" if is_file else ""))


def base_url(settings: Settings) -> Iterator[Finding]:
    url = settings.base_url
    try:
        origin = base_origin(url)
    except ConfigError as error:
        yield refused("base URL", error)
        return
    if not urlsplit(url).path.rstrip("/").endswith("/apis"):
        yield warning("base URL", f"{url} does not end in /apis", f"correct CAMB_BASE_URL, perhaps to {url}/apis")
    elif origin.scheme == "http":
        yield ok("base URL", f"{url}, unencrypted, on this machine")
    else:
        yield ok("base URL", url)


def proxy_of(settings: Settings) -> str | None:
    """The URL of the proxy for the API, which may hold a password; None without one. Raises ConfigError for a bad base
    URL."""
    origin = base_origin(settings.base_url)
    found = Proxies().towards(origin)
    return found.get(origin.scheme) or found.get("all")


def proxy(settings: Settings) -> Iterator[Finding]:
    try:
        origin = base_origin(settings.base_url)
    except ConfigError:
        return  # the base URL's own line reports it
    proxies = Proxies()
    try:
        url = proxies.towards(origin).get(origin.scheme)
    except ConfigError as error:
        yield refused("proxy", error)
        return
    names = [name for name in _PROXY_VARIABLES if os.environ.get(name)]
    if url is None:
        yield ok("proxy", f"none for this host, although {', '.join(names)} is set" if names else "none")
        return
    name, address = proxies.setting(origin), proxy_address(url)
    if address is None:
        remedy = f"correct {name}, for example to http://proxy:3128; in a password, write %2F for / and %40 for @"
        yield broken("proxy", f"{name} is not the URL of a proxy", remedy)
    else:
        yield ok("proxy", f"{address} from {name}")


@dataclass(frozen=True)
class ProxyAddress:
    """The part of a proxy's URL that may be shown."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def proxy_address(url: str) -> ProxyAddress | None:
    """None if it is no URL of a proxy. Text before a stray @ could be a password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or _PROXY_SCHEMES[parts.scheme]
    except (ValueError, KeyError):
        return None
    behind = parts.path + parts.query + parts.fragment
    return ProxyAddress(parts.scheme, parts.hostname, port) if parts.hostname and "@" not in behind else None


def certificates() -> Iterator[Finding]:
    try:
        tls_context()
    except ConfigError as error:
        yield refused("certificates", error)
        return
    name, path = ca_setting()
    yield ok("certificates", f"those in {path}, from {name}" if name else "those that come with the certifi package")
