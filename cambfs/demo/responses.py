"""Responses of the API and the storage: errors, which are raised, and audio or the requested part of it.

Runs in the server's thread.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from cambfs.demo.audio import Audio
from cambfs.demo.profile import Profile

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.ASCII)


class Refused(Exception):
    """A response that is raised."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status_code)
        self.response = response


def error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Refused:
    return Refused(JSONResponse({"detail": text}, status, headers))


def invalid(place: list[str], text: str, kind: str) -> Refused:
    return Refused(JSONResponse({"detail": [{"loc": place, "msg": text, "type": kind}]}, 422))


def xml_error(status: int, code: str) -> Refused:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Refused(Response(body, status, media_type="application/xml"))


def stream(request: Request, audio: Audio, profile: Profile) -> Response:
    """Audio as the API sends it: framed and paced as the profile says. Raises Refused."""
    status, headers, body = _part(request, audio, profile.ranges)
    if profile.ranges:
        headers["ETag"] = audio.etag
    if profile.length == "content-length":
        headers["Content-Length"] = str(len(body))
    elif profile.length == "close":
        # h11 ends a body by closing the connection when the client speaks HTTP/1.0; no public option does it.
        request.state.connection.conn.their_http_version = b"1.0"
    return StreamingResponse(_pieces(body, profile.chunk_bytes, profile.rate), status, headers, audio.content_type)


def stored(request: Request, audio: Audio, profile: Profile) -> Response:
    """Audio as the storage sends it. Raises Refused."""
    status, headers, body = _part(request, audio, profile.storage != "no-ranges")
    headers |= {"ETag": audio.etag, "Last-Modified": audio.modified, "Content-Length": str(len(body))}
    return StreamingResponse(_pieces(body, Profile.chunk_bytes, None), status, headers, audio.content_type)


def _part(request: Request, audio: Audio, takes_ranges: bool) -> tuple[int, dict[str, str], memoryview]:
    whole = memoryview(audio.data)
    if not takes_ranges:
        return 200, {}, whole
    asked = _asked_range(request.headers, audio)
    if asked is None:
        return 200, {"Accept-Ranges": "bytes"}, whole
    start, stop = asked
    if start >= len(whole):
        raise Refused(Response(status_code=416, headers={"Content-Range": f"bytes */{len(whole)}"}))
    range_ = f"bytes {start}-{stop - 1}/{len(whole)}"
    return 206, {"Accept-Ranges": "bytes", "Content-Range": range_}, whole[start:stop]


def _asked_range(headers: Mapping[str, str], audio: Audio) -> tuple[int, int] | None:
    """Start and stop of the one requested byte range; None when the whole is to be sent."""
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or headers.get("if-range", audio.etag) not in (audio.etag, audio.modified):
        return None
    first, last, length = match[1], match[2], len(audio.data)
    if not first:
        return (length - min(length, int(last)), length) if last else None
    stop = min(length, int(last) + 1) if last else length
    return None if last and int(last) < int(first) else (int(first), stop)


async def _pieces(body: memoryview, piece_bytes: int, rate: int | None) -> AsyncIterator[bytes]:
    piece_bytes = min(piece_bytes, max(1, rate // 20)) if rate else piece_bytes
    began = time.monotonic()
    for start in range(0, len(body), piece_bytes):
        yield bytes(body[start : start + piece_bytes])
        if rate is not None:
            await asyncio.sleep(began + (start + piece_bytes) / rate - time.monotonic())
