"""Connections to storage that are made while the API signs a URL."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any
from unittest.mock import Mock

import pytest

from cambfs.errors import Unreachable
from cambfs.hosts.breaker import Breaker
from cambfs.http import exchange
from cambfs.http.client import Client
from cambfs.remote.source import SignedUrl
from cambfs.wire.addresses import Addresses
from cambfs.wire.coming import Coming
from tests.waiting import eventually, in_thread
from tests.wire.raw_server import CERTIFICATE, FLAC, KEY, RUN, WAIT_S, Server, send, sized


@pytest.fixture
def storage() -> Iterator[Server]:
    with Server() as made:
        yield made


@pytest.fixture
def api(storage: Server) -> Iterator[Server]:
    with Server() as made:
        content = b'{"output_url": "%s/x"}' % storage.url.encode()
        made.scripts += [send(sized(content))] * 9
        yield made


@pytest.fixture
def client(api: Server, storage: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """It has been to storage, which has closed the connection."""
    monkeypatch.setattr(exchange, "_CONNECTED_S", 0.0)
    with Client(api.url, KEY, timeout_s=WAIT_S) as made:
        storage.scripts.append(send(sized(FLAC), keep=False))
        _read(made, made.sign(RUN))
        yield made


def _is_open(_made: Mock) -> bool:
    return True


def _read(client: Client, signed: SignedUrl) -> None:
    body = client.open_stored(signed, 0, None)
    assert body.peek(len(FLAC), float("inf")) == FLAC
    body.read(len(FLAC))
    body.read(1)
    body.close()


def test_it_is_there_before_the_request(client: Client, storage: Server) -> None:
    signed = client.sign(RUN)
    eventually(lambda: storage.connections == 2)
    storage.scripts += [send(sized(FLAC))]
    _read(client, signed)

    assert storage.connections == 2
    client._exchange._transport.connect_ahead(storage.url, WAIT_S)
    assert storage.connections == 2, "that one is still open"


def test_one_is_made_beside_one_that_is_in_use(
    client: Client, storage: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_CONNECTED_S", 3600.0)
    storage.scripts += [send(sized(FLAC)), send(sized(FLAC))]
    signed = client.sign(RUN)
    in_use = client.open_stored(signed, 0, None)
    assert storage.connections == 2

    client.connect_stored()
    eventually(lambda: storage.connections == 3)
    _read(client, signed)
    assert storage.connections == 3
    in_use.close()


def test_a_request_waits_for_one_that_is_being_made(
    client: Client, storage: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, connect = threading.Event(), threading.Event(), Addresses.connect

    def slowly(of_host: Addresses, host: str, port: int, *more: Any) -> socket.socket:
        if storage.url.endswith(f":{port}"):
            begun.set()
            assert go_on.wait(WAIT_S)
        return connect(of_host, host, port, *more)

    monkeypatch.setattr(Addresses, "connect", slowly)
    signed = client.sign(RUN)
    assert begun.wait(WAIT_S)
    storage.scripts += [send(sized(FLAC))]
    reading = in_thread(lambda: _read(client, signed))
    assert not reading.done()
    go_on.set()
    reading.result(WAIT_S)
    assert storage.connections == 2


def test_one_that_was_closed_meanwhile_is_not_used(client: Client, storage: Server) -> None:
    signed = client.sign(RUN)
    eventually(lambda: len(storage._sockets) == 2)
    storage._sockets[-1].shutdown(socket.SHUT_RDWR)
    storage.scripts += [send(sized(FLAC))]
    _read(client, signed)
    assert storage.connections == 3


def test_a_program_that_reads_no_object_costs_no_connection(api: Server, storage: Server) -> None:
    with Client(api.url, KEY, timeout_s=WAIT_S) as client:
        client.sign(RUN)
        client.sign(RUN)
    assert storage.connections == 0


def test_a_failure_is_that_of_the_request(client: Client, storage: Server) -> None:
    storage.__exit__()
    signed = client.sign(RUN)
    with pytest.raises(Unreachable, match="refuses the connection"):
        client.open_stored(signed, 0, None)


def test_its_certificate_is_checked_as_any() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)  # which no authority has signed
    with Server(tls=context) as storage, Client("http://127.0.0.1:9", KEY, timeout_s=WAIT_S) as client:
        client._exchange._transport.connect_ahead(storage.url, WAIT_S)
        assert storage.connections == 1
        with pytest.raises(Unreachable, match="a certificate that is not accepted"):
            client.open_stored(SignedUrl(f"{storage.url}/x", {}, 1), 0, None)


def test_a_failure_without_a_caller_is_forgotten() -> None:
    coming: Coming[Mock] = Coming()
    coming.make(Mock(side_effect=OSError), _is_open)
    made = Mock()
    coming.make(lambda: made, _is_open)

    assert coming.take(lambda _: True) is made
    assert coming.take(lambda _: True) is None


def test_a_caller_gets_the_failure() -> None:
    coming: Coming[Mock] = Coming()

    def fail() -> Mock:
        waiting.append(in_thread(lambda: coming.take(lambda _: True)))
        eventually(lambda: coming._future is None)
        raise OSError("refused")

    waiting: list[Future[Mock | None]] = []
    coming.make(fail, _is_open)
    with pytest.raises(OSError, match="refused"):
        waiting[0].result(WAIT_S)


def test_it_is_closed_at_the_end() -> None:
    early, late = Mock(), Mock()
    coming: Coming[Mock] = Coming()
    coming.make(lambda: early, _is_open)
    coming.close()
    early.close.assert_called_once()

    def connect() -> Mock:
        coming.close()
        return late

    coming.make(connect, _is_open)
    late.close.assert_called_once()
    assert coming.take(lambda _: True) is None


def test_one_that_has_waited_for_too_long_is_closed() -> None:
    made = Mock()
    coming: Coming[Mock] = Coming()
    coming.make(lambda: made, _is_open)

    assert coming.take(lambda _: False) is None
    made.close.assert_called_once()


def test_one_that_was_not_needed_in_time_is_replaced() -> None:
    unused, other, fresh = Mock(), Mock(), Mock()
    coming: Coming[Mock] = Coming()
    coming.make(lambda: unused, _is_open)
    coming.make(lambda: other, _is_open)
    coming.make(lambda: fresh, lambda made: made is not unused)

    unused.close.assert_called_once()
    assert coming.take(_is_open) is fresh


@pytest.mark.parametrize("why_not", ["just heard", "down", "behind a proxy"])
def test_none_is_made_where_it_is_of_no_use(client: Client, why_not: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started, made, origin = list[str](), client._exchange, client._storage
    assert origin is not None
    monkeypatch.setattr(made._workers, "start", lambda name, _work: started.append(name))
    made.connect_ahead(origin)
    assert started == ["connect"]

    if why_not == "just heard":
        monkeypatch.setattr(exchange, "_CONNECTED_S", 3600.0)
    if why_not == "down":
        monkeypatch.setattr(Breaker, "is_open", True)
    if why_not == "behind a proxy":
        monkeypatch.setattr(made._proxies, "towards", lambda _origin: {"http": "http://127.0.0.1:9"})
    made.connect_ahead(origin)
    assert started == ["connect"]
