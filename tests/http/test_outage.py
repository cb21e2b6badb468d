"""The client with an API, or a storage, that does not respond: which requests are still made."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from cambfs.errors import ConnectTimedOut, LinkError, TimedOut, UnknownRun, Unreachable
from cambfs.http.client import Client
from cambfs.names import RunId
from cambfs.remote.source import SignedUrl
from tests.fakes import LIMIT_S
from tests.waiting import eventually, in_thread
from tests.wire.raw_server import FLAC, KEY, RUN, Server, send, sized

TIMEOUT_S = 0.3
UNKNOWN = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
QUESTION = b"/tts-result/9223372036854775807?output_type=file_url"


@pytest.fixture
def asked() -> list[bytes]:
    return []


@pytest.fixture
def server(asked: list[bytes]) -> Iterator[Server]:
    with Server() as made:
        made.on_request = asked.append
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, KEY, timeout_s=TIMEOUT_S) as made:
        yield made


@pytest.fixture
def closed_url() -> Iterator[str]:
    """The URL of a port at which no process listens, and that no other process can take."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_silence_is_paid_for_once(server: Server, client: Client, asked: list[bytes]) -> None:
    server.scripts += [server.stall(), server.stall()]
    with pytest.raises(TimedOut):
        client.sign(RUN)
    assert asked == [b"/tts-result/5?output_type=file_url", QUESTION]

    for call in (client.sign, client.open_stream):
        with pytest.raises(TimedOut, match="tried again in") as caught:
            call(RunId(6))
        assert caught.value.down_for_s
    with pytest.raises(TimedOut, match="runs 6, 7: "):
        client.sign_many([RunId(6), RunId(7)])
    assert len(asked) == 2


def test_one_result_that_is_stuck_holds_no_other_back(server: Server, client: Client, asked: list[bytes]) -> None:
    for _ in range(3):
        server.scripts += [server.stall(), send(UNKNOWN), send(UNKNOWN)]
        with pytest.raises(TimedOut):
            client.open_stream(RUN)
        with pytest.raises(UnknownRun):
            client.sign(RunId(6))
    assert asked.count(QUESTION) == 3


def test_silence_says_nothing_while_another_body_comes(server: Server, client: Client, asked: list[bytes]) -> None:
    long = FLAC + bytes(300_000)
    server.scripts += [send(sized(long)), server.stall()]
    body = client.open_stream(RUN)
    silent = in_thread(lambda: client.sign(RunId(6)))
    eventually(lambda: len(asked) == 2, "it is asked")
    read = 0
    while data := body.read(10_000):
        read += len(data)
    assert read == len(long)
    with pytest.raises(TimedOut):
        silent.result(LIMIT_S)
    assert QUESTION not in asked


def test_an_api_that_answers_questions_and_no_more_is_down(server: Server, client: Client, asked: list[bytes]) -> None:
    server.scripts += [server.stall(), send(UNKNOWN), server.stall()]
    server.scripts += [server.stall(), send(UNKNOWN)] * 2 + [server.stall()]
    for run_id in (5, 5, 6, 7, 8):
        with pytest.raises(TimedOut, match=r"in time$"):
            client.sign(RunId(run_id))
    assert asked.count(QUESTION) == 3
    with pytest.raises(TimedOut, match="tried again in"):
        client.sign(RunId(9))
    assert len(asked) == 8


def test_a_refusal_is_found_out_once(closed_url: str) -> None:
    with Client(closed_url, KEY, timeout_s=TIMEOUT_S) as client:
        with pytest.raises(Unreachable) as first:
            client.sign(RUN)
        with pytest.raises(Unreachable, match=r"run 6: .* refuses the connection; it is tried again in") as second:
            client.sign(RunId(6))
        assert first.value.errno == second.value.errno
        assert first.value.down_for_s
        (state,) = client.breakers.states()
    assert (state.origin, state.is_open) == (closed_url, True)
    assert state.reason == f"{closed_url.removeprefix('http://')} refuses the connection"


def test_a_storage_that_is_down_leaves_the_api_alone(server: Server, client: Client, closed_url: str) -> None:
    server.scripts += [send(UNKNOWN), send(sized(FLAC))]
    signed = SignedUrl(f"{closed_url}/a?signature=secret", {}, 300.0)
    for _ in range(2):
        with pytest.raises(Unreachable) as caught:
            client.open_stored(signed, 0, 10)
    assert "tried again" in str(caught.value)
    assert "secret" not in str(caught.value)

    with pytest.raises(UnknownRun):
        client.sign(RUN)
    client.open_stream(RUN).close()


def test_an_api_that_is_down_leaves_storage_alone(server: Server, closed_url: str) -> None:
    server.scripts += [send(sized(FLAC))]
    with Client(closed_url, KEY, timeout_s=TIMEOUT_S) as client:
        with pytest.raises(Unreachable):
            client.sign(RUN)
        client.open_stored(SignedUrl(f"{server.url}/a", {}, 300.0), 0, len(FLAC)).close()


def test_a_look_makes_no_request(server: Server, client: Client, asked: list[bytes]) -> None:
    client.look(RUN)
    eventually(lambda: server.connections == 1, "it connects")
    assert asked == []


SIGNED = sized(b'{"output_url": "https://storage.example/5"}')


def test_no_look_at_an_api_that_has_just_answered(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts.append(send(SIGNED))
    client.sign(RUN)
    connect = Mock(side_effect=TimeoutError)
    monkeypatch.setattr("cambfs.wire.addresses.Addresses.connect", connect)
    client.look(RUN)
    connect.assert_not_called()
    monkeypatch.setattr("cambfs.http.client._STILL_THERE_S", 0.0)
    with pytest.raises(ConnectTimedOut):
        client.look(RUN)


def test_a_look_at_an_api_that_has_closed_its_connection() -> None:
    server = Server()
    with Client(server.url, KEY, timeout_s=TIMEOUT_S) as client:
        with server:
            server.scripts.append(send(SIGNED))
            client.sign(RUN)
        with pytest.raises(Unreachable):
            client.look(RUN)


def test_a_look_at_nothing(closed_url: str) -> None:
    with Client(closed_url, KEY, timeout_s=TIMEOUT_S) as client:
        for _ in range(2):
            with pytest.raises(Unreachable):
                client.look(RUN)
        assert client.breakers.states()[0].is_open


def test_a_look_that_makes_no_connection_in_time(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cambfs.wire.addresses.Addresses.connect", Mock(side_effect=TimeoutError))
    with pytest.raises(ConnectTimedOut, match="does not respond in time"):
        client.look(RUN)
    assert client.breakers.states()[0].is_open


def test_a_look_at_an_api_that_was_down_asks_it(
    server: Server, client: Client, asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts += [server.stall(), server.stall(), send(UNKNOWN)]
    monkeypatch.setattr("cambfs.hosts.breaker.FIRST_PAUSE_S", 0.0)
    with pytest.raises(LinkError):
        client.sign(RUN)
    client.look(RunId(6))
    assert asked[1:] == [QUESTION, b"/tts-result/6?output_type=file_url"]
    assert not client.breakers.states()[0].is_open
