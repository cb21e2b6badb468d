"""One request and the head of its response: sending it, following redirects, mapping exceptions to CambfsErrors.

`client` chooses the requests and interprets the responses. `pool` reuses connections, and repeats a request when a
connection was lost. No exception of requests and urllib3 leaves this module, and no text that it raises holds the key
or the query of a URL. Threads: any number at once; nothing here is locked. `body` describes its own threads.

The key goes to the origin of the base URL only. Redirects are followed by hand, since requests would forward the key to
any host that they name. Off that origin the key is dropped, and not used again if a later redirect leads back. No
redirect is followed to a literal address that is nearer to this machine than the API itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urljoin

import requests

from cambfs.errors import BadResponse, CambfsError, ConfigError, LinkError, TimedOut, Unreachable
from cambfs.hosts.breaker import Breakers
from cambfs.hosts.origins import Origin, allowed_origin, origin_of
from cambfs.hosts.surroundings import Proxies, tls_context
from cambfs.http.exceptions import FOREIGN, fault
from cambfs.http.request_log import RequestLog
from cambfs.redaction.masking import Key
from cambfs.system.workers import Workers
from cambfs.wire.addresses import Addresses
from cambfs.wire.body import HttpBody
from cambfs.wire.connection import Made
from cambfs.wire.deadline_reader import step
from cambfs.wire.headers import Head, Span, date_s, read_head
from cambfs.wire.transport import Transport, prepared

CONNECT_TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
# How long a host that has sent something keeps the connection at the least.
_CONNECTED_S = 1.0
_CHECK = "the API"
_REDIRECTS = (301, 302, 303, 307, 308)
_AS_IT_IS = re.compile(r"[\x21-\x7e]+")


class Response:
    """Head of a response whose body is not read yet. `own`: it comes from the API itself, not from storage or from a
    host that the API redirected to. `made` describes its connection; `had_interim` says whether interim responses came
    first."""

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
        """For a response whose body is not needed."""
        self.raw.close()
        self.log.ended(0)

    def now_s(self) -> float:
        server_s = date_s(self.headers.get("Date", ""))
        return time.time() if server_s is None else server_s


class Exchange:
    """Makes requests: with `key` to the API at `base`, without it to other hosts. A request to an origin that is down
    fails at once, as `breakers` say. The API responds to `check_url` at once. Raises ConfigError for an impossible
    proxy or CA bundle."""

    def __init__(self, base: Origin, key: Key, timeout_s: float, connections: int, check_url: str) -> None:
        self._base = base
        self._key = key
        self._timeout_s = timeout_s
        self._check_url = check_url
        self.breakers = Breakers()
        self._addresses = Addresses()
        self._proxies = Proxies()
        self._proxies.towards(base)
        self._transport = Transport(connections, tls_context())
        self._workers = Workers()

    def use_key(self, key: Key) -> None:
        """For requests that begin from here on."""
        self._key = key

    def close(self) -> None:
        """Closes the idle connections. Open bodies stay open."""
        self._transport.close()

    def has_open_connection(self) -> bool:
        """Whether an idle connection to the API is open at both ends, as far as this machine knows."""
        return self._transport.has_open_connection(self._base.host.strip("[]"), self._base.port)

    def connect(self, what: str) -> None:
        """Connects to the API, unless a proxy is in between, and makes no request. Raises LinkError."""
        if self._proxies.towards(self._base):
            return
        timeout_s = min(self._timeout_s, CONNECT_TIMEOUT_S)
        attempt = self.breakers.of(self._base).attempt(what, is_request=False)
        with attempt, self._guard(what, self._base, in_body=False):
            try:
                self._addresses.connect(self._base.host, self._base.port, timeout_s).close()
            except TimeoutError:
                raise requests.ConnectTimeout from None

    def connect_ahead(self, origin: Origin, *, is_busy: bool = False) -> None:
        """Connects to the host of a request that will soon be made, unless there is a connection, or a proxy is in
        between. Does not wait, and raises nothing: the request shows what is wrong. `is_busy`: the connection that the
        host has just used stays in use."""
        breaker = self.breakers.of(origin)
        if breaker.is_open or (breaker.was_heard_within(_CONNECTED_S) and not is_busy):
            return
        with suppress(CambfsError):
            if not self._proxies.towards(origin):
                timeout_s = min(self._timeout_s, CONNECT_TIMEOUT_S)
                url = f"{origin.scheme}://{origin.host}:{origin.port}/"
                self._workers.start("connect", lambda: self._transport.connect_ahead(url, timeout_s))

    def get(
        self,
        what: str,
        url: str,
        headers: Mapping[str, str],
        with_key: bool,
        is_long: bool = False,
        logged_as: str = "",
    ) -> Response:
        """The first response that is not a redirect. Raises BadResponse after too many redirects, or for one to a
        forbidden place. `is_long`: the response may be long, and is worth a fast connection. The log shows the request
        as `logged_as`, or else `what`."""
        deadline = time.monotonic() + self._timeout_s
        origin = origin_of(url)
        for _ in range(MAX_REDIRECTS + 1):
            request = requests.Request("GET", url, headers=dict(headers))
            response = self._send(what, request, origin, with_key, is_long, logged_as)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url, origin = self._redirected(response, what, url)
            with_key = with_key and origin == self._base
            if time.monotonic() > deadline:
                raise TimedOut(f"{what}: redirected for more than {self._timeout_s:g} s")
        raise BadResponse(f"{what}: redirected more than {MAX_REDIRECTS} times", response.status)

    def post(self, what: str, url: str, content: Any) -> Response:
        """The API's response to a JSON text, whatever its status."""
        return self._send(what, requests.Request("POST", url, json=content), self._base, with_key=True)

    def body(self, response: Response, what: str, asked: Span | None) -> HttpBody:
        """The body of a 200 or a 206. Raises BadResponse unless it is the part that was requested."""
        try:
            head = read_head(response.status, response.headers, asked)
        except ValueError as error:
            response.close()
            raise BadResponse(f"{what}: {response.origin} sent {error}", response.status) from None
        return self._http_body(response, head, what)

    def error_content(self, response: Response, what: str, limit: int) -> bytes:
        """The content of an error response; empty if it cannot be read: the status says enough."""
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
            # Headers come as Latin-1, whatever their encoding.
            target = urljoin(url, location.encode("latin-1").decode()) if location else ""
            if self._key.is_whole_in(target):
                raise ValueError("a URL that holds the API key")
            return target, allowed_origin(target, self._base)
        except ValueError as error:
            why = "a URL that cannot be read" if isinstance(error, UnicodeError) else str(error)
        raise BadResponse(f"{what}: {response.origin} redirects to {why}", response.status)

    def _send(
        self,
        what: str,
        request: requests.Request,
        origin: Origin,
        with_key: bool,
        is_long: bool = False,
        logged_as: str = "",
    ) -> Response:
        if with_key:
            request.headers["x-api-key"] = self._key
        to_send = prepared(request)
        if _AS_IT_IS.fullmatch(request.url):
            to_send.url = request.url  # requests writes it in another way, which a signature may not cover
        proxies = self._proxies_towards(origin, what)
        timeouts = (min(self._timeout_s, CONNECT_TIMEOUT_S), self._timeout_s)
        log = RequestLog(request.method, request.url, origin, logged_as or what, own=with_key, hide=self._key)
        with (
            self._doubt(what, origin),
            self.breakers.of(origin).attempt(what, is_request=what != _CHECK),
            self._guard(what, origin, in_body=False, log=log),
        ):
            response = self._transport.send(to_send, stream=True, timeout=timeouts, proxies=proxies, is_long=is_long)
        log.responded(response.status_code, getattr(response.raw, "was_reused", False))
        return Response(response, origin, with_key, log)

    def _proxies_towards(self, origin: Origin, what: str) -> dict[str, str]:
        try:
            return self._proxies.towards(origin)
        except ConfigError as error:  # a host that differs from the API's, or this client would not exist
            raise Unreachable(f"{what}: {origin} cannot be reached: {error}") from None

    @contextmanager
    def _doubt(self, what: str, origin: Origin) -> Iterator[None]:
        """Held around a request. If the API does not respond, makes the check request, to see whether only this result
        is stuck."""
        try:
            yield
        except TimedOut:
            breaker = self.breakers.of(origin)
            if origin == self._base and what != _CHECK and breaker.takes_check():
                with suppress(CambfsError):
                    self.get(_CHECK, self._check_url, {}, with_key=True).close()
                    breaker.note_stuck(what)
            raise

    def _http_body(self, response: Response, head: Head, what: str) -> HttpBody:
        if self._key.is_in(head.content_type):  # the content type is kept
            head = replace(head, content_type="")
        return HttpBody(response.raw, head, what, partial(self._guard, what, response.origin, True), response.log.ended)

    @contextmanager
    def _guard(self, what: str, origin: Origin, in_body: bool, log: RequestLog | None = None) -> Iterator[None]:
        """Held around each request and each read of a body; all of it may take up to the timeout. The original
        exceptions hold URLs, and their frames hold the key. So they are not chained, and lose their tracebacks."""
        try:
            with step(self._timeout_s):
                yield
            if in_body:
                self.breakers.of(origin).note_bytes()
        except FOREIGN as error:
            found = self._naming_proxy(fault(error, what, str(origin), self._timeout_s, in_body), origin)
            if log is not None:
                log.failed(found)
            raise found from None

    def _naming_proxy(self, error: CambfsError, origin: Origin) -> CambfsError:
        if setting := self._proxies.setting(origin):
            error.args = (f"{error} (through the proxy that {setting} names)",)
        return error
