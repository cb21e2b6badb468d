"""Tasks: POST tts and translated-tts begin one, GET tells its state until it has made a run.

Runs in the server's thread.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cambfs.demo.api import BASE_PATH, METHODS, admit, only
from cambfs.demo.responses import Refused, error, invalid
from cambfs.demo.store import Store, Task

_ENDPOINTS = ("tts", "translated-tts")
_REASONS = {
    "ERROR": "The voice does not exist",
    "TIMEOUT": "The task took too long",
    "PAYMENT_REQUIRED": "The account has no credits left",
}


class Tasks:
    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        begin = [Route(f"{BASE_PATH}/{name}", self._begin, methods=METHODS, name=name) for name in _ENDPOINTS]
        tell = [Route(f"{BASE_PATH}/{name}/{{id}}", self._tell, methods=METHODS, name=name) for name in _ENDPOINTS]
        return [*begin, *tell]

    async def _begin(self, request: Request) -> Response:
        only(request, "POST")
        await admit(self._store, request, "begin", None)
        _check_text(await request.body())
        return JSONResponse({"task_id": self._store.begin_task(_endpoint(request))})

    async def _tell(self, request: Request) -> Response:
        only(request, "GET")
        task_id = request.path_params["id"]
        await admit(self._store, request, "task", task_id)
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
