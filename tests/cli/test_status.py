"""The layout of `cambfs status`, and its output without mounts. With mounts: tests/kernel/test_status."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cambfs.cli import run
from cambfs.cli.status_view import view
from cambfs.system import mount_table

CACHE = {"path": "/c", "bytes": 1024, "limit_bytes": 2048, "results": 1, "hits": 5, "misses": 6, "evictions": 7}
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
    "received_bytes": 350,
    "retries": 8,
    "read_ahead": {"results": 4, "bytes": 2048, "unopened_results": 1, "unopened_bytes": 700},
    "origins": [
        {"origin": "https://up.test", "is_open": False, "reason": "", "seconds_left": 0.0},
        {"origin": "https://down.test", "is_open": True, "reason": "refused", "seconds_left": 2.4},
    ],
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
        "4 results, 2.0 KiB; 1 not opened, 700 bytes",
        "https://down.test: refused; tried again in 2 s",
        "30 %",
        "300 bytes of 1000 bytes",
        "2.0 KiB/s",
        r"7.flac  open ENOENT: not \x1b[31m [bold]there",
    ],
)
def test_everything_is_shown_as_it_is(words: str) -> None:
    assert words in _looks(STATUS)


def test_an_origin_that_nobody_needs_is_tried_at_the_next_request() -> None:
    down = {"origin": "https://down.test", "is_open": True, "reason": "refused", "seconds_left": 0.0}
    assert "https://down.test: refused; tried again at the next request" in _looks({**STATUS, "origins": [down]})


def test_what_is_not_the_case_is_not_shown() -> None:
    by_an_older_version = {name: value for name, value in STATUS.items() if name != "read_ahead"}
    shown = _looks(
        {**by_an_older_version, "transfers": [], "errors": [], "requests": {}, "origins": STATUS["origins"][:1]}
    )
    assert "https://up.test" not in shown
    assert not any(word in shown for word in ("downloads", "errors", "unreachable", "ahead"))
    assert "requests  none" in shown


_MOUNTINFO = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:50 / /home/a ro - fuse.cambfs cambfs ro,user_id={uid},group_id=0
31 22 0:51 / /home/b\\040c ro - fuse.cambfs cambfs ro,user_id={uid},group_id=0
32 22 0:52 / /home/other ro - fuse.cambfs cambfs ro,user_id={other},group_id=0
33 22 0:53 / /home/sshfs rw - fuse.sshfs x rw,user_id={uid},group_id=0
34 22 0:54 / /home/a rw - tmpfs tmpfs rw
"""


def test_the_mounts_of_this_user_are_found(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(_MOUNTINFO.format(uid=os.getuid(), other=os.getuid() + 1))
    found = [mounted.directory for mounted in mount_table.own_mounts(mountinfo)]
    assert found == [Path("/home/b c")], "the first is covered by another"


def test_without_a_mount_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(mount_table, "own_mounts", list)
    for arguments, words in (([], "you have no mount"), ([str(tmp_path)], f"{tmp_path}: no cambfs mount is there")):
        assert run(["status", *arguments]) == 1
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert words in err


def test_watching_is_not_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--watch", "--json"]) == 2
    assert "exclude each other" in capsys.readouterr().err
