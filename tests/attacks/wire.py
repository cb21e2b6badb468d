"""A server that sends exactly the bytes that a test gives it for each request, and then ends the connection.

Threads: one accepts, one serves each connection; all have ended when the `with` has.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

WAIT_S = 20.0


class WireServer:
    """`answer` gets the path with its query and the request's headers, in lower case; its pieces are sent as they come.
    `requests` are the requests, each as it came; `connected` is set at the first connection."""

    def __init__(self, answer: Callable[[str, str], bytes | Iterator[bytes]]) -> None:
        self.answer = answer
        self.requests: list[bytes] = []
        self.connected = threading.Event()
        self.over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> WireServer:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self.connected.set()
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(WAIT_S)
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            request = b"".join(iter(lambda: lines.readline().rstrip(b"\r\n") + b"\n", b"\n"))
            if not request:
                return
            self.requests.append(request)
            head, _, headers = request.decode("latin-1").partition("\n")
            answer = self.answer(head.split(" ")[1], headers.lower())
            for piece in [answer] if isinstance(answer, bytes) else answer:
                connection.sendall(piece)


def sized(content: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def chunked(content: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
