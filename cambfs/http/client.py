"""The HTTP client of the API and the storage behind it: a `cambfs.remote.source.Source`.

One call is one request. Retries, caching and the choice of requests are elsewhere. No text that it raises holds the key
or the query of a URL. It builds on `exchange` (requests, redirects, where the key goes), `origins`, `headers`,
`response_text`, `sniff` and `body`. Threads: any number at once; nothing here is locked.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any, NoReturn, Self

from cambfs.errors import BadResponse, ConfigError, RemoteError, ResultChanged, UnknownPath, UnknownRun
from cambfs.hosts.breaker import Breakers
from cambfs.hosts.origins import Origin, allowed_origin, base_origin
from cambfs.http import task_report
from cambfs.http.exceptions import api_error, elsewhere_error, storage_error
from cambfs.http.exchange import Exchange, Response
from cambfs.http.sniff import refuse_other_than_audio
from cambfs.names import MAX_RUN_ID, RunId, TaskId
from cambfs.redaction import response_text
from cambfs.redaction.masking import Key
from cambfs.remote.signature import life_s
from cambfs.remote.source import SignedUrl, TaskKind, TaskReport
from cambfs.wire.body import HttpBody
from cambfs.wire.headers import Span, retry_after_s

_NO_RUN = RunId(0)
# Unlikely to exist either, but the API has to look for it, as for any other.
_LAST_RUN = RunId(MAX_RUN_ID)
# How long an API that has responded, and keeps its connection open, is taken to be there without a round trip.
_STILL_THERE_S = 10.0
_MAX_JSON = 2**20
_MAX_MESSAGE = 2**16
_NO_SUCH_ENDPOINT = (404, 405, 501)
_KEY = re.compile(r"[\x21-\x7e]+")
_STORED = {404: ", it has no such object", 410: ", it has no such object", 416: ", the object ends before that"}


class Client:
    """Client of the API at `base_url`, with `key`; a `cambfs.remote.source.Source`, and a context manager.

    `timeout_s` bounds every wait for the other side (connecting: ten seconds at most). `connections` is the number of
    idle connections that are kept for each host, not a limit on open ones. HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and
    NO_PROXY are read at the first request to a host; REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE and SSL_CERT_FILE are read now.
    Raises ConfigError for a base URL that is not https (or http on this machine), or an impossible key, timeout, proxy
    or CA bundle.
    """

    def __init__(self, base_url: str, key: str, timeout_s: float = 30.0, connections: int = 128) -> None:
        self._base_url = base_url.rstrip("/")
        self._base = base_origin(self._base_url)
        self._key = Key(_checked(key))
        if not 0 < timeout_s < float("inf"):
            raise ConfigError(f"the timeout must be a number of seconds above 0, not {timeout_s}")
        self._timeout_s = timeout_s
        self._storage: Origin | None = None  # where the last object was; one word, written by any thread
        self._exchange = Exchange(self._base, self._key, timeout_s, connections, self._url_of(_LAST_RUN))

    def __repr__(self) -> str:
        return f"Client({str(self._base)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the idle connections. Open bodies stay open."""
        self._exchange.close()

    def use_key(self, key: str) -> None:
        """Replaces the key, for requests that begin from here on. Raises ConfigError for an impossible key."""
        self._key = self._key.replaced_by(_checked(key))
        self._exchange.use_key(self._key)

    def check_key(self) -> None:
        """Makes one cheap request (0 is never a run), or two. Returns when the API has responded, and so accepts the
        key. Raises KeyRefused if it does not; ConfigError if the server is not the API; another RemoteError, or
        LinkError, if neither can be determined."""
        what = "the key"
        response = self._exchange.get(what, self._url_of(_NO_RUN), {}, with_key=True)
        try:
            is_there = self._is_of_the_api(response, what) or self._has_bulk(what)
        except UnknownRun:
            return
        if not is_there:
            shown = response_text.plain(self._base_url, hide=self._key)
            raise ConfigError(f"no CAMB.AI API at {shown}; does the base URL end in /apis?")

    @property
    def breakers(self) -> Breakers:
        """The breakers of the API and of the storage behind it."""
        return self._exchange.breakers

    def look(self, run_id: RunId) -> None:
        breaker = self.breakers.of(self._base)
        if not breaker.is_open:
            if not breaker.was_heard_within(_STILL_THERE_S) or not self._exchange.has_open_connection():
                self._exchange.connect("the API")
            return
        with suppress(RemoteError):
            self.sign(run_id)

    def open_stream(self, run_id: RunId, start: int = 0, etag: str | None = None) -> HttpBody:
        """As `Source.open_stream`. Without an etag it requests all from 0 whatever `start` is: nothing else would prove
        that the bytes are of the same result. Raises ResultChanged for a part of a result with another etag."""
        what = f"run {run_id}"
        asked = Span(start) if start and etag else None
        headers = {"Range": asked.header, "If-Range": etag or ""} if asked else {}
        url = f"{self._base_url}/tts-result/{run_id}"
        response = self._exchange.get(what, url, headers, with_key=True, is_long=True)
        if response.status not in (200, 206):
            self._refuse(response, what)
        body = self._exchange.body(response, what, asked)
        with ExitStack() as on_error:
            on_error.callback(body.close)
            if response.status == 206 and response.headers.get("ETag", etag) != etag:
                raise ResultChanged(f"{what}: the result is no longer the one that was read")
            if body.start == 0:
                refuse_other_than_audio(body, response.status, what, time.monotonic() + self._timeout_s, hide=self._key)
            on_error.pop_all()
        return body

    def sign(self, run_id: RunId) -> SignedUrl:
        return self._sign(run_id, f"run {run_id}")

    def sign_many(self, run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        what = f"runs {', '.join(map(str, run_ids))}"
        self._expect_storage()
        response = self._exchange.post(what, f"{self._base_url}/tts-results", {"run_ids": list(run_ids)})
        found, now_s = self._json_response(response, what)[0], response.now_s()
        signed = {run_id: self._signed(run_id, found.get(str(run_id)), now_s) for run_id in run_ids}
        # The URL of one run for several: asked alone, each gets its own.
        uses = Counter(one.url for one in signed.values() if one is not None)
        return {run_id: one for run_id, one in signed.items() if one is not None and uses[one.url] == 1}

    def open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> HttpBody:
        """As `Source.open_stored`. Raises BadResponse when the object is gone or ends before `start`."""
        asked, what = Span(start, stop), "storage"
        try:
            self._storage = allowed_origin(signed.url, self._base)
        except ValueError as error:
            raise BadResponse(f"storage: the signed URL is {error}", 0) from None
        logged_as = what if signed.run_id is None else f"run {signed.run_id}"
        headers = {"Range": asked.header}
        response = self._exchange.get(
            what, signed.url, headers, with_key=False, is_long=not asked.is_short, logged_as=logged_as
        )
        if response.status not in (200, 206):
            self._refuse_stored(response, what)
        body = self._exchange.body(response, what, asked)
        body.ranges, body.is_stored = response.status == 206, True
        return body

    def connect_stored(self) -> None:
        if self._storage is not None:
            self._exchange.connect_ahead(self._storage, is_busy=True)

    def task(self, task_id: TaskId, kind: TaskKind) -> TaskReport:
        what = f"task {task_id}"
        response = self._exchange.get(what, f"{self._base_url}/{kind.value}/{task_id}", {}, with_key=True)
        found, _ = self._json_response(response, what)
        return task_report.parse(found, what, lambda value: response_text.words_of(value, hide=self._key))

    def _is_of_the_api(self, response: Response, what: str) -> bool:
        """False for a response that any web server gives. Raises the RemoteError that another refusal stands for. A
        host to which the API redirects has not seen the key, so all its responses are of any web server's kind."""
        if response.status == 200 and response.own:
            content = self._exchange.content(self._exchange.body(response, what, None), _MAX_MESSAGE)
            return not response_text.is_page(content)
        try:
            self._refuse(response, what)
        except UnknownPath:
            return False

    def _has_bulk(self, what: str) -> bool:
        """For an unknown run the API may send as little as any web server. In that case this endpoint tells them
        apart."""
        response = self._exchange.post(what, f"{self._base_url}/tts-results", {"run_ids": [0, 0]})
        if response.status in _NO_SUCH_ENDPOINT:
            response.close()
            return False
        return self._is_of_the_api(response, what)

    def _url_of(self, run_id: RunId) -> str:
        return f"{self._base_url}/tts-result/{run_id}?output_type=file_url"

    def _expect_storage(self) -> None:
        """A program that asks for a signed URL asks for its object next."""
        if self._storage is not None:
            self._exchange.connect_ahead(self._storage)

    def _sign(self, run_id: RunId, what: str) -> SignedUrl:
        self._expect_storage()
        response = self._exchange.get(what, self._url_of(run_id), {}, with_key=True)
        found, content = self._json_response(response, what)
        signed = self._signed(run_id, found if isinstance(found.get("output_url"), str) else None, response.now_s())
        if signed is None:
            words = "" if "output_url" in found else response_text.message(content, hide=self._key)
            raise BadResponse(
                response_text.with_words(f"{what}: the API gave no usable output_url", words), response.status
            )
        return signed

    def _signed(self, run_id: RunId, found: Any, now_s: float) -> SignedUrl | None:
        """The entry of one run in a bulk response; None when it is unclear."""
        response = {"output_url": found} if isinstance(found, str) else found
        url = response.get("output_url") if isinstance(response, dict) else None
        if not isinstance(url, str):
            return None
        try:
            allowed_origin(url, self._base)
        except ValueError:
            return None
        if self._key.is_whole_in(url):
            return None
        shown = response_text.showable(response, hide=self._key) or {"output_url": url}
        return SignedUrl(url, shown, life_s(url, now_s), run_id)

    def _json_response(self, response: Response, what: str) -> tuple[dict[str, Any], bytes]:
        if response.status != 200:
            self._refuse(response, what)
        content = self._exchange.content(self._exchange.body(response, what, None), _MAX_JSON + 1)
        found = response_text.json_object(content) if len(content) <= _MAX_JSON else None
        if found is None:
            words = response_text.message(content[:_MAX_MESSAGE], hide=self._key)
            raise BadResponse(response_text.with_words(f"{what}: the API's response is not a JSON object", words), 200)
        return found, content

    def _refuse(self, response: Response, what: str) -> NoReturn:
        status, wait_s = response.status, retry_after_s(response.headers, response.now_s())
        words, of_no_run = self._words_of(response, what)
        if response.own:
            text = response_text.with_words(f"{what}: the API says {status}", words)
            raise api_error(text, status, wait_s, of_no_run)
        who = f"{what}: {response.origin}, to which the API redirects without the key,"
        raise elsewhere_error(response_text.with_words(f"{who} says {status}", words), status, wait_s)

    def _words_of(self, response: Response, what: str) -> tuple[str, bool]:
        # In a function of its own: the content may hold the key, and must be no local variable of a frame that raises.
        content = self._exchange.error_content(response, what, _MAX_MESSAGE)
        return response_text.message(content, hide=self._key), response_text.tells_of_no_run(content)

    def _refuse_stored(self, response: Response, what: str) -> NoReturn:
        status, code = (
            response.status,
            response_text.storage_code(self._exchange.error_content(response, what, _MAX_MESSAGE)),
        )
        text = response_text.with_words(f"{what}: {response.origin} says {status}{_STORED.get(status, '')}", code)
        raise storage_error(text, status, code, retry_after_s(response.headers, response.now_s()))


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ConfigError("the API key is empty, or has a space or an invalid character; copy it again")
    return key
