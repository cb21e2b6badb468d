"""Servers that try to hold a thread, fill the memory, learn the key, or reach this machine's neighbours."""

from __future__ import annotations

import json
import logging
import re
import socket
import traceback
from collections.abc import Callable, Iterator

import pytest
import responses

from cambfs.errors import BadResponse, CambfsError, KeyRefused, LinkError, TimedOut, UnknownRun
from cambfs.http.client import Client
from cambfs.names import RunId
from cambfs.vfs.results import UrlStyle
from tests.attacks.wire import WAIT_S, WireServer, chunked, sized

RUN = RunId(5)
KEY = "sk-very-secret-key"
SHORT_S = 0.3
FLAC = b"fLaC" + bytes(range(100))
OK = b"HTTP/1.1 200 OK\r\n"


def drained(client: Client) -> bytes:
    body = client.open_stream(RUN)
    found = b""
    while data := body.read(65536):
        found += data
    body.close()
    return found


# A thread that is held. Each sends something all the time, so a socket's timeout never comes.


def endless(server: WireServer, first: bytes, again: bytes, pause_s: float = 0.01) -> Iterator[bytes]:
    yield first
    while not server.over.wait(pause_s):
        yield again


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b"H"),
        (OK, b"X"),
        (OK, b"A: b\r\n"),
        (b"HTTP/1.1 100 Continue\r\n", b"A: b\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4;", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nfLaC\r\n0\r\n", b"T: x\r\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nfLaC\r\n0\r\n", b"x"),
    ],
    ids=["status", "header", "headers", "interim", "chunk-size", "extension", "trailers", "trailer"],
)
def test_what_trickles_in_for_ever_ends_with_the_timeout(first: bytes, again: bytes) -> None:
    with WireServer(lambda *_: endless(server, first, again)) as server, Client(server.url, KEY, SHORT_S) as client:
        with pytest.raises(LinkError, match="run 5") as caught:
            drained(client)
        assert isinstance(caught.value, TimedOut)


def test_a_body_that_is_slow_but_comes_is_read_to_its_end() -> None:
    def slow() -> Iterator[bytes]:
        yield sized(FLAC)[: -len(FLAC)]
        for byte in FLAC:
            server.over.wait(timeout_s / 50)
            yield bytes([byte])

    timeout_s = 2.0  # for each of more than 100 bytes
    with WireServer(lambda *_: slow()) as server, Client(server.url, KEY, timeout_s) as client:
        assert drained(client) == FLAC


# Memory


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"x" * 200_000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % i for i in range(1000)),
        b"Content-Length: " + b"9" * 60_000 + b"\r\n",
    ],
)
def test_heads_that_are_too_large(head: bytes) -> None:
    response = OK + head + b"\r\n"
    with (
        WireServer(lambda *_: response) as server,
        Client(server.url, KEY, WAIT_S) as client,
        pytest.raises(BadResponse),
    ):
        client.open_stream(RUN)


@pytest.mark.parametrize("line", ["X Y: z", "no header", "Content-Length : 5", "\xff: x"])
def test_a_line_that_is_no_header_does_not_hide_those_after_it(line: str) -> None:
    """Without them the size of the first chunk would be the first bytes of the audio."""
    response = chunked(FLAC).replace(b"Transfer", line.encode("latin-1") + b"\r\nTransfer", 1)
    with (
        WireServer(lambda *_: response) as server,
        Client(server.url, KEY, WAIT_S) as client,
        pytest.raises(BadResponse),
    ):
        drained(client)


def sent_until_closed(server: WireServer, first: bytes, sent: list[int]) -> Iterator[bytes]:
    yield first
    while not server.over.is_set():
        sent[0] += 65536
        yield b" " * 65536


@pytest.mark.parametrize("status", ["200 OK", "500 No", "404 No", "302 Found\r\nLocation: /x"])
def test_of_a_json_answer_only_so_much_is_read(status: str) -> None:
    sent = [0]
    first = f"HTTP/1.1 {status}\r\n\r\n{{".encode()
    server = WireServer(lambda *_: sent_until_closed(server, first, sent))
    with server, Client(server.url, KEY, WAIT_S) as client, pytest.raises(CambfsError):
        client.sign(RUN)
    # Includes the bytes in socket buffers.
    assert sent[0] / len(server.requests) < 16 * 2**20


URL = "https://storage.example/a.flac?X-Amz-Signature=s3cr3t"


@pytest.mark.parametrize(
    "response",
    [
        f'{{"output_url": "{URL}", "more": "{"x" * 500_000}"}}',
        f'{{"output_url": "{URL}", "more": {"[" * 500}{"]" * 500}}}',
        f'{{"output_url": "{URL}", "more": {"[" * 50}{"]" * 50}}}',
        f'{{"output_url": "{URL}", "more": 1e999}}',
        f'{{"output_url": "{URL}", "more": "{KEY}"}}',
    ],
)
def test_what_cannot_be_shown_beside_the_url_is_left_out(response: str) -> None:
    with responses.RequestsMock() as api, Client("https://client.camb.ai", KEY) as client:
        api.get("https://client.camb.ai/tts-result/5", response)
        assert client.sign(RUN).response == {"output_url": URL}


@pytest.mark.parametrize(
    "response",
    [
        "[" * 1_000_000,
        '{"output_url": ' + "[" * 1_000_000,
        '{"output_url": ' * 100_000,
        '{"output_url": "https://storage.example/' + "x" * 100_000 + '"}',
        f'{{"output_url": "https://storage.example/?key={KEY}"}}',
        f'{{"output_url": "https://storage.example/?key={KEY.replace("-", "%2D")}"}}',
        '{"output_url": "https://storage.example/", "n": ' + "9" * 5000 + "}",
    ],
)
def test_answers_without_a_usable_url(response: str) -> None:
    with responses.RequestsMock() as api, Client("https://client.camb.ai", KEY) as client:
        api.get("https://client.camb.ai/tts-result/5", response)
        with pytest.raises(BadResponse, match="run 5") as caught:
            client.sign(RUN)
    assert len(str(caught.value)) < 400
    assert KEY not in str(caught.value)


HOSTILE = {"output_url": URL, "\x1b]0;x\x07": "\x9b31m\x7f\u202e\u2028\ud800\n"}


@pytest.mark.parametrize("style", list(UrlStyle))
def test_a_url_file_has_nothing_that_a_terminal_obeys(style: UrlStyle) -> None:
    with responses.RequestsMock() as api, Client("https://client.camb.ai", KEY) as client:
        api.get("https://client.camb.ai/tts-result/5", json.dumps(HOSTILE))
        text = style.text(client.sign(RUN).response)
    assert re.fullmatch(rb"[\x20-\x7e\r\n]*", text)
    if style is UrlStyle.JSON:
        assert text.count(b"\n") == 1
        assert json.loads(text) == HOSTILE


# The key in the traces of a failure


def unanswered() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


BREAKING: list[Callable[[str, str], bytes]] = [
    lambda *_: b"",
    lambda *_: b"SSH-2.0-x\r\n\r\n",
    lambda *_: OK + b"\x00 \xff\r\n: \r\n\r\n",
    lambda *_: sized(FLAC)[:-1],
    lambda *_: chunked(FLAC)[:-9],
    lambda *_: sized(KEY.encode(), "401 No"),
    lambda *_: sized(KEY.encode(), "500 No"),
    lambda *_: sized(b"", "302 Found", "Location: https://\x1b[31m"),
    lambda *_: sized(b"<html>no</html>"),
]
ECHOING: list[Callable[[str, str], bytes]] = [
    lambda *_: sized(b"", "302 Found", f"Location: http://127.0.0.2/?{KEY}"),
    lambda *_: sized(f"<html>{KEY}</html>".encode()),
    lambda *_: sized(json.dumps({"detail": [{"loc": [KEY], "msg": KEY}]}).encode(), "422 No"),
    lambda *_: sized(FLAC, "200 OK", f"Content-Encoding: {KEY}"),
]


def with_locals(error: BaseException | None) -> str:
    """All that a debugging tool would print, including exceptions hidden behind `from None`."""
    text, seen = "", set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text += "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format(chain=False))
        text += repr(error) + repr(error.args)
        error = error.__cause__ or error.__context__
    return text


@pytest.mark.parametrize("response", BREAKING)
def test_the_key_is_not_in_a_traceback_with_locals(
    response: Callable[[str, str], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        WireServer(response) as server,
        Client(server.url, KEY, WAIT_S) as client,
        pytest.raises(CambfsError) as caught,
    ):
        drained(client)
    assert KEY not in with_locals(caught.value)
    assert KEY not in caplog.text
    assert KEY in server.requests[0].decode()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("response", ECHOING)
def test_the_key_is_not_in_words_that_repeat_it(response: Callable[[str, str], bytes]) -> None:
    with (
        WireServer(response) as server,
        Client(server.url, KEY, WAIT_S) as client,
        pytest.raises(CambfsError) as caught,
    ):
        drained(client)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "base", ["http://127.0.0.1:1", "https://127.0.0.1:1", unanswered()], ids=["http", "https", "unanswered"]
)
def test_the_key_is_not_in_a_traceback_without_an_answer(base: str) -> None:
    with Client(base, KEY, WAIT_S) as client, pytest.raises(LinkError) as caught:
        drained(client)
    assert KEY not in with_locals(caught.value)


def test_the_key_is_in_no_repr() -> None:
    with Client("https://client.camb.ai", KEY) as client:
        shown = (
            repr(client) + repr(vars(client)) + repr(vars(client._exchange)) + repr(vars(client._exchange._transport))
        )
    assert KEY not in shown


# Proxies, and words


def test_a_proxy_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It resolves the names, so a target behind it is judged by its spelling only."""
    response = b"HTTP/1.1 502 I look no further\r\n\r\n"
    with WireServer(lambda *_: response) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with Client("https://client.camb.ai", KEY, WAIT_S) as client, pytest.raises(LinkError, match="proxy"):
            client.open_stream(RUN)
    assert proxy.requests[0].startswith(b"CONNECT client.camb.ai:443")
    assert KEY not in str(proxy.requests)


def test_a_key_that_is_refused_says_so_in_one_line() -> None:
    words = sized(json.dumps({"error": f"bad key {KEY}\n\x1b[31m\u202e" * 10}).encode(), "401 No")
    with WireServer(lambda *_: words) as server, Client(server.url, KEY) as client, pytest.raises(KeyRefused) as caught:
        client.check_key()
    assert str(caught.value).isprintable()
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("words", ["\x1b[" * 30_000, "<script" * 9000, "a" * 60_000, "a://" * 15_000, "<" * 60_000])
def test_words_on_which_a_careless_pattern_takes_minutes(words: str) -> None:
    """The limit is the suite's."""
    response = sized(words.encode(), "404 No")
    with WireServer(lambda *_: response) as server, Client(server.url, KEY) as client, pytest.raises(UnknownRun):
        client.sign(RUN)
