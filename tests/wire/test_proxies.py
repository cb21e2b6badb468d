"""Connections through proxies: strict as any, and opened anew through the same proxy when one was lost."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from cambfs.errors import BadResponse, CambfsError, LinkError
from cambfs.hosts.surroundings import Proxies
from cambfs.http.client import Client
from cambfs.wire import connection
from tests.wire.raw_server import CERTIFICATE, FLAC, KEY, RUN, WAIT_S, Server, send, sized


class Proxy:
    """Leads every connection to `port`, after `greet` has done the handshake of this kind of proxy."""

    def __init__(self, port: int, greet: Callable[[socket.socket], None]) -> None:
        self._port = port
        self._greet = greet
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Proxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _start(self, work: Callable[..., None], *sockets: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=sockets))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.connections += 1
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(("127.0.0.1", self._port)) as server:
            self._greet(client)
            self._start(self._pass_on, server, client)
            self._pass_on(client, server)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def tunnel(response: bytes) -> Callable[[socket.socket], None]:
    def greet(client: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1) or b"\r\n\r\n"
        assert KEY.encode() not in head
        client.sendall(response)

    return greet


def socks5(client: socket.socket) -> None:
    client.recv(2 + client.recv(2, socket.MSG_PEEK)[1])
    client.sendall(b"\5\0")
    client.recv(10)  # an IPv4 address: the tests ask for 127.0.0.1
    client.sendall(b"\5\0\0\1\x7f\0\0\1\0\1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    monkeypatch.setattr(connection, "REST_S", 0.0)
    with Server(tls=context) as made:
        yield made


def whole(client: Client) -> bytes:
    body, found = client.open_stream(RUN), b""
    while data := body.read(65536):
        found += data
    body.close()
    return found


KINDS = {
    "http": tunnel(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n"),
    "http, interim": tunnel(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.0 200 OK\r\n\r\n"),
    "socks5": socks5,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_through_a_proxy(server: Server, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(int(server.url.rpartition(":")[2]), KINDS[kind]) as proxy:
        url = f"{kind.partition(',')[0]}://{proxy.address}"
        monkeypatch.setattr(Proxies, "towards", lambda *_: {"https": url})
        server.scripts += [
            send(sized(FLAC)),
            send(sized(FLAC[:9])),
            send(keep=False),
            send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + sized(FLAC[:7])),
            send(sized(FLAC)),
        ]
        with Client(server.url, KEY, timeout_s=WAIT_S) as client:
            assert whole(client) == FLAC
            assert whole(client) == FLAC[:9]
            assert proxy.connections == 1
            assert whole(client) == FLAC[:7], "sent once more: the connection was lost"
            assert proxy.connections == 2
            assert whole(client) == FLAC
            assert proxy.connections == 3
    assert server.scripts == []


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (b"HTTP/1.1 407 No\r\n\r\n", LinkError),
        (b"HTTP/1.1 +200 OK\r\n\r\n", BadResponse),
        (b"HTTP/1.1 101 OK\r\n\r\n", BadResponse),
        (b"220 mail\r\n\r\n", BadResponse),
    ],
)
def test_a_proxy_that_opens_no_tunnel(
    server: Server, response: bytes, kind: type[CambfsError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(int(server.url.rpartition(":")[2]), tunnel(response)) as proxy:
        monkeypatch.setattr(Proxies, "towards", lambda *_: {"https": f"http://{proxy.address}"})
        with Client(server.url, KEY, timeout_s=WAIT_S) as client, pytest.raises(kind):
            whole(client)
