from __future__ import annotations

import pytest

from cambfs.errors import (
    BadResponse,
    KeyRefused,
    RateLimited,
    RemoteError,
    ServerError,
    SignatureExpired,
    UnknownRun,
)
from cambfs.http.exceptions import api_error, storage_error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UnknownRun), (404, UnknownRun), (422, UnknownRun), (401, KeyRefused), (403, KeyRefused),
        (429, RateLimited), (408, ServerError), (500, ServerError), (503, ServerError), (599, ServerError),
        (402, BadResponse), (405, BadResponse), (410, BadResponse), (416, BadResponse), (304, BadResponse),
        (204, BadResponse), (999, BadResponse),
    ],
)  # fmt: skip
def test_statuses_of_the_api(status: int, kind: type[RemoteError]) -> None:
    error = api_error("text", status, 3.0)
    assert type(error) is kind
    assert (str(error), error.status, error.retry_after_s) == ("text", status, 3.0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "", SignatureExpired), (400, "ExpiredToken", SignatureExpired), (400, "", BadResponse),
        (404, "", BadResponse), (401, "", BadResponse), (416, "", BadResponse), (429, "", RateLimited),
        (503, "SlowDown", ServerError),
    ],
)  # fmt: skip
def test_statuses_of_storage(status: int, code: str, kind: type[RemoteError]) -> None:
    assert type(storage_error("text", status, code, None)) is kind
