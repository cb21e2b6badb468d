"""The HTTP client: the API and the storage behind it, as a `cambfs.remote.source.Source`.

Not retries, not caching, not deciding what to ask: one call is one question. With `transport` the only module that
knows requests and urllib3; none of their exceptions leaves it, and no text that it raises holds the key or the query of
a URL. What it stands on: `transport` (the connections), `origins` (where the key may go), `headers`, `answers`
and `body`.
Threads: any number call at once, nothing here is locked; `body` says what its own threads may do.

The key goes to the origin of the base URL only. Redirects are followed by hand, since requests would forward the key to
whatever host they name; off that origin the key is dropped, and not taken up again should the way lead back.

Nothing that the API names is asked where it is nearer to this machine than the API itself: a literal address is looked
at before, and the address to which a name led when the connection is there, before a byte is sent. Where a proxy looks
the names up, only the former can be done.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import unquote, urljoin

import requests
import urllib3.exceptions

from cambfs.errors import (
    BadAnswer,
    ConfigError,
    KeyRefused,
    LinkError,
    RemoteError,
    ResultChanged,
    TimedOut,
)
from cambfs.http import answers
from cambfs.http.body import HttpBody
from cambfs.http.deadline_reader import step
from cambfs.http.exceptions import Kinds, fault
from cambfs.http.headers import Head, Span, date_s, read_head, retry_after_s
from cambfs.http.origins import Origin, allowed_origin, base_origin, origin_of
from cambfs.http.signature import life_s
from cambfs.http.sniff import refuse_text
from cambfs.http.transport import Peers, Proxies, Session, TooNear, ca_bundle
from cambfs.names import RunId
from cambfs.remote.source import SignedUrl

CONNECT_TIMEOUT_S = 10.0
MAX_REDIRECTS = 5
_MAX_JSON = 2**20
_MAX_MESSAGE = 2**16
_REDIRECTS = (301, 302, 303, 307, 308)
_KEY = re.compile(r"[\x21-\x7e]+")
_STORED = {404: ", it has no such object", 410: ", it has no such object", 416: ", the object ends before that"}
_KINDS = Kinds(
    timeouts=(requests.Timeout, urllib3.exceptions.TimeoutError),
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


class _Key(str):
    """The key, hidden from whoever prints what is around it: headers, the locals of a traceback."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


class _Answer:
    """The head of an answer, and its body not yet begun. `own`: it is the API's own, not a storage's or of a host
    that the API redirected to."""

    def __init__(self, response: requests.Response, origin: Origin, own: bool) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.raw = response.raw
        self.origin = origin
        self.own = own

    def now_s(self) -> float:
        said_s = date_s(self.headers.get("Date", ""))
        return time.time() if said_s is None else said_s


class Client:
    """The API at `base_url`, asked with `key`; a `cambfs.remote.source.Source`, and a context manager.

    `timeout_s` bounds every wait for the other side (connecting: ten seconds at most); `connections` is how many idle
    ones are kept for each host, not how many there can be. HTTPS_PROXY, HTTP_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE and
    CURL_CA_BUNDLE are honoured as they are at the first request to a host. Raises ConfigError for a base URL that is
    not https (or http on this machine), an impossible key, timeout or CA bundle.
    """

    def __init__(self, base_url: str, key: str, timeout_s: float = 30.0, connections: int = 128) -> None:
        self._base_url = base_url.rstrip("/")
        self._base = base_origin(self._base_url)
        if not _KEY.fullmatch(key):
            raise ConfigError("the API key is empty or has a space or another character that no key has; copy it anew")
        if not 0 < timeout_s < float("inf"):
            raise ConfigError(f"the timeout must be a number of seconds above 0, not {timeout_s}")
        self._key = _Key(key)
        self._timeout_s = timeout_s
        self._verify = ca_bundle()
        self._peers = Peers(self._base)
        self._session = Session(self._peers, connections)
        self._proxies = Proxies()

    def __repr__(self) -> str:
        return f"Client({str(self._base)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the idle connections. Bodies that are open stay so."""
        self._session.close()

    def check_key(self) -> None:
        """Asks one cheap question (0 is never a run). Raises KeyRefused when the API refuses the key, LinkError when
        there is no answer; any other answer says nothing against the key."""
        try:
            self._sign(RunId(0), "the key")
        except KeyRefused:
            raise
        except RemoteError:
            return

    def open_stream(self, run_id: RunId, start: int = 0, etag: str | None = None) -> HttpBody:
        """As `Source.open_stream`. Without an etag it asks from 0 whatever `start` is: nothing else would prove that
        the bytes are of the same result. Raises ResultChanged for a part of a result with another etag."""
        what = f"run {run_id}"
        asked = Span(start) if start and etag else None
        headers = {"Range": asked.header, "If-Range": etag or ""} if asked else {}
        answer = self._get(what, f"{self._base_url}/tts-result/{run_id}", headers, with_key=True)
        if answer.status not in (200, 206):
            self._refuse(answer, what)
        body = self._body(answer, what, asked)
        with ExitStack() as on_error:
            on_error.callback(body.close)
            if answer.status == 206 and answer.headers.get("ETag", etag) != etag:
                raise ResultChanged(f"{what}: the result is no longer the one that was read")
            if body.start == 0:
                refuse_text(body, answer.status, what, time.monotonic() + self._timeout_s, hide=self._key)
            on_error.pop_all()
        return body

    def sign(self, run_id: RunId) -> SignedUrl:
        return self._sign(run_id, f"run {run_id}")

    def sign_many(self, run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        what = f"runs {', '.join(map(str, run_ids))}"
        request = requests.Request("POST", f"{self._base_url}/tts-results", json={"run_ids": list(run_ids)})
        answer = self._send(what, request, self._base, with_key=True)
        found, now_s = self._json_answer(answer, what)[0], answer.now_s()
        signed = {run_id: self._signed(found.get(str(run_id)), now_s) for run_id in run_ids}
        return {run_id: one for run_id, one in signed.items() if one is not None}

    def open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> HttpBody:
        """As `Source.open_stored`. Raises BadAnswer when the object is gone or ends before `start`."""
        asked, what = Span(start, stop), "storage"
        try:
            allowed_origin(signed.url, self._base, self._peers.reach)
        except ValueError as error:
            raise BadAnswer(f"storage: the signed URL is {error}", 0) from None
        answer = self._get(what, signed.url, {"Range": asked.header}, with_key=False)
        if answer.status not in (200, 206):
            self._refuse_stored(answer, what)
        body = self._body(answer, what, asked)
        body.ranges = answer.status == 206
        return body

    def _sign(self, run_id: RunId, what: str) -> SignedUrl:
        answer = self._get(what, f"{self._base_url}/tts-result/{run_id}?output_type=file_url", {}, with_key=True)
        found, content = self._json_answer(answer, what)
        signed = self._signed(found if isinstance(found.get("output_url"), str) else None, answer.now_s())
        if signed is None:
            words = "" if "output_url" in found else answers.message(content, hide=self._key)
            raise BadAnswer(answers.with_words(f"{what}: the API gave no usable output_url", words), answer.status)
        return signed

    def _signed(self, found: Any, now_s: float) -> SignedUrl | None:
        """What one run's entry of an answer gives; None when it gives nothing clear."""
        answer = {"output_url": found} if isinstance(found, str) else found
        url = answer.get("output_url") if isinstance(answer, dict) else None
        if not isinstance(url, str):
            return None
        try:
            allowed_origin(url, self._base, self._peers.reach)
        except ValueError:
            return None
        if self._holds_key(url):
            return None
        return SignedUrl(url, answers.showable(answer, hide=self._key) or {"output_url": url}, life_s(url, now_s))

    def _holds_key(self, url: str) -> bool:
        return self._key in url or self._key in unquote(url)

    def _json_answer(self, answer: _Answer, what: str) -> tuple[dict[str, Any], bytes]:
        if answer.status != 200:
            self._refuse(answer, what)
        content = self._content(self._body(answer, what, None), _MAX_JSON + 1)
        found = answers.json_object(content) if len(content) <= _MAX_JSON else None
        if found is None:
            words = answers.message(content[:_MAX_MESSAGE], hide=self._key)
            raise BadAnswer(answers.with_words(f"{what}: the API's answer is not a JSON object", words), 200)
        return found, content

    def _get(self, what: str, url: str, headers: Mapping[str, str], with_key: bool) -> _Answer:
        """The first answer that is no redirect. Raises BadAnswer for one that leads too far or to where it may not."""
        deadline = time.monotonic() + self._timeout_s
        origin = origin_of(url)
        for _ in range(MAX_REDIRECTS + 1):
            request = requests.Request("GET", url, headers=dict(headers))
            answer = self._send(what, request, origin, with_key)
            if answer.status not in _REDIRECTS:
                return answer
            answer.raw.close()
            url, origin = self._redirected(answer, what, url)
            with_key = with_key and origin == self._base
            if time.monotonic() > deadline:
                raise TimedOut(f"{what}: redirected for more than {self._timeout_s:g} s")
        raise BadAnswer(f"{what}: redirected more than {MAX_REDIRECTS} times", answer.status)

    def _redirected(self, answer: _Answer, what: str, url: str) -> tuple[str, Origin]:
        location = answer.headers.get("Location", "")
        try:
            # Headers come as Latin-1, whatever they are.
            target = urljoin(url, location.encode("latin-1").decode()) if location else ""
            origin = allowed_origin(target, self._base, self._peers.reach)
            if self._holds_key(target):
                raise ValueError(f"a URL on {origin} that holds the API key")
            return target, origin
        except ValueError as error:
            why = "a URL that cannot be read" if isinstance(error, UnicodeError) else str(error)
        raise BadAnswer(f"{what}: {answer.origin} redirects to {why}", answer.status)

    def _send(self, what: str, request: requests.Request, origin: Origin, with_key: bool) -> _Answer:
        if with_key:
            request.headers["x-api-key"] = self._key
        timeouts = (min(self._timeout_s, CONNECT_TIMEOUT_S), self._timeout_s)
        with self._guard(what, origin, in_body=False):
            response = self._session.send(
                self._session.prepare_request(request),
                stream=True,
                timeout=timeouts,
                verify=self._verify,
                proxies=self._proxies.towards(origin),
                allow_redirects=False,
            )
        return _Answer(response, origin, own=with_key)

    def _body(self, answer: _Answer, what: str, asked: Span | None) -> HttpBody:
        try:
            head = read_head(answer.status, answer.headers, asked)
        except ValueError as error:
            answer.raw.close()
            raise BadAnswer(f"{what}: {answer.origin} sent {error}", answer.status) from None
        return self._http_body(answer, head, what)

    def _http_body(self, answer: _Answer, head: Head, what: str) -> HttpBody:
        return HttpBody(answer.raw, head, what, partial(self._guard, what, answer.origin, True))

    def _content(self, body: HttpBody, limit: int) -> bytes:
        """All of a body, or at least its first `limit` bytes; closes it."""
        try:
            return body.peek(limit, time.monotonic() + self._timeout_s)
        finally:
            body.close()

    def _refuse(self, answer: _Answer, what: str) -> NoReturn:
        status, wait_s = answer.status, retry_after_s(answer.headers, answer.now_s())
        words = answers.message(self._refusal(answer, what), hide=self._key)
        if answer.own:
            raise answers.api_error(answers.with_words(f"{what}: the API says {status}", words), status, wait_s)
        who = f"{what}: {answer.origin}, to which the API redirects without the key,"
        raise answers.elsewhere_error(answers.with_words(f"{who} says {status}", words), status, wait_s)

    def _refuse_stored(self, answer: _Answer, what: str) -> NoReturn:
        status, code = answer.status, answers.storage_code(self._refusal(answer, what))
        text = answers.with_words(f"{what}: {answer.origin} says {status}{_STORED.get(status, '')}", code)
        raise answers.storage_error(text, status, code, retry_after_s(answer.headers, answer.now_s()))

    def _refusal(self, answer: _Answer, what: str) -> bytes:
        """The content of an answer that is an error; none where it cannot be had: the status says enough."""
        try:
            head = read_head(200, answer.headers, None)
        except ValueError:
            answer.raw.close()
            return b""
        body = self._http_body(answer, head, what)
        with suppress(LinkError):
            return self._content(body, _MAX_MESSAGE)[:_MAX_MESSAGE]
        return b""

    @contextmanager
    def _guard(self, what: str, origin: Origin, in_body: bool) -> Iterator[None]:
        """Held around each request and each read of a body, which may take the timeout altogether. The originals hold
        URLs, and what they were raised in holds the key: so they are not chained, and forget where they were."""
        try:
            with step(self._timeout_s):
                yield
        except TooNear as error:
            raise BadAnswer(f"{what}: {origin} is in a local network ({error}), and the API is not", 0) from None
        except _FOREIGN as error:
            raise fault(error, what, str(origin), self._timeout_s, in_body, _KINDS) from None
