"""The server: it plays the API and its storage on two ports of loopback, and sends the exact bytes of a script.

`replies` and `cases` have the scripts. Each connection is kept, and its requests are served one after the other.
Threads: two accept, one serves each connection; all have ended when the `with` has. `_lock` guards the tables.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from cambfs.names import MAX_RUN_ID
from tests.hostile.replies import Act, Asked, Kind, Reply, Step, well

WAIT_S = 20.0
_HEAD_LIMIT_BYTES = 65536
_RUN = re.compile(r"/apis/(tts-result|moved)/(\d+)|/(\d+)\.flac")
# How cambfs asks whether the key is good, and whether the API still answers.
_QUESTIONS = ([0], [MAX_RUN_ID])
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Script:
    """The unusual behaviour for one run. A list of replies is for the first requests of a kind, a single one for all of
    them; other requests get the usual response. `stored` in place of `content` is storage's object."""

    content: bytes
    replies: Mapping[Kind, Reply | Sequence[Reply]] = field(default_factory=dict)
    stored: bytes | None = None
    framing: Literal["chunked", "length", "close"] = "chunked"
    ranges: bool = False

    def reply(self, kind: Kind, number: int) -> Reply | None:
        """The reply that the script has for a request; None for the usual one."""
        found = self.replies.get(kind, ())
        if callable(found):
            return found
        return found[number - 1] if number <= len(found) else None


@dataclass(frozen=True)
class Record:
    """A request that came. `was_scripted`: its response is not that of a correct server, or a case requests just that.
    `follows`: run and kind of the request before it on the same connection, if that one's response was scripted."""

    origin: Literal["api", "storage"]
    kind: Kind
    run_id: int
    connection: int
    had_key: bool
    was_scripted: bool
    follows: tuple[int, Kind] | None


class HostileServer:
    """Two origins. `scripts` has the runs: set it before the first request. `requests` grows as they come."""

    def __init__(self, scripts: Mapping[int, Script], stranger: bytes) -> None:
        self.scripts = dict(scripts)
        self.requests: list[Record] = []
        self.over = threading.Event()
        self._stranger = stranger
        self._lock = threading.Lock()  # guards the next four, and `requests`
        self._counts: Counter[tuple[Kind, int]] = Counter()
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._connected = 0
        self._api = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._storage = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.origins = _url(self._api), _url(self._storage)
        self.base_url = f"{self.origins[0]}/apis"

    def __enter__(self) -> HostileServer:
        for listener in (self._api, self._storage):
            self._start(threading.Thread(target=self._accept, args=(listener,)))
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for listener in (self._api, self._storage):
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()

    def _start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.settimeout(WAIT_S)
                with self._lock:
                    self._connected += 1
                    self._connections.add(connection)
                    origin: Literal["api", "storage"] = "api" if listener is self._api else "storage"
                    serving = _Serving(self, connection, origin, self._connected)
                    self._start(threading.Thread(target=serving.run))

    def forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections.discard(connection)

    def take(self, request: _Request, serving: _Serving) -> list[Step]:
        """The steps of the response to a request, which is noted."""
        with self._lock:
            run_ids = request.run_ids
            run_id = next((one for one in run_ids if "bulk" in self.scripts[one].replies), run_ids[0])
            self._counts[request.kind, run_id] += 1
            number = self._counts[request.kind, run_id]
        script = self.scripts[run_id]
        reply = script.reply(request.kind, number)
        asked = self._asked(request, run_id, number, script)
        steps = list((reply or well)(asked))
        is_scripted = reply is well or steps != well(asked.having(script.content))
        follows, serving.last_scripted = serving.last_scripted, (run_id, request.kind) if is_scripted else None
        record = Record(serving.origin, request.kind, run_id, serving.number, request.has_key, is_scripted, follows)
        with self._lock:
            self.requests.append(record)
        return steps

    def _asked(self, request: _Request, run_id: int, number: int, script: Script) -> Asked:
        content = script.content if request.kind != "stored" or script.stored is None else script.stored
        asked = Asked(request.kind, run_id, content, self._stranger, number, origins=self.origins)
        asked = replace(asked, framing=script.framing, ranges=script.ranges, run_ids=request.run_ids)
        if found := _RANGE.search(request.range):
            stop = int(found[2]) + 1 if found[2] else None
            return replace(asked, start=int(found[1]), stop=stop, has_range=True)
        return asked


def _url(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


class _Request:
    """The parts of a request that matter here. Raises ValueError for a request that no client of this API sends."""

    def __init__(self, lines: list[str], body: bytes) -> None:
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        method, target = lines[0].split(" ")[:2]
        path, query = urlsplit(target).path, urlsplit(target).query
        self.has_key = "x-api-key" in headers
        self.range = headers.get("range", "")
        self.run_ids: list[int] = json.loads(body)["run_ids"] if method == "POST" else [_run_of(path)]
        self.kind: Kind = _kind(method, path, query)


def _run_of(path: str) -> int:
    found = _RUN.fullmatch(path)
    if found is None:
        raise ValueError(f"nothing is at {path}")
    return int(found[2] or found[3])


def _kind(method: str, path: str, query: str) -> Kind:
    if method == "POST":
        return "bulk"
    if not path.startswith("/apis/"):
        return "stored"
    if path.startswith("/apis/moved/"):
        return "moved"
    return "sign" if "output_type=file_url" in query else "stream"


class _Serving:
    """One connection, from its first request to its end; `run` is the work of a thread."""

    def __init__(
        self, server: HostileServer, connection: socket.socket, origin: Literal["api", "storage"], number: int
    ) -> None:
        self.origin = origin
        self.number = number
        self.last_scripted: tuple[int, Kind] | None = None
        self._server = server
        self._connection = connection
        self._buffer = b""

    def run(self) -> None:
        with self._connection:
            with suppress(OSError, EOFError):
                while self._answer(self._receive_request()):
                    pass
            self._server.forget(self._connection)

    def _receive_request(self) -> _Request:
        lines = self._receive_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
        while len(self._buffer) < length:
            self._receive()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return _Request(lines, body)

    def _receive_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer and len(self._buffer) < _HEAD_LIMIT_BYTES:
            self._receive()
        found, _, self._buffer = self._buffer.partition(mark)
        return found

    def _receive(self) -> None:
        data = self._connection.recv(65536)
        if not data:
            raise EOFError
        self._buffer += data

    def _answer(self, request: _Request) -> bool:
        """Whether another request may follow on this connection."""
        if request.run_ids in _QUESTIONS:
            self._connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}")
            return True
        return all(self._play(step) for step in self._server.take(request, self))

    def _play(self, step: Step) -> bool:
        if isinstance(step, bytes):
            self._connection.sendall(step)
            return True
        if isinstance(step, float):
            return not self._server.over.wait(step)
        if step is Act.STALL:
            self._server.over.wait()
        if step in (Act.HANG_UP, Act.SNAP):
            self._receive_request()
        if step in (Act.RESET, Act.SNAP):
            # Closing with a linger of 0 seconds sends a reset.
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
