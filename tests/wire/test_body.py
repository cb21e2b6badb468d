"""The wire: framing, cuts, stalls and closing, against a server that writes exactly the bytes that a test gives it."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest

from cambfs.errors import (
    BadResponse,
    BrokenBody,
    CambfsError,
    LinkError,
    NotAudio,
    ServerError,
    TimedOut,
    UnknownRun,
    Unreachable,
)
from cambfs.http.client import Client
from cambfs.remote.source import SignedUrl
from cambfs.wire import connection
from cambfs.wire.body import HttpBody
from cambfs.wire.headers import Head
from tests.wire.raw_server import CERTIFICATE, CHUNKED, FLAC, KEY, OK, RUN, WAIT_S, Server, chunk, reset, send, sized


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one connection is enough; test_pool lets them rest."""
    monkeypatch.setattr(connection, "REST_S", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, KEY, timeout_s=WAIT_S) as made:
        yield made


def rest(body: HttpBody, found: bytearray | None = None) -> bytes:
    """The rest of a body; `found` has the bytes also when the end is an error."""
    found = bytearray() if found is None else found
    while data := body.read(65536):
        found += data
    return bytes(found)


def whole(client: Client) -> bytes:
    body = client.open_stream(RUN)
    found = rest(body)
    body.close()
    return found


# Ends


def test_a_length_ends_a_body_and_the_connection_is_used_again(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC)), send(sized(FLAC[:5]))]
    assert whole(client) == FLAC
    assert whole(client) == FLAC[:5]
    assert server.connections == 1


def test_the_last_chunk_ends_a_body_and_the_connection_is_used_again(server: Server, client: Client) -> None:
    chunks = chunk(FLAC[:1]) + chunk(FLAC[1:70000]) + chunk(FLAC[70000:]) + b"0\r\nTrailer: x\r\n\r\n"
    server.scripts += [send(CHUNKED, chunks), send(sized(FLAC))]
    body = client.open_stream(RUN)
    assert (body.total, body.framed) == (None, True)
    assert rest(body) == FLAC
    assert body.read(1) == b""
    body.close()
    assert whole(client) == FLAC
    assert server.connections == 1


def test_the_end_of_the_connection_ends_a_body_that_says_nothing(server: Server, client: Client) -> None:
    server.scripts += [send(OK, b"\r\n", FLAC, keep=False)]
    body = client.open_stream(RUN)
    assert (body.total, body.framed) == (None, False)
    assert rest(body) == FLAC
    body.close()


def test_a_part_without_a_length_of_its_own_ends_where_it_said(server: Server, client: Client) -> None:
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\n\r\n"
    server.scripts += [server.stall(part, FLAC[4:10])]
    body = client.open_stream(RUN, 4, '"e"')
    assert body.framed
    assert rest(body) == FLAC[4:10]
    body.close()


def test_the_first_bytes_are_given_before_all_that_may_come_are_there(server: Server, client: Client) -> None:
    server.scripts += [server.stall(CHUNKED, chunk(FLAC[:100]))]
    body = client.open_stream(RUN)
    assert body.read(65536) == FLAC[:100]
    body.close()


def test_to_ask_for_nothing_is_a_mistake(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC))]
    body = client.open_stream(RUN)
    with pytest.raises(ValueError, match="below one byte"):
        body.read(0)
    body.close()


@pytest.mark.parametrize("size", [b"zz", b"", b"-5", b"+5", b"0x5", b"1_0", b"-0", b"5 5", b";5", b"1" * 70_000])
def test_a_connection_with_a_chunk_of_no_size_is_not_used_again(server: Server, client: Client, size: bytes) -> None:
    server.scripts += [send(CHUNKED, chunk(FLAC[:1000]) + size + b"\r\n" + bytes(9)), send(sized(FLAC))]
    body, found = client.open_stream(RUN), bytearray()
    with pytest.raises(BrokenBody):
        rest(body, found)
    body.close()
    assert found in (b"", FLAC[:1000])
    assert whole(client) == FLAC
    assert server.connections == 2


# Cuts


@pytest.mark.parametrize(
    "response",
    [
        sized(FLAC[:1000], said=1001),
        CHUNKED + chunk(FLAC[:1000]),
        CHUNKED + chunk(FLAC[:1000]) + b"7d0\r\n" + FLAC[1000:2000],
        CHUNKED + chunk(FLAC[:1000]) + b"zz\r\n",
        CHUNKED + chunk(FLAC[:1000]) + b"0",
        CHUNKED + chunk(FLAC[:1000]) + b"0000",
        CHUNKED + chunk(FLAC[:1000]) + b"000\r",
    ],
)
def test_a_framed_body_that_is_cut_is_broken_and_stays_so(server: Server, client: Client, response: bytes) -> None:
    server.scripts += [send(response, keep=False)]
    body = client.open_stream(RUN)
    found = bytearray()
    with pytest.raises(BrokenBody, match=r"^run 5: "):
        rest(body, found)
    assert FLAC.startswith(found)
    for _ in range(3):
        with pytest.raises(BrokenBody):
            body.read(9)
    body.close()


@pytest.mark.parametrize(
    "response", [sized(FLAC[:1000], said=2000), CHUNKED + chunk(FLAC[:1000]), OK + b"\r\n" + FLAC[:1000]]
)
def test_a_reset_breaks_any_body(server: Server, client: Client, response: bytes) -> None:
    read = threading.Event()
    server.scripts += [reset(response, after=read)]
    body = client.open_stream(RUN)
    missing = 1000
    while missing:
        missing -= len(body.read(missing))
    read.set()
    with pytest.raises(BrokenBody):
        rest(body)
    body.close()


def test_a_cut_before_the_first_bytes(server: Server, client: Client) -> None:
    server.scripts += [send(sized(b"", said=10), keep=False), send(CHUNKED, keep=False)]
    for _ in range(2):
        with pytest.raises(BrokenBody):
            client.open_stream(RUN)


def test_nothing_at_all_as_content(server: Server, client: Client) -> None:
    server.scripts += [send(sized(b"")), send(CHUNKED, b"0\r\n\r\n")]
    for _ in range(2):
        with pytest.raises(NotAudio):
            client.open_stream(RUN)


def test_nothing_at_all_before_the_connection_ends_proves_nothing(server: Server, client: Client) -> None:
    server.scripts += [send(OK, b"\r\n", keep=False)]
    with pytest.raises(BrokenBody):
        client.open_stream(RUN)


@pytest.mark.parametrize(
    ("response", "kind"),
    [(b"", LinkError), (b"SSH-2.0-x\r\n\r\n", BadResponse), (b"HTTP/1.1 abc\r\n\r\n", BadResponse)],
)
def test_no_answer_in_http(server: Server, client: Client, response: bytes, kind: type[CambfsError]) -> None:
    server.scripts += [send(response, keep=False)]
    with pytest.raises(CambfsError) as caught:
        client.open_stream(RUN)
    assert type(caught.value) is kind


def test_two_lengths(server: Server, client: Client) -> None:
    server.scripts += [send(OK, b"Content-Length: 4\r\nContent-Length: 9\r\n\r\n", FLAC[:9], keep=False)]
    with pytest.raises(BadResponse):
        client.open_stream(RUN)


def test_a_refused_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}", KEY) as client, pytest.raises(Unreachable, match="refuses") as caught:
        client.open_stream(RUN)
    assert caught.value.errno == errno.ECONNREFUSED


def test_a_name_that_is_not_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def unresolved(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    monkeypatch.setenv("NO_PROXY", "*")
    signed = SignedUrl("https://no-such-host.example/a?sig=s3cr3t", {}, 1)
    with Client("https://127.0.0.1", KEY) as client, pytest.raises(Unreachable, match="not resolved") as caught:
        client.open_stored(signed, 0, None)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert "s3cr3t" not in str(caught.value)


# Stalls


@pytest.fixture
def hasty(server: Server) -> Iterator[Client]:
    with Client(server.url, KEY, timeout_s=1.0) as made:
        yield made


def test_a_stalled_body_times_out_and_stays_ended(server: Server, hasty: Client) -> None:
    server.scripts += [server.stall(sized(FLAC[:1000], said=2000))]
    body = hasty.open_stream(RUN)
    with pytest.raises(TimedOut, match=r"^run 5: 127.0.0.1:[0-9]+ sent nothing more for 1 s$"):
        rest(body)
    with pytest.raises(BrokenBody):
        body.read(1)
    body.close()


@pytest.mark.parametrize("begun", [b"", OK, OK + b"Content-Length: 5\r\n\r\n"])
def test_a_stalled_beginning_times_out(server: Server, hasty: Client, begun: bytes) -> None:
    server.scripts += [server.stall(begun), server.stall()]  # the second is the client's next request
    with pytest.raises(TimedOut):
        hasty.open_stream(RUN)


def test_a_stalled_error_keeps_its_status(server: Server, hasty: Client) -> None:
    server.scripts += [server.stall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nno")]
    with pytest.raises(UnknownRun, match=r"says 404$"):
        hasty.open_stream(RUN)


def test_the_body_of_a_redirect_is_not_read(server: Server, client: Client) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 999999999\r\n\r\nx"
    server.scripts += [server.stall(head), send(sized(FLAC))]
    assert whole(client) == FLAC


def test_an_answer_that_never_ends_is_not_read_to_its_end(server: Server, client: Client) -> None:
    page = chunk(b"<p>" + b"x" * 70000)
    server.scripts += [server.stall(CHUNKED, page), server.stall(b"HTTP/1.1 500 No\r\n\r\n" + b"y" * 70000)]
    with pytest.raises(NotAudio):
        client.open_stream(RUN)
    with pytest.raises(ServerError):
        client.open_stream(RUN)


# Closing


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def closed_while_blocked(body: HttpBody) -> Exception:
    """The exception of `read` in one thread when another closes the body while it waits."""
    found: list[Exception] = []

    def read() -> None:
        try:
            rest(body)
        except Exception as error:
            found.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: body._reading and not body._ahead)
    body.close()
    reader.join(WAIT_S)
    assert not reader.is_alive()
    return found[0]


@pytest.mark.parametrize(
    "response",
    [
        sized(FLAC[:9], said=99),
        CHUNKED + chunk(FLAC[:9]),
        CHUNKED + chunk(FLAC[:9]) + b"ff\r\n" + FLAC[:9],
        OK + b"\r\n" + FLAC[:9],
    ],
)
def test_closing_ends_a_blocked_read_and_the_connection(server: Server, response: bytes) -> None:
    server.scripts += [server.stall(response), send(sized(FLAC))]
    with Client(server.url, KEY, timeout_s=3 * WAIT_S) as client:
        assert isinstance(closed_while_blocked(client.open_stream(RUN)), BrokenBody)
        assert whole(client) == FLAC
    assert server.connections == 2


def test_an_unfinished_body_takes_its_connection_along(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC)), send(sized(FLAC[:7]))]
    body = client.open_stream(RUN)
    body.close()
    body.close()
    with pytest.raises(BrokenBody, match="closed"):
        body.read(1)
    assert whole(client) == FLAC[:7]
    assert server.connections == 2


def test_a_client_that_is_closed_leaves_open_bodies_alone(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC))]
    body = client.open_stream(RUN)
    client.close()
    assert rest(body) == FLAC
    body.close()


class FakeRaw:
    """Stands for a response whose read meets the end while another thread closes: `during` runs inside the read."""

    def __init__(self, data: bytes, during: Callable[[], None]) -> None:
        self.data = data
        self.during = during
        self.events: list[str] = []

    def read1(self, amt: int) -> bytes:
        self.during()
        self.release_conn()
        data, self.data = self.data[:amt], self.data[amt:]
        return data

    def release_conn(self) -> None:
        self.events.append("release")

    def shutdown(self) -> None:
        self.events.append("shutdown")

    def close(self) -> None:
        self.events.append("close")


def fake_body(data: bytes, during: Callable[[], None]) -> tuple[HttpBody, FakeRaw]:
    raw = FakeRaw(data, during)
    head = Head(0, None, None, None, True, None, False, "", None)
    return HttpBody(raw, head, "run 5", nullcontext), raw


def test_a_connection_is_not_given_back_once_it_was_shut_down() -> None:
    body, raw = fake_body(FLAC, lambda: body.close())
    with pytest.raises(BrokenBody, match="closed"):
        body.read(9)
    assert raw.events == ["shutdown", "close"]


def test_a_connection_at_its_end_is_given_back_once() -> None:
    body, raw = fake_body(FLAC[:9], lambda: None)
    assert body.read(9) == FLAC[:9]
    body.close()
    assert raw.events == ["release", "close"]


def test_whatever_a_read_raises_after_closing_is_a_broken_body() -> None:
    def garbled() -> None:
        body.close()
        raise AttributeError("the TLS layer is gone")

    body, raw = fake_body(FLAC, garbled)
    with pytest.raises(BrokenBody, match="closed"):
        body.read(9)
    assert raw.events == ["shutdown", "close"]


def test_a_peek_gives_up_at_its_deadline() -> None:
    body, raw = fake_body(FLAC, lambda: None)
    assert body.peek(4, time.monotonic() + WAIT_S)[:4] == b"fLaC"
    with pytest.raises(TimedOut):
        body.peek(len(FLAC) * 2, time.monotonic() - 1)
    assert raw.events == ["release"]


# TLS


@pytest.fixture
def tls_server() -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with Server(tls=context) as made:
        yield made


def test_a_certificate_that_is_not_accepted(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with Client(tls_server.url, KEY) as client, pytest.raises(Unreachable, match=r"certificate .*self") as caught:
        client.open_stream(RUN)
    assert caught.value.errno == errno.EHOSTUNREACH


def test_a_server_that_does_not_speak_tls(server: Server) -> None:
    server.greeting = b"220 mail.example\r\n"
    url = server.url.replace("http:", "https:")
    with Client(url, KEY) as client, pytest.raises(Unreachable, match="TLS"):
        client.open_stream(RUN)


def test_closing_under_tls(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    tls_server.scripts += [
        tls_server.stall(sized(FLAC[:9], said=99)),
        send(sized(FLAC)),
        send(CHUNKED, chunk(FLAC), keep=False),
    ]
    with Client(tls_server.url, KEY, timeout_s=3 * WAIT_S) as client:
        assert isinstance(closed_while_blocked(client.open_stream(RUN)), BrokenBody)
        assert whole(client) == FLAC
        with pytest.raises(BrokenBody):
            whole(client)


# The first bytes


def test_the_first_bytes_of_a_slow_flac_are_not_held_back(server: Server, client: Client) -> None:
    server.scripts += [server.stall(CHUNKED, chunk(b"fLaC\0\0\0\x22"))]
    body = client.open_stream(RUN)
    assert body.read(9) == b"fLaC\0\0\0\x22"
    body.close()


def test_the_words_of_a_text_that_never_ends(server: Server, hasty: Client) -> None:
    server.scripts += [server.stall(CHUNKED, chunk(b'data: {"error": "no"}\n\n'))]
    with pytest.raises(NotAudio, match=r'data: \{"error": "no"\}$'):
        hasty.open_stream(RUN)
