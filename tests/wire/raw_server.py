"""A server for the unit tests of the wire: it writes exactly the bytes that a test gives it, and keeps connections.

Threads: one accepts, one serves each connection; all have ended when the `with` has.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from cambfs.names import RunId

RUN = RunId(5)
KEY = "sk-very-secret-key"
FLAC = b"fLaC" + bytes(range(256)) * 2000
WAIT_S = 20.0  # for events that come at once; only a failing test waits so long
CERTIFICATE = Path(__file__).parent / "localhost.pem"  # for 127.0.0.1, and its key; signed by itself, for a century
Script = Callable[[socket.socket], bool]
OK = b"HTTP/1.1 200 OK\r\n"


def sized(content: bytes, said: int | None = None) -> bytes:
    return OK + b"Content-Length: %d\r\n\r\n" % (len(content) if said is None else said) + content


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Server:
    """Answers the n-th request with the n-th script, whatever connection it comes on. A script says whether the
    connection is kept. `on_request` is told the target of each."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.scripts: list[Script] = []
        self.greeting = b""
        self.on_request: Callable[[bytes], None] = lambda _target: None
        self._tls = tls
        self.connections = 0
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Server:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connections += 1
                self._sockets.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), self._tls.wrap_socket(plain, server_side=True) if self._tls else plain as connection:
            connection.sendall(self.greeting)
            self._response(connection)

    def _response(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            while request := lines.readline():
                head = list(takewhile(lambda line: line not in (b"\r\n", b""), iter(lines.readline, None)))
                lines.read(sum(int(line.partition(b":")[2]) for line in head if line.startswith(b"Content-Length")))
                self.on_request(request.split(b" ")[1])
                if not self.scripts.pop(0)(connection):
                    return

    def stall(self, *pieces: bytes) -> Script:
        """The pieces, and nothing more until the test is over."""

        def script(connection: socket.socket) -> bool:
            connection.sendall(b"".join(pieces))
            self.over.wait(WAIT_S * 3)
            return False

        return script


def send(*pieces: bytes, keep: bool = True) -> Script:
    def script(connection: socket.socket) -> bool:
        connection.sendall(b"".join(pieces))
        return keep

    return script


def reset(*pieces: bytes, after: threading.Event) -> Script:
    """The pieces, and once the test has set `after`, a reset in place of an orderly end."""

    def script(connection: socket.socket) -> bool:
        connection.sendall(b"".join(pieces))
        assert after.wait(WAIT_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        return False

    return script
