"""The vocabulary of cases: requests as a case sees them, replies, and steps of replies.

No sockets (`server`). Pure functions; no threads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Literal

Kind = Literal["stream", "sign", "bulk", "stored", "moved"]
ETAG = '"the-only-version"'
MODIFIED = "Last-Modified: Wed, 01 Jul 2026 10:00:00 GMT"
# Of a chunked response, as streaming servers send them.
_CHUNK_BYTES = 8192


class Act(Enum):
    """Actions that are no bytes. CLOSE and RESET end the connection; STALL keeps it, and sends nothing more. HANG_UP
    and SNAP end it (by closing, by a reset) at the moment when the next request has come."""

    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"
    HANG_UP = "hang up"
    SNAP = "snap"


# Bytes to send, seconds to wait, or an act.
Step = bytes | float | Act


@dataclass(frozen=True)
class Asked:
    """A request. `content` is the run's audio, `stranger` another run's. `start` and `stop` are the requested Range.
    `number` counts from 1 the requests of this kind for this run. `framing` is how the API frames audio, `ranges`
    whether it supports ranges; `origins` are the URLs of the API and of the storage, both without a path."""

    kind: Kind
    run_id: int
    content: bytes
    stranger: bytes
    number: int = 1
    start: int = 0
    stop: int | None = None
    has_range: bool = False
    framing: Literal["chunked", "length", "close"] = "chunked"
    ranges: bool = False
    run_ids: Sequence[int] = ()
    origins: tuple[str, str] = ("", "")

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def middle(self) -> int:
        return self.size // 2

    def url(self, run_id: int | None = None) -> str:
        return f"{self.origins[1]}/{run_id or self.run_id}.flac?X-Amz-Signature={self.number}"

    def having(self, content: bytes) -> Asked:
        """The same request of a run that is something else."""
        return replace(self, content=content)


Reply = Callable[[Asked], Iterable[Step]]


def head(status: str = "200 OK", *headers: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *headers, "", ""]).encode("latin-1")


def sized(content: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return head(status, f"Content-Length: {len(content)}", *headers) + content


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunks(content: bytes, size: int = _CHUNK_BYTES) -> bytes:
    """Without the last one."""
    return b"".join(chunk(content[at : at + size]) for at in range(0, len(content), size))


def chunked(content: bytes, *headers: str, status: str = "200 OK", end: bytes = b"0\r\n\r\n") -> bytes:
    return head(status, "Transfer-Encoding: chunked", *headers) + chunks(content) + end


AUDIO = "Content-Type: audio/flac"
JSON = "Content-Type: application/json"


def well(asked: Asked) -> list[Step]:
    """The response of a correct server."""
    if asked.kind == "sign":
        return [sized(json.dumps({"output_url": asked.url()}).encode(), JSON)]
    if asked.kind == "bulk":
        found = {str(run_id): {"output_url": asked.url(run_id)} for run_id in asked.run_ids}
        return [sized(json.dumps(found).encode(), JSON)]
    if asked.kind == "stored":
        return [part(asked)] if asked.has_range else [sized(asked.content, MODIFIED)]
    return _audio(asked)


def _audio(asked: Asked) -> list[Step]:
    if asked.ranges and asked.has_range:
        return [part(asked)]
    headers = [AUDIO, MODIFIED, *([f"ETag: {ETAG}", "Accept-Ranges: bytes"] if asked.ranges else [])]
    if asked.framing == "length":
        return [sized(asked.content, *headers)]
    if asked.framing == "close":
        return [head("200 OK", *headers, "Connection: close") + asked.content, Act.CLOSE]
    return [chunked(asked.content, *headers)]


def part(asked: Asked, *headers: str, content_range: str = "", data: bytes | None = None) -> bytes:
    """The requested 206, or one with another Content-Range or other bytes."""
    stop = min(asked.size, asked.size if asked.stop is None else asked.stop)
    if asked.start >= asked.size:
        return sized(b"", f"Content-Range: bytes */{asked.size}", status="416 Range Not Satisfiable")
    said = content_range or f"bytes {asked.start}-{stop - 1}/{asked.size}"
    sent = asked.content[asked.start : stop] if data is None else data
    return sized(sent, f"Content-Range: {said}", f"ETag: {ETAG}", MODIFIED, *headers, status="206 Partial Content")
