"""A fuzz of responses of the API and its storage: for any response, the bytes are right or there is an error of ours.

Each example is one server for all requests, and ends with it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cambfs.cache.cache import Cache
from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, RemoteError
from cambfs.http.client import Client
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.source import Body, SignedUrl
from cambfs.runs.library import Library
from cambfs.vfs.results import Results, UrlStyle
from cambfs.vfs.tree import Tree
from tests.attacks.wire import WireServer
from tests.flac_files import make_flac
from tests.waiting import library_of, read

# An example is shown in full when it fails.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

RUN = RunId(5)
KEY = "sk-very-secret-key"
FLAC = make_flac(10_244)
SECRET = "s3cr3t-signature"
# Responses that never come are not among the examples, so only a hang by mistake takes this long.
TIMEOUT_S = 5.0
QUICK = settings(max_examples=150, deadline=None, phases=[Phase.generate])

# Made when drawn: hypothesis prints what a strategy holds.
LONG = st.integers(60_000, 70_000).map(lambda length: "x" * length)
TEXTS = st.text(max_size=40) | st.sampled_from(["\x1b[31m", "\n", "\u202e", "\ud800", KEY]) | LONG
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 1e308])
SCHEMES = st.sampled_from(["http", "https", "file", "ftp", "javascript", "HTTP", "gopher", "", "unix"])
HOSTS = st.sampled_from(
    ["127.0.0.1:1", "localhost:1", "0x7f000001:1", "[::1]:1", "0:1", "127.0.0.1:99999", "127.0.0.1:-1", "a@127.0.0.1:1",
     "", "[", "a\\@b", "..", "xn--", "169.254.169.254", "240.0.0.1", "\x00", "127.0.0.1:1:1", "%31"]
)  # fmt: skip
URLS = st.builds("{}://{}/{}".format, SCHEMES, HOSTS, TEXTS) | TEXTS
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS | URLS
KEYS = st.sampled_from(["output_url", "detail", "error", "message", "msg", "loc", "5", "6"]) | st.text(max_size=5)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(KEYS, inner, max_size=6))


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


DEEP = st.sampled_from([b"[", b'{"a":', b"<a>"]).map(lambda one: one * 200_000)
PAGES = st.sampled_from([b"", b"<html>", b"fLaC", b"null", b"\xef\xbb\xbf{}"])
BODIES = JSON.map(encoded) | st.binary(max_size=300) | PAGES | DEEP | st.builds(lambda: FLAC)
DATES = st.sampled_from(
    ["Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1601 00:00:00 -2400", "Tue, 99 Foo",
     "Thu, 01 Jan 1970 00:00:00 +99999999999", "Sat, 01 Jan 99999999 00:00:00 GMT", "Wed, 31 Dec 1969 23:59:59 GMT"]
)  # fmt: skip
LATIN = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=40)
VALUES = LATIN | DATES | LONG | st.integers().map(str) | st.sampled_from([KEY, '"e"', 'W/"e"', '"', "bytes", "nan"])
NAMES = st.sampled_from(
    [
        "ETag", "Last-Modified", "Retry-After", "Content-Type", "Date", "Accept-Ranges", "Set-Cookie", "Connection",
        "Location", "Content-Encoding", "Content-Range", "Keep-Alive", "Upgrade", "Link", "X", " X", "X Y", "",
    ]
)  # fmt: skip
RANGES = st.builds("bytes {}-{}/{}".format, *3 * [st.integers(-2, len(FLAC) + 2) | st.sampled_from(["*", 10**17])])
HEADERS = st.lists(st.tuples(NAMES, VALUES) | st.tuples(st.just("Content-Range"), RANGES), max_size=6)
STATUSES = st.sampled_from(
    [
        "200 OK", "206 Partial Content", "204 No", "301 M", "302 F", "307 T", "304 N", "400 B", "401 U", "403 F",
        "404 N", "408 T", "416 R", "422 U", "429 T", "500 E", "503 S", "999 X", "103 E", "101 S", "-1 X", "2000 X",
        "abc", "", "200",
    ]
)  # fmt: skip
FRAMINGS = st.sampled_from(
    [
        "length", "chunked", "close", "both", "long", "short", "-1", "huge", "twice", "differ", "junk", "hex", "cut",
        "zip",
    ]
)  # fmt: skip


def framed(how: str, body: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """The headers that say how long the body is, and the body as it goes over the wire."""
    size, length, transfer = len(body), "Content-Length", ("Transfer-Encoding", "chunked")
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body) if body else b"0\r\n\r\n"
    return {
        "length": ([(length, str(size))], body),
        "chunked": ([transfer], chunks),
        "close": ([], body),
        "both": ([transfer, (length, "1")], chunks),
        "long": ([(length, str(size + 1))], body),
        "short": ([(length, str(size // 2))], body),
        "-1": ([(length, "-1")], body),
        "huge": ([(length, "9" * 18)], body),
        "twice": ([(length, str(size)), (length, str(size))], body),
        "differ": ([(length, str(size)), (length, "1")], body),
        "junk": ([(length, "1_0 "), ("Transfer-Encoding", "x")], body),
        "hex": ([transfer], b"-" + chunks),
        "cut": ([transfer], chunks[: -(size // 2) - 1]),
        "zip": ([(length, str(size)), ("Transfer-Encoding", "gzip, chunked")], body),
    }[how]


@st.composite
def answers(draw: st.DrawFn, bodies: st.SearchStrategy[bytes] = BODIES) -> bytes:
    framing, content = framed(draw(FRAMINGS), draw(bodies))
    lines = [f"{name}: {value}" for name, value in [*draw(HEADERS), *framing]]
    return "\r\n".join([f"HTTP/1.1 {draw(STATUSES)}", *lines, "", ""]).encode("latin-1", "replace") + content


ANSWERS = answers() | st.binary(max_size=200)


def check(error: CambfsError) -> None:
    text = str(error)
    assert text.isprintable(), text
    assert len(text) < 1000
    assert KEY not in text
    assert SECRET not in text
    if isinstance(error, RemoteError):
        assert error.retry_after_s is None or error.retry_after_s >= 0


def content(body: Body) -> bytes:
    found = b""
    while data := body.read(4096):
        found += data
    return found


def check_body(body: Body, start: int) -> bytes:
    """The facts of a body; returns its content."""
    assert body.start in (0, start)
    assert body.modified_s is None or 0 <= body.modified_s < 2**32
    assert re.fullmatch(r"[!-~]{0,130}", body.content_type)
    assert KEY not in body.content_type
    try:
        found = content(body)
    except CambfsError as error:
        check(error)
        return b""
    finally:
        body.close()
    assert body.total is None or body.start + len(found) == body.total or start
    return found


# One request


@QUICK
@given(how=FRAMINGS, status=st.sampled_from(["200 OK", "206 P"]), headers=HEADERS, start=st.sampled_from([0, 7]))
def test_a_stream_gives_the_bytes_or_an_error(
    how: str, status: str, headers: list[tuple[str, str]], start: int
) -> None:
    framing, body = framed(how, FLAC)
    lines = [f"{name}: {value}" for name, value in [*headers, *framing]]
    response = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body
    with WireServer(lambda *_: response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        try:
            found = check_body(client.open_stream(RUN, start, '"e"' if start else None), start)
        except CambfsError as error:
            check(error)
            return
    # A short Content-Length cannot be recognised, so it is the only end of its own; a part may be any.
    wanted = FLAC[: len(FLAC) // 2] if how == "short" else FLAC
    assert found in (b"", wanted) or status == "206 P"


@QUICK
@given(response=ANSWERS, start=st.integers(0, 10))
def test_any_answer_to_a_stream_is_a_body_or_an_error(response: bytes, start: int) -> None:
    with WireServer(lambda *_: response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        try:
            check_body(client.open_stream(RUN, start, '"e"'), start)
        except CambfsError as error:
            check(error)


def check_signed(signed: SignedUrl) -> None:
    assert urlsplit(signed.url).scheme.lower() in ("http", "https")
    assert signed.url.isprintable()
    assert "@" not in urlsplit(signed.url).netloc
    assert 0 <= signed.life_s <= 7 * 86400
    assert KEY not in signed.url
    for style in UrlStyle:
        text = style.text(signed.response)
        assert len(text) < 130_000
        assert text.decode().replace("\r", "").replace("\n", "").isprintable()
        assert text.count(b"\n") == (2 if style is UrlStyle.SHORTCUT else 1)
        assert KEY not in text.decode()
    assert json.loads(UrlStyle.JSON.text(signed.response))["output_url"] == signed.url


def plainly(value: Any) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + encoded(value)


SIGNED = st.dictionaries(KEYS, JSON, max_size=4).flatmap(lambda more: URLS.map(lambda url: {**more, "output_url": url}))
BULK = st.dictionaries(st.sampled_from(["5", "6", "7", "x"]), JSON | SIGNED | URLS, max_size=4)


@QUICK
@given(response=ANSWERS | answers(SIGNED.map(encoded)) | SIGNED.map(plainly))
def test_any_answer_to_a_file_url_is_one_or_an_error(response: bytes) -> None:
    with WireServer(lambda *_: response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        try:
            check_signed(client.sign(RUN))
        except CambfsError as error:
            check(error)


@QUICK
@given(response=ANSWERS | BULK.map(plainly))
def test_any_answer_to_a_bulk_call_is_one_or_an_error(response: bytes) -> None:
    with WireServer(lambda *_: response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        try:
            found: Mapping[RunId, SignedUrl] = client.sign_many([RUN, RunId(6)])
        except CambfsError as error:
            check(error)
            return
    assert set(found) <= {RUN, RunId(6)}
    for signed in found.values():
        check_signed(signed)


@QUICK
@given(response=ANSWERS | answers(st.builds(lambda: FLAC[3:9])), stop=st.integers(4, 12))
def test_any_answer_of_a_storage_is_the_part_or_an_error(response: bytes, stop: int) -> None:
    with WireServer(lambda *_: response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        url = f"{server.url}/a.flac?X-Amz-Signature={SECRET}"
        try:
            check_body(client.open_stored(SignedUrl(url, {"output_url": url}, 300), 3, stop), 3)
        except CambfsError as error:
            check(error)
    assert KEY.encode() not in b"".join(server.requests)


# A whole library


def signed_at(server: WireServer) -> bytes:
    content = encoded({"output_url": f"{server.url}/stored?X-Amz-Signature={SECRET}"})
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content


def read_all(library: Library) -> bytes:
    deadline = Deadline(TIMEOUT_S)
    handle = library.open(RUN, deadline)
    try:
        found = b""
        while piece := handle.read(len(found), 4096, deadline):
            found += piece
        assert handle.size(deadline) == len(found)
        return found
    finally:
        handle.close()


STORED = st.builds(lambda: FLAC[:4096])
HONEST = st.sampled_from(["length", "chunked", "both"])
# A header that says that the audio is coded or elsewhere is not honest; nor is one beyond the limits, or with a NUL.
_HARMLESS = ("ETag", "Last-Modified", "Date", "X", "Link", "Content-Type", "Set-Cookie")
HARMLESS = HEADERS.map(
    lambda headers: [h for h in headers if h[0] in _HARMLESS and len(h[1]) < 2000 and "\0" not in h[1]]
)


@settings(QUICK, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(how=HONEST, headers=HARMLESS, storage=ANSWERS | answers(STORED), sign=st.none() | ANSWERS)
def test_whatever_storage_says_an_honest_stream_is_read_right(
    caplog: pytest.LogCaptureFixture, how: str, headers: list[tuple[str, str]], storage: bytes, sign: bytes | None
) -> None:
    framing, body = framed(how, FLAC)
    lines = [f"{name}: {value}" for name, value in [*headers, *framing]]
    stream = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode("latin-1") + body

    def response(path: str, _headers: str) -> bytes:
        if path.startswith("/stored"):
            return storage
        return (sign or signed_at(server)) if "file_url" in path else stream

    with WireServer(response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        library = library_of(client, Cache(None, 10**6), timeout_s=TIMEOUT_S)
        try:
            assert read_all(library) == FLAC
            info: RunInfo | None = library.info(RUN)
            assert info is not None
            assert info.size == len(FLAC)
            assert 0 <= info.mtime_ns < 2**32 * 10**9
        finally:
            library.close()
    check_log(caplog)


@settings(QUICK, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=ANSWERS | answers(st.builds(lambda: FLAC)), storage=ANSWERS | answers(STORED), sign=st.none() | ANSWERS)
def test_whatever_is_answered_the_tree_gives_a_result_or_an_error(
    caplog: pytest.LogCaptureFixture, stream: bytes, storage: bytes, sign: bytes | None
) -> None:
    def response(path: str, _headers: str) -> bytes:
        if path.startswith("/stored"):
            return storage
        return (sign or signed_at(server)) if "file_url" in path else stream

    with WireServer(response) as server, Client(server.url, KEY, TIMEOUT_S) as client:
        # So short that nothing is requested again.
        library = library_of(client, Cache(None, 10**6), timeout_s=0.1)
        tree = Tree(Results(library, UrlStyle.JSON), {})
        try:
            for path in ("/5.flac", "/5.url"):
                look(tree, path)
        finally:
            library.close()
    check_log(caplog)


def look(tree: Tree, path: str) -> None:
    deadline = Deadline(TIMEOUT_S)
    try:
        opened = tree.open(path, deadline)
    except CambfsError as error:
        check(error)
        return
    try:
        size = tree.attributes(path, deadline, is_lookup_possible=False).size
        assert len(read(opened, 0, size + 100, deadline)) == size
    except CambfsError as error:
        check(error)
    finally:
        opened.close()


def check_log(caplog: pytest.LogCaptureFixture) -> None:
    assert not [record for record in caplog.records if record.exc_info and record.levelno >= logging.ERROR], caplog.text
    caplog.clear()
