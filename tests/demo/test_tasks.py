"""The demo API's tasks: begun, pending, over, unknown."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import requests

from cambfs.demo.server import Server
from cambfs.demo.store import Task
from tests.demo.asking import FLAC, KEY, LIMIT_S, get, set_profile, stream

PENDING = {"status": "PENDING", "run_id": None, "exception_reason": None, "message": None}
ENDPOINTS = ("tts", "translated-tts")


def begin(server: Server, endpoint: str = "tts", body: Any = None) -> requests.Response:
    body = {"text": "Hello", "voice_id": 1, "language": 1} if body is None else body
    return requests.post(f"{server.base_url}/{endpoint}", json=body, headers=KEY, timeout=LIMIT_S)


def ask(server: Server, task_id: str, endpoint: str = "tts") -> requests.Response:
    return get(f"{server.base_url}/{endpoint}/{task_id}")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_task_makes_a_run_that_exists_from_then_on(server: Server, endpoint: str) -> None:
    set_profile(server, task_s=1000.0)
    (task_id,) = begin(server, endpoint).json().values()
    assert str(uuid.UUID(task_id)) == task_id
    assert ask(server, task_id, endpoint).json() == PENDING
    assert stream(server, 3).status_code == 400
    server.tasks[task_id].takes_s = 0
    assert ask(server, task_id, endpoint).json() == {**PENDING, "status": "SUCCESS", "run_id": 3}
    assert stream(server, 3).content == FLAC


def test_every_task_makes_another_run(server: Server) -> None:
    set_profile(server, task_s=0.0)
    ids = [begin(server).json()["task_id"] for _ in range(3)]
    assert [ask(server, task_id).json()["run_id"] for task_id in ids] == [3, 4, 5]


@pytest.mark.parametrize("outcome", ["ERROR", "TIMEOUT", "PAYMENT_REQUIRED"])
def test_a_task_that_fails_tells_why_and_makes_no_run(server: Server, outcome: str) -> None:
    set_profile(server, task_s=0.0, task_outcome=outcome)
    told = ask(server, begin(server).json()["task_id"]).json()
    assert (told["status"], told["run_id"]) == (outcome, None)
    assert told["exception_reason"]
    assert list(server.results) == [1, 2]


def test_a_task_without_a_beginning_begins_with_the_first_question(server: Server) -> None:
    server.tasks["a"] = Task("tts", 7, server.results[1], takes_s=1000.0)
    assert server.tasks["a"].began_at is None
    assert ask(server, "a").json() == PENDING
    assert server.tasks["a"].began_at is not None


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_task_is_unknown_to_the_other_endpoint(server: Server, status: int) -> None:
    set_profile(server, unknown_status=status)
    task_id = begin(server).json()["task_id"]
    assert ask(server, task_id).status_code == 200
    assert ask(server, task_id, "translated-tts").status_code == status
    assert ask(server, str(uuid.uuid4())).status_code == status


@pytest.mark.parametrize("body", [{}, [], "text", {"text": ""}, {"text": 1}])
def test_a_task_without_a_text_is_refused(server: Server, body: Any) -> None:
    assert begin(server, body=body).status_code == 422
    assert server.tasks == {}


def test_a_task_needs_the_key_and_the_right_method(server: Server) -> None:
    url = f"{server.base_url}/tts"
    assert requests.post(url, json={"text": "x"}, timeout=LIMIT_S).status_code == 401
    assert requests.get(f"{url}/a", timeout=LIMIT_S).status_code == 401
    assert get(url).status_code == 405
    assert requests.post(f"{url}/a", headers=KEY, timeout=LIMIT_S).status_code == 405


def test_a_busy_api_refuses_the_first_questions_about_a_task(server: Server) -> None:
    set_profile(server, busy=1)
    server.tasks["a"] = Task("tts", 7, server.results[1])
    assert [ask(server, "a").status_code for _ in range(2)] == [429, 200]
