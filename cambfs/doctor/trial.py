"""Checks one run with the API: its URL, its audio, and the object in storage, requested as a mount requests them.

The result is downloaded once, and kept nowhere. No text holds the query of a URL. No threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from cambfs import audio
from cambfs.account import open_client
from cambfs.audio import End
from cambfs.doctor.network import Observed, Prober, milliseconds, remedy_for
from cambfs.doctor.report import Check, Finding, broken, ok, warning
from cambfs.doctor.setup import Setup
from cambfs.errors import CambfsError
from cambfs.hosts.origins import origin_of
from cambfs.http.client import Client
from cambfs.http.exchange import Response
from cambfs.names import RunId
from cambfs.redaction import response_text
from cambfs.remote.signature import tells_life
from cambfs.remote.source import SignedUrl
from cambfs.settings.config import Settings
from cambfs.text import shown_size
from cambfs.wire.body import HttpBody
from cambfs.wire.headers import Span, read_framing, strong_etag

# The largest results take an hour at a megabyte a second.
LIMIT_S = 3600.0
_HEAD_BYTES = 4096
_PIECE_BYTES = 256 * 1024
_TAIL_BYTES = 64 * 1024
_RANGE = Span(1, 101)
_MAX_CONTENT = 65536
# Headers that cambfs uses, and that are optional.
_SHOWN = ("ETag", "Last-Modified", "Accept-Ranges", "Date")
_SHORT_LIFE_S = 60.0
_SHORT_WAIT_S = 10.0
_REMEDIES = {
    **dict.fromkeys((400, 404, 422), "check the id: it is the run_id of a finished task, not the id of the task"),
    **dict.fromkeys((401, 403), "use the key of the account that made this run"),
}
_TYPES = {"FLAC": ("audio/flac", "audio/x-flac"), "WAV": ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")}
_REPORT = "report it, together with these lines; cambfs works around it"
_NO_STORAGE = "nothing to do here: sizes come from a download instead, which is slower; report it"
_ENDS = {
    End.WHOLE: "complete by its own structure",
    End.INTACT: "ends in an intact frame",
    End.PADDED: "complete, perhaps with a zero behind it",
    End.UNKNOWN: "does not say where it ends",
}


@dataclass(frozen=True)
class Download:
    """All of a result, of which only the ends are kept. Times count from the head of the response."""

    size: int
    head: bytes
    tail: bytes
    first_s: float
    whole_s: float


def checks(setup: Setup, run_id: RunId) -> Iterator[Check]:
    settings, group = setup.settings, f"run {run_id}"
    if settings is not None and settings.key is not None:
        yield Check(group, "run", lambda: examine(settings, run_id), LIMIT_S)
    else:
        skipped = warning("run", "not checked, without a key or with wrong settings", "mend the lines above first")
        yield Check(group, "run", lambda: [skipped])


def examine(settings: Settings, run_id: RunId) -> Iterator[Finding]:
    with closing(Prober(settings, settings.timeout)) as prober, open_client(settings) as client:
        trial = Trial(prober, client, run_id)
        for name, look in (("audio", trial.audio), ("ranges", trial.ranges), ("storage", trial.storage)):
            try:
                yield from look()
            except CambfsError as error:
                yield broken(name, str(error), remedy_for(error))


class Trial:
    """One run. `audio` comes first, because the other checks compare with its download."""

    def __init__(self, prober: Prober, client: Client, run_id: RunId) -> None:
        self._prober = prober
        self._client = client
        self._run_id = run_id
        self._what = f"run {run_id}"
        self._download: Download | None = None

    def audio(self) -> Iterator[Finding]:
        observed = self._prober.ask(self._what, f"/tts-result/{self._run_id}")
        response = observed.response
        if response.status != 200:
            yield self._refusal(response)
            return
        redirected = "" if response.own else f" from {response.origin}, to which the API redirects"
        shown = [name for name in _SHOWN if name in response.headers]
        headers = f"it has {', '.join(shown)}" if shown else f"no {' or '.join(_SHOWN)}"
        yield ok("response", f"200{redirected}; {headers}")
        yield length(response)
        yield interim(response)
        body = self._prober.exchange.body(response, self._what, None)
        with closing(body):
            self._download = download(body)
        yield self._content(self._download, body.content_type)
        yield times(observed, self._download)

    def _content(self, found: Download, content_type: str) -> Finding:
        finding = content(found, content_type)
        if audio.signature(found.head) is not None:
            return finding
        words = response_text.first_words(found.head, hide=self._prober.key)
        return replace(finding, found=response_text.with_words(finding.found, words))

    def _refusal(self, response: Response) -> Finding:
        words = self._prober.words(response, self._what)
        text = response_text.with_words(f"{response.origin} says {response.status}", words)
        return broken("response", text, _REMEDIES.get(response.status, "try again later"))

    def ranges(self) -> Iterator[Finding]:
        if self._download is None or self._download.size < _RANGE.start + 1:
            return
        response = self._prober.ask(self._what, f"/tts-result/{self._run_id}", _RANGE).response
        if response.status not in (200, 206):
            response.raw.close()
            yield warning("ranges", f"a request with Range gets {response.status}", _REPORT)
            return
        with closing(self._prober.exchange.body(response, self._what, _RANGE)) as body:
            wanted = self._download.head[_RANGE.start : _RANGE.stop]
            if response.status == 200:
                yield ok("ranges", "ignored by the API, which sends the whole result")
            elif not _begins_with(body, wanted):
                yield broken("ranges", "the range has other bytes than the whole result", _REPORT)
            else:
                used = "with an ETag" if strong_etag(response.headers) else "but without an ETag, so they are not used"
                yield ok("ranges", f"honoured by the API, {used}")

    def storage(self) -> Iterator[Finding]:
        if self._download is None:
            return
        begun_at = time.monotonic()
        signed = self._client.sign(self._run_id)
        sign_s = time.monotonic() - begun_at
        yield ok("file_url", f"a URL at {origin_of(signed.url)} ({milliseconds(sign_s)})")
        yield life(signed)
        try:
            yield from self._stored(signed, self._download)
        except CambfsError as error:
            yield warning("storage", str(error), _NO_STORAGE)

    def _stored(self, signed: SignedUrl, download: Download) -> Iterator[Finding]:
        observed = self._prober.ask_storage(signed.url, Span(0, _HEAD_BYTES))
        response = observed.response
        if response.status not in (200, 206):
            code = response_text.storage_code(self._prober.exchange.error_content(response, "storage", _MAX_CONTENT))
            text = response_text.with_words(f"{response.origin} says {response.status}", code)
            yield warning("storage", text, _NO_STORAGE)
            return
        ranges = "ranges are honoured" if response.status == 206 else "ranges are ignored"
        with closing(self._prober.exchange.body(response, "storage", Span(0, _HEAD_BYTES))) as body:
            wanted = download.head[:_HEAD_BYTES]
            yield same(_begins_with(body, wanted), body.total, download.size, ranges)
        yield ok("storage times", _times(observed))


def _begins_with(body: HttpBody, wanted: bytes) -> bool:
    return body.peek(len(wanted), time.monotonic() + _SHORT_WAIT_S)[: len(wanted)] == wanted


def download(body: HttpBody) -> Download:
    """Raises LinkError."""
    begun_at = time.monotonic()
    size, head, tail, first_s = 0, b"", b"", 0.0
    while piece := body.read(_PIECE_BYTES):
        first_s = first_s or time.monotonic() - begun_at
        size += len(piece)
        head += piece[: _HEAD_BYTES - len(head)] if len(head) < _HEAD_BYTES else b""
        tail = (tail + piece)[-_TAIL_BYTES:]
    return Download(size, head, tail, first_s, time.monotonic() - begun_at)


def length(response: Response) -> Finding:
    try:
        framing = read_framing(response.headers)
    except ValueError as error:
        return broken("length", str(error), _REPORT)
    if framing.length is not None:
        return ok("length", f"Content-Length, {framing.length} bytes")
    if framing.chunked:
        beside = ", with a Content-Length beside them" if framing.is_odd else ""
        return ok("length", f"unknown; sent in chunks{beside}")
    return warning("length", "unknown; only the end of the connection marks the end of the audio", _REPORT)


def interim(response: Response) -> Finding:
    if response.had_interim:
        return warning("interim responses", "some came before the response; cambfs skips them", _REPORT)
    return ok("interim responses", "none")


def content(found: Download, content_type: str) -> Finding:
    kind, label = audio.signature(found.head), content_type or "no type"
    if kind is None:
        return broken("content", f"{found.size} bytes, labelled {label}, that are not audio", _REPORT)
    end = audio.end_of(found.head, found.tail, found.size)
    text = f"{kind}, labelled {label}, {found.size} bytes ({shown_size(found.size)})"
    if end is End.BROKEN:
        return broken("content", f"{text}; it is cut off, or something follows it", f"try again; {_REPORT}")
    if content_type not in _TYPES.get(kind, (content_type,)):
        return warning("content", f"{text}; the label is wrong", f"{_REPORT}: it goes by the content")
    return ok("content", f"{text}; {_ENDS[end]}")


def times(observed: Observed, found: Download) -> Finding:
    speed = shown_size(int(found.size / max(found.whole_s, 0.001)))
    first, whole = milliseconds(found.first_s), milliseconds(found.whole_s)
    return ok("times", f"{_times(observed)}, then first byte {first}, whole {whole} ({speed}/s)")


def _times(observed: Observed) -> str:
    made = observed.response.made
    secure = f"TLS {milliseconds(observed.secure_s)}, " if made and made.tls else ""
    return f"connect {milliseconds(observed.connect_s)}, {secure}response {milliseconds(observed.wait_s)}"


def life(signed: SignedUrl) -> Finding:
    if not tells_life(signed.url):
        return ok("life of the URL", f"unknown; cambfs assumes {signed.life_s:.0f} s")
    if signed.life_s < _SHORT_LIFE_S:
        return warning("life of the URL", f"{signed.life_s:.0f} s, which is short", "check the clock of this machine")
    return ok("life of the URL", f"{signed.life_s:.0f} s")


def same(is_head_same: bool, total: int | None, size: int, ranges: str) -> Finding:
    """Whether the stored object is the result, and its length is known."""
    if not is_head_same:
        return warning("storage", f"has another file than the API; {ranges}", _NO_STORAGE)
    if total is None:
        return warning("storage", f"begins with the same bytes, but does not report its length; {ranges}", _NO_STORAGE)
    if total != size:
        return warning("storage", f"has {total} bytes, the API sent {size}; {ranges}", _NO_STORAGE)
    return ok("storage", f"same first bytes and same length as the API's; {ranges}")
