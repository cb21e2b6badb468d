"""Which address a connection goes to, and how the others are closed. Dead ones are listeners whose queue is full: the
kernel drops what is sent to them, as a router does that leads nowhere."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cambfs.errors import TimedOut, Unreachable
from cambfs.http.client import Client
from cambfs.wire import addresses
from cambfs.wire.addresses import Address, Addresses, interleaved
from tests.wire.raw_server import FLAC, KEY, RUN, WAIT_S, Server, send, sized

V4, V6 = socket.AF_INET, socket.AF_INET6


def address(port: int, host: str = "127.0.0.1", family: int = V4) -> Address:
    return Address(family, socket.SOCK_STREAM, 6, "", (host, port))


@pytest.fixture
def silent_port() -> Iterator[int]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def refusing_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def resolve_to(monkeypatch: pytest.MonkeyPatch, *found: Address) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: list(found))


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def port_of(sock: socket.socket) -> Any:
    with sock:
        return sock.getpeername()[1]


def test_families_take_turns() -> None:
    found = [address(1, "::1", V6), address(2, "::2", V6), address(3, "::3", V6), address(4), address(5)]

    assert [one.place[1] for one in interleaved(found)] == [1, 4, 2, 5, 3]
    assert interleaved([]) == []


def test_dead_addresses_cost_a_moment_each_the_first_time_and_nothing_later(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, refusing_port: int, listener: socket.socket
) -> None:
    begun: list[int] = []
    monkeypatch.setattr(addresses, "_begin", recording(begun))
    port = listener.getsockname()[1]
    resolve_to(monkeypatch, address(silent_port), address(refusing_port), address(silent_port), address(port))
    host = Addresses()

    assert port_of(host.connect("api.example", 443, WAIT_S)) == port
    assert begun == [silent_port, refusing_port, silent_port, port]
    begun.clear()
    assert port_of(host.connect("api.example", 443, WAIT_S)) == port
    assert begun == [port]


def recording(begun: list[int]) -> Any:
    begin = addresses._begin

    def recorded(one: Address, *more: Any) -> None:
        begun.append(one.place[1])
        begin(one, *more)

    return recorded


def test_a_remembered_address_that_died_is_left_for_another(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, listener: socket.socket
) -> None:
    host, port = Addresses(), listener.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as old:
        resolve_to(monkeypatch, address(old.getsockname()[1]))
        port_of(host.connect("api.example", 443, WAIT_S))
    resolve_to(monkeypatch, address(silent_port), address(port), address(silent_port))

    assert port_of(host.connect("api.example", 443, WAIT_S)) == port


def test_the_losers_are_closed(monkeypatch: pytest.MonkeyPatch, silent_port: int, listener: socket.socket) -> None:
    resolve_to(monkeypatch, address(silent_port), address(silent_port), address(listener.getsockname()[1]))
    before = descriptors()

    with Addresses().connect("api.example", 443, WAIT_S) as sock:
        assert sock.gettimeout() == WAIT_S
        assert descriptors() - before == {str(sock.fileno())}


def test_the_options_are_set(monkeypatch: pytest.MonkeyPatch, listener: socket.socket) -> None:
    resolve_to(monkeypatch, address(listener.getsockname()[1]))
    option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with Addresses().connect("api.example", 443, WAIT_S, [(*option, 1)]) as sock:
        assert sock.getsockopt(*option)


@pytest.mark.parametrize("count", [1, 3])
def test_all_together_have_one_deadline(monkeypatch: pytest.MonkeyPatch, silent_port: int, count: int) -> None:
    monkeypatch.setattr(addresses, "ATTEMPT_DELAY_S", 0.01)
    resolve_to(monkeypatch, *[address(silent_port)] * count)
    before = descriptors()

    with pytest.raises(TimeoutError):
        Addresses().connect("api.example", 443, 0.1)
    assert descriptors() == before


def test_a_refusal_tells_more_than_a_family_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, refusing_port: int
) -> None:
    absent = Address(socket.AF_APPLETALK, socket.SOCK_STREAM, 6, "", ("::1", 1))
    resolve_to(monkeypatch, absent, address(refusing_port), absent)

    with pytest.raises(ConnectionRefusedError):
        Addresses().connect("api.example", 443, WAIT_S)


# Through the client


def client_of(server: Server) -> Client:
    return Client(server.url.replace("127.0.0.1", "localhost"), KEY, timeout_s=WAIT_S)


def test_a_request_reaches_the_address_that_lives(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, refusing_port: int
) -> None:
    with Server() as server:
        server.scripts += [send(sized(FLAC))]
        living = address(int(server.url.rpartition(":")[2]))
        resolve_to(monkeypatch, address(silent_port), address(refusing_port), address(silent_port), living)
        with client_of(server) as client:
            body = client.open_stream(RUN)
            assert body.read(4) == b"fLaC"
            body.close()


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (["silent", "silent"], TimedOut),
        (["refusing", "refusing"], Unreachable),
        ([], Unreachable),
    ],
)
def test_what_no_address_is_told_as(
    monkeypatch: pytest.MonkeyPatch, silent_port: int, refusing_port: int, found: Sequence[str], kind: type[Exception]
) -> None:
    ports = {"silent": silent_port, "refusing": refusing_port}
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [address(ports[one]) for one in found] or fail())
    with Client("http://localhost:9", KEY, timeout_s=0.6) as client, pytest.raises(kind) as caught:
        client.open_stream(RUN)
    if found == ["refusing", "refusing"]:
        assert getattr(caught.value, "errno", None) == errno.ECONNREFUSED


def fail() -> list[Any]:
    raise socket.gaierror(socket.EAI_NONAME, "no such name")
