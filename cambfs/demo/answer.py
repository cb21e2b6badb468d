"""How an answer goes out: its framing, its speed, and what a fault makes of it.

Starlette's own responses leave the framing to the server and cannot go wrong half-way. Runs in the server's thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cambfs.demo.content import Content, Reader
from cambfs.demo.faults import BEFORE_HEADERS, Fault
from cambfs.demo.wire import Stalled, Wire

Length = Literal["chunked", "content-length", "close"]


class Answer(Response):
    """Bytes start ≤ i < stop of `content` (stop None: to its end). `on_sent` hears how many bytes went out so far."""

    def __init__(
        self,
        content: Content,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        start: int = 0,
        stop: int | None = None,
        length: Length = "content-length",
        rate: int | None = None,
        chunk_bytes: int = 256 * 1024,
    ) -> None:
        self.status_code = status
        self.media_type = content.content_type
        self.background = None
        self.content = content
        self.start = start
        self.size = (content.length if stop is None else stop) - start
        self.length = length
        self.rate = rate
        self.chunk_bytes = chunk_bytes if rate is None else min(chunk_bytes, max(1, rate // 20))
        self.fault: Fault | None = None
        self.stalled = Stalled()
        self.on_sent: Callable[[int], None] = _ignore
        framing = {"content-length": str(self.size)} if length == "content-length" else {}
        self.init_headers({**(headers or {}), **framing})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        wire: Wire = scope["state"]["wire"]
        if self.length == "close":
            wire.end_by_close()
        if self._fails_at(BEFORE_HEADERS):
            await self._fail(wire)
        if not wire.closing:
            await self._send_head(wire, send)
            if scope["method"] != "HEAD":
                await self._send_body(wire, send)
        if wire.closing:
            await wire.gone()
        else:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_head(self, wire: Wire, send: Send) -> None:
        lie_bytes = self.fault.lie_bytes if self.fault is not None and self.length == "content-length" else 0
        if lie_bytes:
            self.headers["Content-Length"] = str(self.size + lie_bytes)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if lie_bytes:
            wire.forgive(lie_bytes)

    async def _send_body(self, wire: Wire, send: Send) -> None:
        began = time.monotonic()
        sent = 0
        with Reader(self.content) as reader:
            while not wire.closing:
                if self._fails_at(sent):
                    await self._fail(wire)
                if sent == self.size or wire.closing:
                    return
                piece = reader.read(self.start + sent, self._step(sent))
                sent += len(piece)
                await self._send_piece(wire, send, piece, sent)
                self.on_sent(sent)
                await self._pace(wire, sent, began)

    async def _send_piece(self, wire: Wire, send: Send, piece: bytes, sent: int) -> None:
        if self.length == "chunked" and sent < self.size and self._fails_at(sent, "cut"):
            # A chunk that promises more than will come.
            wire.write(b"%x\r\n%s" % (len(piece) + 1, piece))
        else:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    def _step(self, sent: int) -> int:
        left = min(self.chunk_bytes, self.size - sent)
        if self.fault is None:
            return left
        before_fault = self._fault_at() - sent
        if before_fault > 0:
            return min(left, before_fault)
        return 1 if self.fault.kind == "drip" else left

    def _fault_at(self) -> int:
        assert self.fault is not None
        return min(self.fault.after_bytes, self.size)

    def _fails_at(self, sent: int, kind: str | None = None) -> bool:
        fault = self.fault
        return fault is not None and kind in (None, fault.kind) and sent == self._fault_at()

    async def _fail(self, wire: Wire) -> None:
        assert self.fault is not None
        match self.fault.kind:
            case "reset":
                await wire.reset()
            case "cut":
                await wire.cut()
            case "stall":
                await self.stalled.wait(wire)

    async def _pace(self, wire: Wire, sent: int, began: float) -> None:
        if self.fault is not None and self.fault.kind == "drip" and sent >= self._fault_at():
            await wire.rest(self.fault.interval_s)
        if self.rate is not None:
            await wire.rest(began + sent / self.rate - time.monotonic())


def _ignore(_sent: int) -> None:
    pass


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(Content(body), status, headers)
