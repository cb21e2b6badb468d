"""The API's response about a task, as a TaskReport. Pure functions, no threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cambfs.errors import BadResponse
from cambfs.names import MAX_RUN_ID, RunId
from cambfs.remote.source import PENDING, TaskReport

_FAILED = ("ERROR", "TIMEOUT", "PAYMENT_REQUIRED")
_REASONS = ("exception_reason", "message")


def parse(found: Mapping[str, Any], what: str, words: Callable[[Any], str]) -> TaskReport:
    """The state of the task `what`. `words` cleans a value for one line, since the server may be broken or hostile.

    Raises BadResponse for an unknown status, and for success without a usable run id.
    """
    status = found.get("status")
    if status == "PENDING":
        return PENDING
    if status == "SUCCESS":
        return TaskReport(run_id=_run_id(found.get("run_id"), what))
    if status in _FAILED:
        reasons = (words(found.get(name)) for name in _REASONS)
        return TaskReport(failure=": ".join([status, *filter(None, reasons)][:2]))
    raise BadResponse(": ".join(filter(None, [f"{what}: the API gave no status that is known", words(status)])), 200)


def _run_id(value: Any, what: str) -> RunId:
    # Exactly an integer: true and 1.0 equal one, and a text is not what the API documents.
    if type(value) is int and 1 <= value <= MAX_RUN_ID:
        return RunId(value)
    raise BadResponse(f"{what}: the API says SUCCESS, but gave no usable run_id", 200)
