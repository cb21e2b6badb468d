"""The API's response about a task, as a TaskReport. Pure functions, no threads.

Texts in it come from a server that may be broken or hostile, and are cleaned as those of errors are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cambfs.errors import BadResponse
from cambfs.http import response_text
from cambfs.http.masking import Key
from cambfs.names import MAX_RUN_ID, RunId
from cambfs.remote.source import PENDING, TaskReport

_FAILED = ("ERROR", "TIMEOUT", "PAYMENT_REQUIRED")
_REASONS = ("exception_reason", "message")


def parse(found: Mapping[str, Any], what: str, hide: Key) -> TaskReport:
    """The state of the task `what`. Raises BadResponse when it is unknown, or success without a usable run id."""
    status = found.get("status")
    if status == "PENDING":
        return PENDING
    if status == "SUCCESS":
        return TaskReport(run_id=_run_id(found.get("run_id"), what))
    if status in _FAILED:
        return TaskReport(failure=response_text.with_words(status, _reason(found, hide)))
    words = response_text.words_of(status, hide)
    raise BadResponse(response_text.with_words(f"{what}: the API gave no status that is known", words), 200)


def _run_id(value: Any, what: str) -> RunId:
    # Exactly an integer: true and 1.0 equal one, and a text is not what the API documents.
    if type(value) is int and 1 <= value <= MAX_RUN_ID:
        return RunId(value)
    raise BadResponse(f"{what}: the API says SUCCESS, but gave no usable run_id", 200)


def _reason(found: Mapping[str, Any], hide: Key) -> str:
    texts = (response_text.words_of(found.get(name), hide) for name in _REASONS)
    return next(filter(None, texts), "")
