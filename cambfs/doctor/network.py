"""The way to the API: its name, its addresses, TLS, the clock, and whether it accepts the key.

The client of a mount makes the request, so proxies and certificates work as they do there. The key goes where a mount
would send it. No threads.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from cambfs.account import KEY_REMEDY, open_client
from cambfs.doctor.report import Check, Finding, broken, ok, warning
from cambfs.doctor.setup import proxy_address, proxy_of
from cambfs.errors import CambfsError, ConfigError, KeyRefused
from cambfs.hosts.origins import base_origin
from cambfs.http.exchange import Exchange, Response
from cambfs.names import MAX_RUN_ID
from cambfs.redaction import response_text
from cambfs.redaction.masking import Key
from cambfs.settings.config import Settings
from cambfs.wire.headers import Span, date_s

_RESOLVE_S = 5.0
_CONNECT_S = 1.5
_ALL_CONNECTS_S = 10.0
_REQUEST_S = 6.0
_SECOND_REQUEST_S = 2.0
_ALL_REQUESTS_S = 9.6
_MOST_ADDRESSES = 6
_MAX_CONTENT = 65536
# Signatures of URLs allow for a few minutes; an HTTP date has whole seconds.
_MOST_SKEW_S = 60.0
_SOON_S = 7 * 86400.0
_CERTIFICATE_REMEDY = "set the clock; behind a proxy that reads TLS, set REQUESTS_CA_BUNDLE to the file of its CA"
_BASE_URL_REMEDY = "correct CAMB_BASE_URL; it looks like https://client.camb.ai/apis"
_REFUSED = (401, 403)
_API_KNOWS_PATH = (400, 422)
_NOT_NOW = (408, 429)
_ISSUER_PARTS = ("organizationName", "commonName")


@dataclass(frozen=True)
class Observed:
    """The head of a response. `wait_s` lies between the request and the head, `connect_s` and `secure_s` before it."""

    response: Response
    connect_s: float
    secure_s: float
    wait_s: float

    @property
    def certificate(self) -> Mapping[str, Any]:
        return self.response.made.certificate if self.response.made else {}


class Prober:
    """Makes requests to the API as a mount does, each on a fresh connection. Raises ConfigError as `Client` does."""

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        if settings.key is None:
            raise ConfigError("there is no key for the request")
        self.base = base_origin(settings.base_url)
        self.base_url = settings.base_url.rstrip("/")
        self.key = Key(settings.key.reveal())
        check_url = f"{self.base_url}/tts-result/{MAX_RUN_ID}?output_type=file_url"
        self.exchange = Exchange(self.base, self.key, timeout_s, connections=0, check_url=check_url)

    def close(self) -> None:
        self.exchange.close()

    def ask(self, what: str, path: str, asked: Span | None = None) -> Observed:
        """`path` is one of the API's. Raises LinkError and BadResponse."""
        return self._observed(what, f"{self.base_url}{path}", asked, with_key=True)

    def ask_storage(self, url: str, asked: Span) -> Observed:
        return self._observed("storage", url, asked, with_key=False)

    def _observed(self, what: str, url: str, asked: Span | None, with_key: bool) -> Observed:
        begun_at = time.monotonic()
        response = self.exchange.get(what, url, {"Range": asked.header} if asked else {}, with_key)
        all_s, made = time.monotonic() - begun_at, response.made
        connect_s, secure_s = (made.connect_s, made.secure_s) if made else (0.0, 0.0)
        return Observed(response, connect_s, secure_s, max(all_s - connect_s - secure_s, 0.0))

    def words(self, response: Response, what: str) -> str:
        """The message of an error response."""
        return response_text.message(self.exchange.error_content(response, what, _MAX_CONTENT), hide=self.key)


def checks(settings: Settings) -> Iterator[Check]:
    """No checks for a base URL that cannot be requested."""
    try:
        host, port, what = _nearest(settings)
    except ConfigError:
        return
    found: list[tuple[str, int]] = []
    yield Check("network", "name", lambda: resolve(host, port, what, found), _RESOLVE_S)
    yield Check("network", "address", lambda: connect(found), _ALL_CONNECTS_S)
    if settings.key is not None:
        yield Check("network", "request", lambda: request(settings) if found else (), _ALL_REQUESTS_S)


def _nearest(settings: Settings) -> tuple[str, int, str]:
    """The host that connections go to: the proxy if there is one, which resolves the API's name by itself."""
    origin, url = base_origin(settings.base_url), proxy_of(settings)
    if url is None:
        return origin.host.strip("[]"), origin.port, origin.host
    address = proxy_address(url)
    if address is None:
        raise ConfigError("no URL of a proxy")
    return address.host, address.port, f"the proxy {address.host}"


def resolve(host: str, port: int, what: str, found: list[tuple[str, int]]) -> Iterator[Finding]:
    """Puts the addresses into `found`."""
    begun_at = time.monotonic()
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host can have such a name"
        remedy = "check the network and /etc/resolv.conf, and the name in CAMB_BASE_URL or of the proxy"
        yield broken("name", f"{what} is not resolved: {reason}", remedy)
        return
    found += dict.fromkeys((str(info[4][0]), port) for info in infos)
    addresses = ", ".join(address for address, _ in found)
    yield ok("name", f"{what} is {addresses} ({milliseconds(time.monotonic() - begun_at)})")


def connect(found: list[tuple[str, int]]) -> Iterator[Finding]:
    """Of several addresses, some may be out of reach, as those of IPv6 often are: a mount uses one that responds."""
    tried, failed = found[:_MOST_ADDRESSES], 0
    for address, port in tried:
        is_last_hope = failed == len(tried) - 1
        begun_at = time.monotonic()
        try:
            socket.create_connection((address, port), _CONNECT_S).close()
        except OSError as error:
            failed += 1
            text = f"{address} port {port} cannot be reached: {error.strerror or 'no response'}"
            remedy = "check the network, the firewall, and whether a proxy is needed (HTTPS_PROXY)"
            yield broken("address", text, remedy) if is_last_hope else warning("address", text, remedy)
        else:
            yield ok("address", f"{address} port {port} responds ({milliseconds(time.monotonic() - begun_at)})")


def request(settings: Settings) -> Iterator[Finding]:
    """One cheap request: 0 is never a run."""
    with closing(Prober(settings, _REQUEST_S)) as prober:
        try:
            observed = prober.ask("the API", "/tts-result/0?output_type=file_url")
        except CambfsError as error:
            yield broken("request", str(error), remedy_for(error))
            return
        if prober.base.scheme == "https":
            yield tls(observed, time.time())
        yield clock(observed.response, time.time())
        yield verdict(prober, observed.response, lambda: is_api(settings))


def remedy_for(error: CambfsError) -> str:
    if "certificate" in str(error):
        return _CERTIFICATE_REMEDY
    if isinstance(error, KeyRefused):
        return KEY_REMEDY
    return "check the network, the proxy and CAMB_BASE_URL, then try again"


def tls(observed: Observed, now_s: float) -> Finding:
    made, certificate = observed.response.made, observed.certificate
    version = made.tls if made else ""
    if not certificate:
        return ok("TLS", f"{version}; the certificate has no details")
    until_s = date_s(certificate["notAfter"])
    issuer = ", ".join(value for part in certificate["issuer"] for name, value in part if name in _ISSUER_PARTS)
    shown = (
        f"{version.replace('v', ' ')}; certificate by {issuer or 'an unnamed issuer'} until {certificate['notAfter']}"
    )
    if until_s is not None and until_s - now_s < _SOON_S:
        return warning("TLS", shown, "tell the service that its certificate expires soon; nothing to do here")
    return ok("TLS", f"{shown} ({milliseconds(observed.secure_s)})")


def clock(response: Response, now_s: float) -> Finding:
    server_s = date_s(response.headers.get("Date", ""))
    if server_s is None:
        return ok("clock", "not compared; the response has no Date")
    skew_s = now_s - server_s
    shown = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the API's"
    if abs(skew_s) > _MOST_SKEW_S:
        return warning("clock", shown, "as root: timedatectl set-ntp true")
    return ok("clock", "right within seconds" if abs(skew_s) < 3 else shown)


def is_api(settings: Settings) -> bool:
    """As a mount finds it out at its start, with another request about the path. Raises another CambfsError when that
    cannot be told."""
    with open_client(settings, _SECOND_REQUEST_S) as client:
        try:
            client.check_key()
        except ConfigError:
            return False
    return True


def verdict(prober: Prober, response: Response, is_api: Callable[[], bool]) -> Finding:
    """Whether the API is there, and accepts the key. `is_api` is called when the response does not tell."""
    status, own, host = response.status, response.own, response.origin
    content = prober.exchange.error_content(response, "the API", _MAX_CONTENT)
    text = response_text.with_words(f"{host} says {status}", response_text.message(content, hide=prober.key))
    if not own:
        return broken("API", f"redirects to {host}, where the key does not go", _BASE_URL_REMEDY)
    if status in _REFUSED:
        return broken("key accepted", text, KEY_REMEDY)
    if status in _NOT_NOW or status >= 500:
        return warning("API", text, "try again later")
    says_nothing = {200: response_text.is_page, 404: response_text.tells_of_no_run}.get(status)
    is_about_a_run = status in _API_KNOWS_PATH or (says_nothing is not None and not says_nothing(content))
    if is_about_a_run or is_api():
        return ok("key accepted", f"{host} accepts the key")
    return broken("API", f"no such API at this path: {text}", _BASE_URL_REMEDY)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
