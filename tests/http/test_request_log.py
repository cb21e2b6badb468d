"""The log line of each request, and texts that it must not hold."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from cambfs.errors import LinkError, RemoteError
from cambfs.http.client import Client
from cambfs.names import RunId
from cambfs.remote.source import Body, SignedUrl
from cambfs.wire import connection
from tests.wire.raw_server import FLAC, KEY, OK, RUN, WAIT_S, Server, send, sized

NUMBER = re.compile(r"(?<=after )\d+(?= ms)|(?<=bytes in )\d+(?= ms)|(?<=127\.0\.0\.1:)\d+")


@pytest.fixture(autouse=True)
def _debug(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG, "cambfs.http.request_log")
    monkeypatch.setattr(connection, "REST_S", 0.0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(f"{server.url}/apis", KEY, timeout_s=WAIT_S) as made:
        yield made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """With # for each port and time."""
    return [NUMBER.sub("#", line) for line in caplog.messages]


def drain(body: Body) -> None:
    while body.read(65536):
        pass
    body.close()


def test_a_line_a_request_when_its_answer_has_ended(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.scripts += [send(sized(FLAC)), send(sized(FLAC)), send(sized(b'{"detail": "no"}').replace(b"200", b"400"))]
    first = client.open_stream(RUN)
    assert lines(caplog) == []
    drain(first)
    drain(client.open_stream(RunId(6)))
    with pytest.raises(RemoteError):
        client.sign(RunId(7))

    bytes_ = len(FLAC)
    assert lines(caplog) == [
        f"GET 127.0.0.1:#/apis/tts-result/5: 200 after # ms, {bytes_} bytes in # ms, new connection, run 5",
        f"GET 127.0.0.1:#/apis/tts-result/6: 200 after # ms, {bytes_} bytes in # ms, reused connection, run 6",
        "GET 127.0.0.1:#/apis/tts-result/7: 400 after # ms, 16 bytes in # ms, reused connection, run 7",
    ]


def test_of_storage_no_more_than_the_host_and_the_name(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.scripts += [send(sized(FLAC))] * 2
    url = f"{server.url}/a-secret/bucket/audio_5.flac?X-Amz-Signature=s3cr3t#s3cr3t"
    drain(client.open_stored(SignedUrl(url, {"output_url": url}, 300, RUN), 0, None))
    url = f"{server.url}/{KEY}?x=s3cr3t"
    drain(client.open_stored(SignedUrl(url, {"output_url": url}, 300), 0, None))

    told = f"200 after # ms, {len(FLAC)} bytes in # ms"
    assert lines(caplog) == [
        f"GET 127.0.0.1:#/…/audio_5.flac: {told}, new connection, run 5",
        f"GET 127.0.0.1:#/…: {told}, reused connection, storage",
    ]


def test_each_hop_of_a_redirect_and_the_bulk_question(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    to = f"Location: {server.url.replace('127.0.0.1', 'localhost')}/a/b.flac?token=s3cr3t\r\n".encode()
    server.scripts += [
        send(b"HTTP/1.1 302 Found\r\n" + to + b"Content-Length: 0\r\n\r\n"),
        send(sized(FLAC)),
        send(sized(b"{}")),
    ]
    drain(client.open_stream(RUN))
    client.sign_many([RunId(1), RunId(2)])

    redirect, target, bulk = lines(caplog)
    assert redirect.startswith("GET 127.0.0.1:#/apis/tts-result/5: 302 after # ms, 0 bytes")
    assert re.match(r"GET localhost:\d+/…/b\.flac: 200 after", target)
    assert bulk.startswith("POST 127.0.0.1:#/apis/tts-results: 200 after # ms, 2 bytes")
    assert bulk.endswith(", runs 1, 2")
    assert "s3cr3t" not in caplog.text


def test_a_body_that_is_left_says_how_much_came(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    server.scripts += [server.stall(sized(FLAC[:9], said=99))]
    body = client.open_stream(RUN)
    body.close()
    body.close()

    assert lines(caplog) == [
        "GET 127.0.0.1:#/apis/tts-result/5: 200 after # ms, 9 bytes in # ms, new connection, run 5"
    ]


def test_no_answer(server: Server, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    server.scripts += [send(keep=False)]
    with pytest.raises(LinkError):
        client.open_stream(RUN)

    (line,) = lines(caplog)
    assert line.startswith("GET 127.0.0.1:#/apis/tts-result/5: no response after # ms: run 5: 127.0.0.1:# closed the")


def test_the_question_after_a_silence(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.scripts += [server.stall(), send(sized(b"{}").replace(b"200 OK", b"404 Not Found"))]
    with Client(f"{server.url}/apis", KEY, timeout_s=0.3) as client, pytest.raises(LinkError):
        client.sign(RUN)
    assert len(lines(caplog)) == 2
    assert lines(caplog)[1].endswith(
        "/apis/tts-result/9223372036854775807: 404 after # ms, 0 bytes in # ms, new connection, the API"
    )


def test_the_key_in_the_way_is_masked(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.scripts += [send(OK + b"Content-Length: 4\r\n\r\nfLaC" + bytes(40), keep=False)]
    with Client(f"{server.url}/{KEY}", KEY, timeout_s=WAIT_S) as client, pytest.raises(LinkError):
        client.open_stream(RUN)

    assert caplog.messages
    assert KEY not in caplog.text
