"""The API itself: GET tts-result in both output types, POST tts-results, tasks, and the documented errors.

Runs in the server's thread.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cambfs.demo.audio import Audio
from cambfs.demo.profile import Profile
from cambfs.demo.responses import Refused, error, invalid, stream
from cambfs.demo.store import Store, Task

BASE_PATH = "/apis"
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_BULK_MIN, _BULK_MAX = 2, 5
_ENDPOINTS = ("tts", "translated-tts")
_REASONS = {
    "ERROR": "The voice does not exist",
    "TIMEOUT": "The task took too long",
    "PAYMENT_REQUIRED": "The account has no credits left",
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,30}", re.ASCII)


class Api:
    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        # Coroutines, because Starlette would run plain functions in threads of its own.
        return [
            Route(BASE_PATH + "/tts-result/{run_id}", self._result, methods=_METHODS),
            Route(BASE_PATH + "/tts-results", self._results, methods=_METHODS),
        ]

    async def _result(self, request: Request) -> Response:
        _only(request, "GET")
        output_type = request.query_params.get("output_type", "raw_bytes")
        text = request.path_params["run_id"]
        run_id = int(text) if _INTEGER.fullmatch(text) else None
        await _admit(self._store, request, output_type, run_id)
        if run_id is None:
            raise invalid(["path", "run_id"], "Input should be a valid integer", "int_parsing")
        if output_type not in ("raw_bytes", "file_url"):
            raise invalid(["query", "output_type"], "Input should be 'raw_bytes' or 'file_url'", "enum")
        audio = self._known(run_id)
        if output_type == "file_url":
            return JSONResponse({"output_url": self._store.sign(run_id)})
        if self._store.profile.redirect:
            return RedirectResponse(self._store.redirection(run_id))
        return stream(request, audio, self._store.profile)

    async def _results(self, request: Request) -> Response:
        _only(request, "POST")
        await _admit(self._store, request, "bulk", None)
        profile = self._store.profile
        if profile.bulk == "absent":
            raise error(404, "Not Found")
        run_ids = _run_ids(await request.body())
        if profile.bulk == "fails":
            raise error(400, "Invalid run ids")
        return JSONResponse(self._bulk(run_ids, profile))

    def _bulk(self, run_ids: list[int], profile: Profile) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for run_id in run_ids:
            if run_id in self._store.results and run_id not in profile.forbidden:
                url = self._store.sign(run_id)
                answer[str(run_id)] = url if profile.bulk == "strings" else {"output_url": url}
            elif profile.bulk_unknown == "fail":
                raise error(400, "Invalid run id")
            elif profile.bulk_unknown != "omit":
                answer[str(run_id)] = None if profile.bulk_unknown == "null" else "Invalid run id"
        return answer

    def _known(self, run_id: int) -> Audio:
        """The run's audio. Raises Refused."""
        profile = self._store.profile
        if run_id in profile.forbidden:
            raise error(403, "Not allowed to read this run")
        try:
            return self._store.streamed(run_id)
        except KeyError:
            if profile.unknown_status == 422:
                raise invalid(["path", "run_id"], "Invalid run id", "value_error") from None
            raise error(profile.unknown_status, "Invalid run id") from None
        except OSError:
            raise error(500, "Failed to fetch the audio") from None


class Tasks:
    """POST begins a task of speech or of translated speech. GET tells its state until it has made a run."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        begin = [Route(f"{BASE_PATH}/{name}", self._begin, methods=_METHODS, name=name) for name in _ENDPOINTS]
        tell = [Route(f"{BASE_PATH}/{name}/{{id}}", self._tell, methods=_METHODS, name=name) for name in _ENDPOINTS]
        return [*begin, *tell]

    async def _begin(self, request: Request) -> Response:
        _only(request, "POST")
        await _admit(self._store, request, "begin", None)
        _check_text(await request.body())
        return JSONResponse({"task_id": self._store.begin_task(_endpoint(request))})

    async def _tell(self, request: Request) -> Response:
        _only(request, "GET")
        task_id = request.path_params["id"]
        await _admit(self._store, request, "task", task_id)
        task = self._store.tasks.get(task_id)
        if task is None or task.endpoint != _endpoint(request):
            raise self._unknown()
        return JSONResponse(self._report(task))

    def _unknown(self) -> Refused:
        status = self._store.profile.unknown_status
        if status == 422:
            return invalid(["path", "task_id"], "Invalid task id", "value_error")
        return error(status, "Invalid task id")

    def _report(self, task: Task) -> dict[str, Any]:
        status = self._store.status_of(task)
        run_id = task.run_id if status == "SUCCESS" else None
        return {"status": status, "run_id": run_id, "exception_reason": _REASONS.get(status), "message": None}


async def _admit(store: Store, request: Request, kind: str, thing: object) -> None:
    """Refuses a request without the key, and the first ones of their kind about a thing if the profile says so."""
    await asyncio.sleep(store.profile.latency_s)
    if request.headers.get("x-api-key") != store.key:
        raise Refused(JSONResponse({"error": "Invalid API key", "status": 401}, 401))
    if store.is_busy(kind, thing):
        raise error(429, "Too many requests", {"Retry-After": "0"})


def _only(request: Request, method: str) -> None:
    if request.method != method:
        raise error(405, "Method Not Allowed", {"Allow": method})


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


def _endpoint(request: Request) -> str:
    return request.url.path.removeprefix(f"{BASE_PATH}/").partition("/")[0]


def _check_text(body: bytes) -> None:
    """Raises Refused."""
    try:
        text = json.loads(body)["text"]
    except (ValueError, KeyError, TypeError):
        raise invalid(["body", "text"], "Field required", "missing") from None
    if not isinstance(text, str) or not text.strip():
        raise invalid(["body", "text"], "Input should be a valid string", "string_type")
