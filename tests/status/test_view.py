"""The layout of `cambfs status`."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cambfs.status.view import view

CACHE = {"path": "/c", "bytes": 1024, "limit_bytes": 2048, "results": 1, "hits": 5, "misses": 6, "evictions": 7}
FULL = {**CACHE, "trouble": "No space left"}
ERROR = {"time": "T", "file": "7.flac", "operation": "open", "errno": "ENOENT", "what": "not \x1b[31m [bold]there"}
STATUS: dict[str, Any] = {
    "version": "9.9",
    "pid": 4711,
    "mount_point": "/mnt/[camb]",
    "base_url": "https://api.test",
    "uptime_s": 3725.5,
    "cache": CACHE,
    "transfers": [
        {"run_id": 1, "bytes": 300, "size": 1000, "bytes_per_s": 2048.0},
        {"run_id": 2, "bytes": 50, "size": None, "bytes_per_s": 0.0},
    ],
    "requests": {"stream": {"2xx": 3, "4xx": 1, "none": 2}, "sign": {"2xx": 4}},
    "tasks_awaited": 2,
    "received_bytes": 350,
    "retries": 8,
    "read_ahead": {"results": 4, "bytes": 2048, "unopened_results": 1, "unopened_bytes": 700},
    "shared": {
        "address": "valkey://farm:6379",
        "is_up": True,
        "since": "T",
        "for_s": 61.0,
        "reason": "",
        "facts": 9,
        "hits": 5,
        "followed": 6,
        "led": 7,
        "dropped": 0,
        "received_bytes": 3000,
        "sent_bytes": 1024,
    },
    "origins": [
        {"origin": "https://up.test", "is_open": False, "reason": "", "seconds_left": 0.0},
        {"origin": "https://down.test", "is_open": True, "reason": "refused", "seconds_left": 2.4},
    ],
    "runs_file": ["/runs.txt:2: 'x' is wrong; skipped"],
    "errors": [ERROR],
}


def _looks(status: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    with console.capture() as capture:
        console.print(view([status]))
    return capture.get()


@pytest.mark.parametrize(
    "words",
    [
        "/mnt/[camb]  cambfs 9.9, process 4711, mounted for 1 h 2 min",
        "1.0 KiB of 2.0 KiB, 1 result; hits 5, misses 6, evicted 7; /c",
        "stream 6 (1 4xx, 2 no response), sign 4",
        "350 bytes of audio; retries 8",
        "https://down.test: refused; tried again in 2 s",
        "for 2 tasks",
        "4 results, 2.0 KiB; 1 not opened, 700 bytes",
        "shared       valkey://farm:6379, up for 1 min 1 s; facts 9, hits 5, followed 6, led 7; received 2.9",
        "30 %",
        "300 bytes of 1000 bytes",
        "2.0 KiB/s",
        "runs file    /runs.txt:2: 'x' is wrong; skipped",
        r"7.flac  open ENOENT: not \x1b[31m [bold]there",
    ],
)
def test_everything_is_shown_as_it_is(words: str) -> None:
    assert words in _looks(STATUS)


def test_an_origin_that_nobody_needs_is_tried_at_the_next_request() -> None:
    down = {"origin": "https://down.test", "is_open": True, "reason": "refused", "seconds_left": 0.0}
    assert "https://down.test: refused; tried again at the next request" in _looks({**STATUS, "origins": [down]})


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"is_up": None}, "farm:6379, not needed yet; facts"),
        (
            {"is_up": False, "reason": "valkey://farm:6379: refused"},
            "down for 1 min 1 s: refused; results come from the API; facts",
        ),
        (
            {"refusal": "valkey://farm:6379: no memory is left", "refused_ago_s": 7.2},
            "up for 1 min 1 s, but it refused a new result 7 s ago: no memory is left; facts",
        ),
        ({"dropped": 1}, "sent 1.0 KiB; 1 result with a wrong seal dropped"),
    ],
)
def test_the_state_of_the_shared_cache_is_shown(changed: dict[str, Any], words: str) -> None:
    assert words in _looks({**STATUS, "shared": {**STATUS["shared"], **changed}})


def test_a_disk_that_takes_no_results_is_shown() -> None:
    words = "No space left; new results are not kept; check the disk, or name another with --cache-dir"
    assert words in _looks({**STATUS, "cache": FULL})
    assert "not cached" not in _looks({**STATUS, "cache": {**FULL, "trouble": ""}})


def test_what_is_not_the_case_is_not_shown() -> None:
    by_an_older_version = {
        name: value for name, value in STATUS.items() if name not in ("read_ahead", "runs_file", "shared")
    }
    nothing = {"transfers": [], "errors": [], "requests": {}, "tasks_awaited": 0}
    shown = _looks({**by_an_older_version, **nothing, "origins": STATUS["origins"][:1]})
    assert "https://up.test" not in shown
    assert not any(
        word in shown for word in ("downloads", "errors", "unreachable", "waiting", "ahead", "shared", "runs file")
    )
    assert "requests  none" in shown
