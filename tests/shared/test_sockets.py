"""Sockets that one thread ends while another reads from them."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress

import pytest

from cambfs.shared.sockets import GuardedSocket, Sockets
from tests.fakes import LIMIT_S
from tests.waiting import eventually, in_thread


class FakeConnection:
    def __init__(self, raw: socket.socket) -> None:
        self._sock = raw

    def on_connect(self) -> None: ...


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(LIMIT_S)
    with near, far:
        yield near, far


def reading(guarded: GuardedSocket) -> Future[int]:
    """Returns when the thread reads."""
    reader = in_thread(lambda: guarded.recv_into(bytearray(9)))
    eventually(lambda: guarded._users == 1)
    return reader


def test_a_socket_keeps_its_number_until_its_reader_has_ended(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    guarded, number = GuardedSocket(near), near.fileno()
    identity = os.fstat(number).st_ino
    reader = reading(guarded)

    guarded.close()
    assert os.fstat(number).st_ino == identity
    with pytest.raises(OSError, match="Bad file descriptor"):
        guarded.sendall(b"x")

    far.sendall(b"text")
    assert reader.result(LIMIT_S) == 4
    assert near.fileno() == -1
    assert far.recv(9) == b""


def test_an_unused_socket_is_closed_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    GuardedSocket(pair[0]).close()
    assert pair[0].fileno() == -1


def test_a_cut_wakes_the_reader_and_closes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    sockets, connection = Sockets(), FakeConnection(pair[0])
    sockets.guard(connection)
    assert isinstance(connection._sock, GuardedSocket)
    reader = reading(connection._sock)

    sockets.cut()

    assert reader.result(LIMIT_S) == 0
    assert pair[0].fileno() != -1


def test_a_connection_after_the_cut_ends_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    sockets, connection = Sockets(), FakeConnection(pair[0])
    sockets.cut()
    sockets.guard(connection)
    assert connection._sock.recv_into(bytearray(9)) == 0


def test_a_cut_leaves_a_socket_that_was_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    sockets, connection = Sockets(), FakeConnection(pair[0])
    sockets.guard(connection)
    connection._sock.close()
    sockets.cut()


def test_nothing_is_read_without_tls_after_a_cut(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    context = ssl.create_default_context()
    with context.wrap_socket(near, do_handshake_on_connect=False, server_hostname="localhost") as encrypted:
        guarded, buffer = GuardedSocket(encrypted), bytearray(99)
        far.sendall(b"not encrypted")
        guarded.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):  # SSLError, or as the handshake goes on to write, BrokenPipeError
            guarded.recv_into(buffer)
        assert buffer == bytearray(99)
