"""The client's requests for a task, and what it makes of the responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import responses

from cambfs.errors import BadResponse, KeyRefused, RateLimited, ServerError, UnknownRun
from cambfs.http.client import Client
from cambfs.names import MAX_RUN_ID, RunId, TaskId
from cambfs.remote.source import PENDING, TaskKind, TaskReport

BASE = "https://client.camb.ai/apis"
KEY = "sk-very-secret-key"
TASK = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10")
SPEECH = f"{BASE}/tts/{TASK}"


@pytest.fixture
def api() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE, KEY, timeout_s=5) as made:
        yield made


def report(api: responses.RequestsMock, client: Client, content: Any) -> TaskReport:
    api.get(SPEECH, json=content)
    return client.task(TASK, TaskKind.SPEECH)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"status": "PENDING", "run_id": None}, PENDING),
        ({"status": "PENDING", "run_id": 7}, PENDING),
        ({"status": "SUCCESS", "run_id": 1477}, TaskReport(RunId(1477))),
        ({"status": "SUCCESS", "run_id": MAX_RUN_ID, "message": "x"}, TaskReport(RunId(MAX_RUN_ID))),
        ({"status": "ERROR", "run_id": None}, TaskReport(failure="ERROR")),
        ({"status": "ERROR", "exception_reason": "no voice", "message": "?"}, TaskReport(failure="ERROR: no voice")),
        ({"status": "TIMEOUT", "exception_reason": None, "message": "late"}, TaskReport(failure="TIMEOUT: late")),
        ({"status": "PAYMENT_REQUIRED", "run_id": 7}, TaskReport(failure="PAYMENT_REQUIRED")),
        ({"status": "ERROR", "exception_reason": {"detail": "a\x1b[2J\nb"}}, TaskReport(failure="ERROR: a b")),
        ({"status": "ERROR", "message": f"for {KEY}"}, TaskReport(failure="ERROR: for …")),
    ],
)
def test_a_documented_response(api: responses.RequestsMock, client: Client, content: Any, expected: TaskReport) -> None:
    assert report(api, client, content) == expected
    assert api.calls[0].request.headers["x-api-key"] == KEY


@pytest.mark.parametrize(
    "run_id", [None, 0, -1, MAX_RUN_ID + 1, 1.0, 1477.5, True, "1477", "", [1477], {"id": 1477}, 10**400]
)
def test_success_without_a_usable_run_id_is_an_error(api: responses.RequestsMock, client: Client, run_id: Any) -> None:
    with pytest.raises(BadResponse, match=f"^task {TASK}: the API says SUCCESS, but gave no usable run_id$"):
        report(api, client, {"status": "SUCCESS", "run_id": run_id})


@pytest.mark.parametrize("status", ["success", "RUNNING", "", None, 1, True, ["SUCCESS"], {}, f"x{KEY}"])
def test_an_unknown_status_is_an_error(api: responses.RequestsMock, client: Client, status: Any) -> None:
    with pytest.raises(BadResponse, match="no status that is known") as raised:
        report(api, client, {"status": status, "run_id": 1477})
    assert KEY not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b'"SUCCESS"', b"fLaC", b"<html>", b'{"run_id": 1477}'])
def test_a_response_that_is_no_report_is_an_error(api: responses.RequestsMock, client: Client, content: bytes) -> None:
    api.get(SPEECH, body=content)
    with pytest.raises(BadResponse):
        client.task(TASK, TaskKind.SPEECH)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UnknownRun),
        (404, UnknownRun),
        (422, UnknownRun),
        (401, KeyRefused),
        (429, RateLimited),
        (503, ServerError),
    ],
)
def test_the_statuses_of_http(api: responses.RequestsMock, client: Client, status: int, error: type[Exception]) -> None:
    api.get(f"{BASE}/translated-tts/{TASK}", json={"detail": "because"}, status=status)
    with pytest.raises(error, match=f"task {TASK}: the API says {status}: because"):
        client.task(TASK, TaskKind.TRANSLATED)
