"""The API itself: GET tts-result in both output types, POST tts-results, and the documented errors.

Runs in the server's thread.
"""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from cambfs.demo.answer import Answer, json_answer
from cambfs.demo.base import Application, Refused, error, invalid, stream
from cambfs.demo.content import Content, same
from cambfs.demo.faults import Kind
from cambfs.demo.profile import Profile

BASE_PATH = "/apis"
_BULK_MIN, _BULK_MAX = 2, 5
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)


class Api(Application):
    def routes(self) -> list[Route]:
        any_method = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
        return [
            Route(BASE_PATH + "/tts-result/{run_id}", self._result, methods=any_method),
            Route(BASE_PATH + "/tts-results", self._results, methods=any_method),
        ]

    async def _result(self, request: Request) -> Answer:
        _only(request, "GET")
        output_type = request.query_params.get("output_type", "raw_bytes")
        kind: Kind = "sign" if output_type == "file_url" else "stream"
        run_id = _integer(request.path_params["run_id"])
        await self.note(request, kind, run_id)
        self._admit(request, kind, run_id)
        if run_id is None:
            raise invalid(["path", "run_id"], "Input should be a valid integer", "int_parsing")
        if output_type not in ("raw_bytes", "file_url"):
            raise invalid(["query", "output_type"], "Input should be 'raw_bytes' or 'file_url'", "enum")
        return self._url(request, run_id) if kind == "sign" else self._audio(request, run_id)

    def _url(self, request: Request, run_id: int) -> Answer:
        fault = self.take_fault("sign", run_id)
        self._known(run_id)
        return self.finish(request, json_answer({"output_url": self.store.sign(run_id)}), fault)

    def _audio(self, request: Request, run_id: int) -> Answer:
        profile = self.store.profile
        fault = self.take_fault("stream", run_id, profile.length)
        content = self._known(run_id)
        if profile.redirect:
            answer = Answer(Content(), 307, {"Location": self.store.redirection(run_id)})
        else:
            answer = stream(request, content, profile)
        return self.finish(request, answer, fault)

    async def _results(self, request: Request) -> Answer:
        _only(request, "POST")
        await self.note(request, "bulk")
        self._admit(request, "bulk", None)
        profile = self.store.profile
        if profile.bulk == "absent":
            raise error(404, "Not Found")
        run_ids = _run_ids(await request.body())
        fault = self.take_fault("bulk", None)
        if profile.bulk == "fails":
            raise error(400, "Invalid run ids")
        return self.finish(request, json_answer(self._bulk(run_ids, profile)), fault)

    def _bulk(self, run_ids: list[int], profile: Profile) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for run_id in run_ids:
            if run_id in self.store.results and run_id not in profile.forbidden:
                url = self.store.sign(run_id)
                answer[str(run_id)] = url if profile.bulk == "strings" else {"output_url": url}
            elif profile.bulk_unknown == "fail":
                raise error(400, "Invalid run id")
            elif profile.bulk_unknown != "omit":
                answer[str(run_id)] = None if profile.bulk_unknown == "null" else "Invalid run id"
        return answer

    def _admit(self, request: Request, kind: Kind, run_id: int | None) -> None:
        if request.headers.get("x-api-key") != self.store.key:
            raise Refused(json_answer({"error": "Invalid API key", "status": 401}, 401))
        if self.store.is_busy(kind, run_id):
            raise error(429, "Too many requests", {"Retry-After": "0"})

    def _known(self, run_id: int) -> Content:
        """The run's audio. Raises Refused."""
        profile = self.store.profile
        if run_id in profile.forbidden:
            raise error(403, "Not allowed to read this run")
        path = self.store.results.get(run_id)
        if path is None and profile.unknown_status == 422:
            raise invalid(["path", "run_id"], "Invalid run id", "value_error")
        if path is None:
            raise error(profile.unknown_status, "Invalid run id")
        try:
            return same(path)
        except OSError:
            raise error(500, "Failed to fetch the audio") from None


def _only(request: Request, method: str) -> None:
    if request.method != method:
        raise error(405, "Method Not Allowed", {"Allow": method})


def _integer(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _run_ids(body: bytes) -> list[int]:
    """Raises Refused."""
    try:
        run_ids = json.loads(body)["run_ids"]
    except (ValueError, KeyError, TypeError):
        raise invalid(["body", "run_ids"], "Field required", "missing") from None
    if not isinstance(run_ids, list) or not all(type(run_id) is int for run_id in run_ids):
        raise invalid(["body", "run_ids"], "Input should be a valid list of integers", "list_type")
    if not _BULK_MIN <= len(run_ids) <= _BULK_MAX:
        raise invalid(["body", "run_ids"], f"List should have {_BULK_MIN} to {_BULK_MAX} items", "list_length")
    return run_ids
