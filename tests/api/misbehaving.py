"""The layer between the API and the server: records each request, and applies faults to responses.

An ASGI middleware: it sees the request as it came, and the response in the pieces in which the API sends it. Runs in
the server's thread.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.api.faults import BEFORE_HEADERS, Fault, Faults, Kind
from tests.api.log import Log, Origin, Record
from tests.api.wire import Stalled, Wire

_RUN = re.compile(r"/(apis/tts-result/|files/audio_|streams/audio_)([+-]?[0-9]{1,30})?.*", re.ASCII)


class Misbehaving:
    """An application with a log, and with faults in responses that would have been successful.

    `wrap` says which application, and may be called again; log and faults stay.
    """

    def __init__(self, key: str) -> None:
        self.log = Log()
        self.faults = Faults()
        self.stalled = Stalled()
        self._key = key.encode()

    def wrap(self, application: ASGIApp, origins: Mapping[int, Origin]) -> ASGIApp:
        """`origins`: port → the application behind it."""
        self._application = application
        self._origins = origins
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = self._record(scope)
        response = _Response(self, Wire(scope, receive), send, record, self.log.open(record))
        await self._application(scope, receive, response.take)

    def _record(self, scope: Scope) -> Record:
        headers = scope["headers"]
        everything = b"\n".join([scope["raw_path"], scope["query_string"], *(value for _, value in headers)])
        kind, run_id = _asked_for(scope)
        return Record(
            origin=self._origins[scope["server"][1]],
            method=scope["method"],
            path=scope["path"],
            query=scope["query_string"].decode("latin-1"),
            range=next((value.decode("latin-1") for name, value in headers if name == b"range"), None),
            had_key=self._key in everything,
            time_s=time.monotonic(),
            kind=kind,
            run_id=run_id,
        )


def _asked_for(scope: Scope) -> tuple[Kind, int | None]:
    method, path = scope["method"], scope["path"]
    if (method, path) == ("POST", "/apis/tts-results"):
        return "bulk", None
    if method == "GET" and path.startswith(("/apis/tts/", "/apis/translated-tts/")):
        return "task", None
    match = _RUN.fullmatch(path)
    if match is None:
        return "other", None
    run_id = int(match[2]) if match[2] else None
    if not path.startswith("/apis/"):
        return ("stored" if path.startswith("/files/") else "redirected"), run_id
    if method != "GET":
        return "other", None
    return ("sign" if b"output_type=file_url" in scope["query_string"] else "stream"), run_id


class _Response:
    """One response on its way: `take` gets it from the API, `_send` sends it out."""

    def __init__(self, owner: Misbehaving, wire: Wire, send: Send, record: Record, number: int) -> None:
        self._owner = owner
        self._wire = wire
        self._to_server = send
        self._record = record
        self._number = number
        self._fault: Fault | None = None
        self._sent = 0
        self._is_replaced = False

    async def take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            await self._start(message)
        elif not self._is_replaced:
            await self._body(message["body"], is_last=not message.get("more_body", False))

    async def _start(self, message: Any) -> None:
        headers = MutableHeaders(raw=message["headers"])
        self._is_chunked = "content-length" not in headers and self._wire.speaks_http_1_1
        self._fault = fault = self._take_fault(message["status"])
        if fault is None:
            await self._send_start(message["status"], headers)
        elif fault.kind in ("status", "content"):
            await self._replace(fault, has_length="content-length" in headers or fault.kind == "status")
        else:
            await self._start_badly(fault, message["status"], headers)

    def _take_fault(self, status: int) -> Fault | None:
        is_success = status < 400 or status == 416
        return self._owner.faults.take(self._record.kind, self._record.run_id, is_success=is_success)

    async def _start_badly(self, fault: Fault, status: int, headers: MutableHeaders) -> None:
        if fault.after_bytes == BEFORE_HEADERS:
            await self._fail(fault)
        lie_bytes = fault.lie_bytes if "content-length" in headers else 0
        if lie_bytes:
            headers["content-length"] = str(int(headers["content-length"]) + lie_bytes)
        await self._send_start(status, headers)
        if lie_bytes:
            self._wire.forgive(lie_bytes)

    async def _replace(self, fault: Fault, *, has_length: bool) -> None:
        """Sends the fault's own response; the rest of the API's response is dropped."""
        self._is_replaced = True
        headers = MutableHeaders(headers={"content-type": fault.content_type, **fault.headers})
        if has_length:
            headers["content-length"] = str(len(fault.body))
        await self._send_start(fault.status if fault.kind == "status" else 200, headers)
        await self._send(fault.body, is_last=True)

    async def _body(self, data: bytes, *, is_last: bool) -> None:
        fault = self._fault
        if fault is None:
            await self._send(data, is_last=is_last)
            return
        while data and not self._wire.closing:
            data = await self._send_some(fault, data)
        if is_last:
            # A fault behind the end happens at the end.
            if self._sent <= fault.after_bytes:
                await self._fail(fault)
            await self._send(b"", is_last=True)

    async def _send_some(self, fault: Fault, data: bytes) -> bytes:
        """Sends the beginning, up to where the fault happens next, and returns the rest."""
        until_fault = fault.after_bytes - self._sent
        if until_fault == 0:
            await self._fail(fault)
        count = until_fault if until_fault > 0 else 1 if fault.kind == "drip" else len(data)
        piece, rest = data[:count], data[count:]
        if fault.kind == "cut" and rest and self._is_chunked:
            # A chunk that promises more than will come.
            self._wire.write(b"%x\r\n%s" % (len(piece) + 1, piece))
            self._note_sent(piece)
        else:
            await self._send(piece)
        if fault.kind == "drip" and self._sent >= fault.after_bytes:
            await self._wire.rest(fault.interval_s)
        return rest

    async def _fail(self, fault: Fault) -> None:
        match fault.kind:
            case "reset":
                await self._wire.reset()
            case "cut":
                await self._wire.cut()
            case "stall":
                await self._owner.stalled.wait(self._wire)

    async def _send_start(self, status: int, headers: MutableHeaders) -> None:
        if not self._wire.closing:
            self._owner.log.update(self._number, status=status)
        await self._to_server({"type": "http.response.start", "status": status, "headers": headers.raw})

    async def _send(self, piece: bytes, *, is_last: bool = False) -> None:
        if self._wire.closing:
            await self._wire.gone()
            return
        await self._to_server({"type": "http.response.body", "body": piece, "more_body": not is_last})
        self._note_sent(piece)

    def _note_sent(self, piece: bytes) -> None:
        self._sent += len(piece)
        self._owner.log.update(self._number, sent=self._sent)
