"""One request and the head of its response: sent, redirected, and its failures made ours.

Not what is asked of the API and what the responses mean (`client`); not how a connection is used again, nor the
repeated request when one was lost (`pool`). Beside `transport` and `pool` the only module that knows requests and
urllib3: none of their exceptions leaves it, and no text that it raises holds the key or the query of a URL. Threads:
any number at once, nothing here is locked; `body` says what its own threads may do.

The key goes to the origin of the base URL only. Redirects are followed by hand, since requests would forward the key to
whatever host they name; off that origin the key is dropped, and not taken up again should the way lead back. No
redirect is followed to a literal address that is nearer to this machine than the API itself.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3.exceptions

from cambfs.errors import BadResponse, CambfsError, ConfigError, LinkError, TimedOut, Unreachable
from cambfs.http.breaker import Breakers
from cambfs.http.exceptions import Kinds, fault
from cambfs.http.masking import Key
from cambfs.http.origins import Origin, allowed_origin, origin_of
from cambfs.http.request_log import RequestLog
from cambfs.http.surroundings import Proxies, tls_context
from cambfs.wire.addresses import Addresses
from cambfs.wire.body import HttpBody
from cambfs.wire.deadline_reader import step
from cambfs.wire.headers import Head, Span, date_s, read_head
from cambfs.wire.timing import Made
from cambfs.wire.transport import Session

CONNECT_TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
_QUESTION = "the API"
_REDIRECTS = (301, 302, 303, 307, 308)
_AS_IT_IS = re.compile(r"[\x21-\x7e]+")
_KINDS = Kinds(
    timeouts=(requests.Timeout, urllib3.exceptions.TimeoutError),
    connect_timeouts=(requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError),
    tls=(requests.exceptions.SSLError, urllib3.exceptions.SSLError),
    proxies=(requests.exceptions.ProxyError, urllib3.exceptions.ProxyError),
    malformed=(requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, urllib3.exceptions.InvalidHeader),
)
# Everything that the libraries raise for what the other side did, and nothing that would be a mistake of ours.
_FOREIGN = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    UnicodeError,
)


class Response:
    """The head of a response, and its body not yet begun. `own`: it is the API's own, not a storage's or of a host
    that the API redirected to. `made` tells of its connection, `had_interim` whether interim responses came first."""

    def __init__(self, response: requests.Response, origin: Origin, own: bool, log: RequestLog) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.raw = response.raw
        self.origin = origin
        self.own = own
        self.made: Made | None = getattr(response.raw.connection, "made", None)
        self.had_interim: bool = getattr(response.raw._original_response, "had_interim", False)
        self.log = log

    def close(self) -> None:
        """Of a response whose body is not wanted."""
        self.raw.close()
        self.log.ended(0)

    def now_s(self) -> float:
        said_s = date_s(self.headers.get("Date", ""))
        return time.time() if said_s is None else said_s


class Exchange:
    """Asks the API at `base` with `key`, and others without. A request to an origin that is down fails at once, as
    `breakers` say. The API answers `question_url` at once. Raises ConfigError for an impossible proxy or CA bundle."""

    def __init__(self, base: Origin, key: Key, timeout_s: float, connections: int, question_url: str) -> None:
        self._base = base
        self._key = key
        self._timeout_s = timeout_s
        self._question_url = question_url
        self.breakers = Breakers()
        self._addresses = Addresses()
        self._proxies = Proxies()
        self._proxies.towards(base)
        self._session = Session(connections, tls_context())

    def use_key(self, key: Key) -> None:
        """For requests that begin from here on."""
        self._key = key

    def close(self) -> None:
        """Closes the idle connections. Bodies that are open stay so."""
        self._session.close()

    def has_open_connection(self) -> bool:
        """Whether an idle connection to the API is open at both ends, as far as this machine knows."""
        return self._session.has_open_connection(self._base.host.strip("[]"), self._base.port)

    def connect(self, what: str) -> None:
        """Connects to the API, if no proxy is in between, and asks nothing. Raises LinkError."""
        if self._proxies.towards(self._base):
            return
        timeout_s = min(self._timeout_s, CONNECT_TIMEOUT_S)
        attempt = self.breakers.of(self._base).attempt(what, is_request=False)
        with attempt, self._guard(what, self._base, in_body=False):
            try:
                self._addresses.connect(self._base.host, self._base.port, timeout_s).close()
            except TimeoutError:
                raise requests.ConnectTimeout from None

    def get(
        self, what: str, url: str, headers: Mapping[str, str], with_key: bool, logged_as: str | None = None
    ) -> Response:
        """The first response that is no redirect. Raises BadResponse for one that leads too far or to where it may not.
        The log calls what is asked for `logged_as`, or else `what`."""
        deadline = time.monotonic() + self._timeout_s
        origin = origin_of(url)
        for _ in range(MAX_REDIRECTS + 1):
            request = requests.Request("GET", url, headers=dict(headers))
            response = self._send(what, request, origin, with_key, logged_as)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url, origin = self._redirected(response, what, url)
            with_key = with_key and origin == self._base
            if time.monotonic() > deadline:
                raise TimedOut(f"{what}: redirected for more than {self._timeout_s:g} s")
        raise BadResponse(f"{what}: redirected more than {MAX_REDIRECTS} times", response.status)

    def post(self, what: str, url: str, content: Any) -> Response:
        """The API's response to a JSON text, whatever it is."""
        return self._send(what, requests.Request("POST", url, json=content), self._base, with_key=True)

    def body(self, response: Response, what: str, asked: Span | None) -> HttpBody:
        """The body of a 200 or a 206. Raises BadResponse for one that is not what was asked."""
        try:
            head = read_head(response.status, response.headers, asked)
        except ValueError as error:
            response.close()
            raise BadResponse(f"{what}: {response.origin} sent {error}", response.status) from None
        return self._http_body(response, head, what)

    def error_content(self, response: Response, what: str, limit: int) -> bytes:
        """The content of a response that is an error; none where it cannot be had: the status says enough."""
        try:
            head = read_head(200, response.headers, None)
        except ValueError:
            response.close()
            return b""
        with suppress(LinkError):
            return self.content(self._http_body(response, head, what), limit)[:limit]
        return b""

    def content(self, body: HttpBody, limit: int) -> bytes:
        """All of a body, or at least its first `limit` bytes; closes it."""
        try:
            return body.peek(limit, time.monotonic() + self._timeout_s)
        finally:
            body.close()

    def _redirected(self, response: Response, what: str, url: str) -> tuple[str, Origin]:
        location = response.headers.get("Location", "")
        try:
            # Headers come as Latin-1, whatever they are.
            target = urljoin(url, location.encode("latin-1").decode()) if location else ""
            if self._key.is_whole_in(target):
                raise ValueError("a URL that holds the API key")
            return target, allowed_origin(target, self._base)
        except ValueError as error:
            why = "a URL that cannot be read" if isinstance(error, UnicodeError) else str(error)
        raise BadResponse(f"{what}: {response.origin} redirects to {why}", response.status)

    def _send(
        self, what: str, request: requests.Request, origin: Origin, with_key: bool, logged_as: str | None = None
    ) -> Response:
        if with_key:
            request.headers["x-api-key"] = self._key
        prepared = self._session.prepare_request(request)
        if _AS_IT_IS.fullmatch(request.url):
            prepared.url = request.url  # requests writes it in another way, which a signature may not cover
        proxies = self._proxies_towards(origin, what)
        timeouts = (min(self._timeout_s, CONNECT_TIMEOUT_S), self._timeout_s)
        log = RequestLog(request.method, request.url, origin, logged_as or what, own=with_key, hide=self._key)
        with (
            self._doubt(what, origin),
            self.breakers.of(origin).attempt(what, is_request=what != _QUESTION),
            self._guard(what, origin, in_body=False, log=log),
        ):
            response = self._session.send(
                prepared,
                stream=True,
                timeout=timeouts,
                proxies=proxies,
                allow_redirects=False,
            )
        log.answered(response.status_code, getattr(response.raw, "was_reused", False))
        return Response(response, origin, with_key, log)

    def _proxies_towards(self, origin: Origin, what: str) -> dict[str, str]:
        try:
            return self._proxies.towards(origin)
        except ConfigError as error:  # of another host than the API, or this client would not be there
            raise Unreachable(f"{what}: {origin} cannot be reached: {error}") from None

    @contextmanager
    def _doubt(self, what: str, origin: Origin) -> Iterator[None]:
        """After a request that the API did not answer, asks it the question: is it the API, or this one result?"""
        try:
            yield
        except TimedOut:
            breaker = self.breakers.of(origin)
            if origin == self._base and what != _QUESTION and breaker.takes_question():
                with suppress(CambfsError):
                    self.get(_QUESTION, self._question_url, {}, with_key=True).close()
                    breaker.note_stuck(what)
            raise

    def _http_body(self, response: Response, head: Head, what: str) -> HttpBody:
        if self._key.is_in(head.content_type):  # it is kept
            head = replace(head, content_type="")
        return HttpBody(response.raw, head, what, partial(self._guard, what, response.origin, True), response.log.ended)

    @contextmanager
    def _guard(self, what: str, origin: Origin, in_body: bool, log: RequestLog | None = None) -> Iterator[None]:
        """Held around each request and each read of a body, which may take the timeout altogether. The originals hold
        URLs, and what they were raised in holds the key: so they are not chained, and forget where they were."""
        try:
            with step(self._timeout_s):
                yield
            if in_body:
                self.breakers.of(origin).heard()
        except _FOREIGN as error:
            found = self._naming_proxy(fault(error, what, str(origin), self._timeout_s, in_body, _KINDS), origin)
            if log is not None:
                log.failed(found)
            raise found from None

    def _naming_proxy(self, error: CambfsError, origin: Origin) -> CambfsError:
        if setting := self._proxies.setting(origin):
            error.args = (f"{error} (through the proxy that {setting} names)",)
        return error
