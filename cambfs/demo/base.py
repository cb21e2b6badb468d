"""What the two applications of the embedded API share: errors that are raised, faults, and parts of a result.

What they answer is in `api` and `object_store`, how it goes out in `answer`. Runs in the server's thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from cambfs.demo.answer import Answer, Length, json_answer
from cambfs.demo.content import Content, Unsatisfiable, asked_range
from cambfs.demo.faults import Fault, Kind
from cambfs.demo.profile import Profile
from cambfs.demo.store import Store


class Refused(Exception):
    """An answer that is raised."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status_code)
        self.answer = answer


def error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Refused:
    return Refused(json_answer({"detail": text}, status, headers))


def invalid(place: list[str], text: str, kind: str) -> Refused:
    return Refused(json_answer({"detail": [{"loc": place, "msg": text, "type": kind}]}, 422))


class Application:
    """What both applications share: errors that are raised, and faults."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def asgi(self) -> ASGIApp:
        # Coroutines, because Starlette would run plain functions in threads of its own.
        return Starlette(
            routes=self.routes(), exception_handlers={Refused: self._refused, HTTPException: self._not_routed}
        )

    def routes(self) -> list[Route]:
        raise NotImplementedError

    async def note(self, request: Request, kind: Kind, run_id: int | None = None) -> None:
        """Logs what is asked for, then waits for as long as an answer takes."""
        self.store.log.update(request.state.number, kind=kind, run_id=run_id)
        await request.state.wire.rest(self.store.profile.latency_s)

    async def _refused(self, request: Request, refused: Exception) -> Answer:
        assert isinstance(refused, Refused)
        return self._logged(request, refused.answer)

    async def _not_routed(self, request: Request, cause: Exception) -> Answer:
        assert isinstance(cause, HTTPException)
        return self._logged(request, error(cause.status_code, cause.detail).answer)

    def _logged(self, request: Request, answer: Answer) -> Answer:
        answer.on_sent = lambda sent: self.store.log.update(request.state.number, sent=sent)
        return answer

    def take_fault(self, kind: Kind, run_id: int | None, length: Length = "content-length") -> Fault | None:
        """The fault for this request. One that takes the answer's place is raised (Refused)."""
        fault = self.store.faults.take(kind, run_id)
        if fault is None or fault.kind not in ("status", "content"):
            return fault
        content = Content(fault.body, content_type=fault.content_type)
        if fault.kind == "status":
            raise Refused(Answer(content, fault.status, fault.headers))
        raise Refused(Answer(content, 200, fault.headers, length=length))

    def finish(self, request: Request, answer: Answer, fault: Fault | None) -> Answer:
        answer.fault, answer.stalled = fault, self.store.stalled
        return self._logged(request, answer)


def stream(request: Request, content: Content, profile: Profile) -> Answer:
    """The run's audio, or the part of it that is asked for, sent as the profile says."""
    status, headers, start, stop = part(request, content, profile.ranges)
    if profile.ranges:
        headers["ETag"] = content.etag
    how: Any = {"length": profile.length, "rate": profile.rate, "chunk_bytes": profile.chunk_bytes}
    return Answer(content, status, headers, start=start, stop=stop, **how)


def part(request: Request, content: Content, ranges: bool) -> tuple[int, dict[str, str], int, int]:
    """Status, headers, start and stop. Raises Refused (416)."""
    if not ranges:
        return 200, {}, 0, content.length
    try:
        asked = asked_range(request.headers, content)
    except Unsatisfiable:
        headers = {"Content-Range": f"bytes */{content.length}"}
        raise Refused(Answer(Content(content_type="text/plain"), 416, headers)) from None
    if asked is None:
        return 200, {"Accept-Ranges": "bytes"}, 0, content.length
    start, stop = asked
    range_ = f"bytes {start}-{stop - 1}/{content.length}"
    return 206, {"Accept-Ranges": "bytes", "Content-Range": range_}, start, stop
