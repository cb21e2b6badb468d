"""A link between mounts and a server of a test: all connections share its rate, as the machines of a slow network do.

Threads: one accepts, two carry the bytes of each connection; all have ended when the `with` has.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from threading import Lock, Thread
from types import TracebackType
from typing import Self

_PIECE_BYTES = 8 << 10


class SlowLink:
    """`port` of 127.0.0.1 leads to `to_port`."""

    def __init__(self, to_port: int, bytes_per_s: float) -> None:
        self._to_port = to_port
        self._bytes_per_s = bytes_per_s
        self._locks = Lock(), Lock()  # each guards one of the next
        self._free_at = [0.0, 0.0]  # for the next piece, to the server and from it, in time.monotonic seconds
        self._open = ExitStack()
        self._listener = self._open.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._threads = [Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # so no thread is added any more
        with self._open:
            for thread in self._threads:
                thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._open.enter_context(self._listener.accept()[0])
                far = self._open.enter_context(socket.create_connection(("127.0.0.1", self._to_port)))
                for source, target, way in ((near, far, 0), (far, near, 1)):
                    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # what is in them has not been slow
                        source.setsockopt(socket.SOL_SOCKET, option, 4 * _PIECE_BYTES)
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._threads.append(Thread(target=self._carry, args=(source, target, way)))
                    self._threads[-1].start()

    def _carry(self, source: socket.socket, target: socket.socket, way: int) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE_BYTES):
                with self._locks[way]:
                    at = max(self._free_at[way], time.monotonic()) + len(piece) / self._bytes_per_s
                    self._free_at[way] = at
                time.sleep(max(at - time.monotonic(), 0.0))
                target.sendall(piece)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
