"""`cambfs cache`, without a mount."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import pytest

from tests.api.server import Server
from tests.cli.shell import KEY, LIMIT_S, Shell, complaint
from tests.shared.servers import running
from tests.waiting import eventually


def test_the_cache_is_listed_without_key_and_network(shell: Shell) -> None:
    shell("fetch", "2,1")
    offline = {"CAMB_API_KEY": "", "CAMB_BASE_URL": "http://127.0.0.1:9"}
    lines = shell("cache", "list", **offline).stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["1", "293.0", "KiB"], ["2", "293.0", "KiB"]]
    assert lines[3] == f"2 results, 585.9 KiB in {shell.directory}/home/.cache/cambfs"


def test_ctrl_c_at_a_question_ends_its_line(shell: Shell) -> None:
    shell("fetch", "1")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cambfs", "cache", "clear"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=shell.environ,
        start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, theirs, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = b""
    try:
        while b"]: " not in shown:
            shown += os.read(ours, 4096)
        while process.poll() is None:  # Python misses one that comes just before it begins to read
            os.write(ours, b"\x03")
            with contextlib.suppress(OSError):  # the end, on a terminal
                while select.select([ours], [], [], 1.0)[0] and (piece := os.read(ours, 4096)):
                    shown += piece
    finally:
        os.close(ours)
    assert process.wait(LIMIT_S) == 130
    assert re.match(rb"(\^C)+\r\n", shown.split(b"]: ")[1])


def test_an_empty_cache_is_no_error(shell: Shell) -> None:
    for command in ("list", "verify", "clear"):
        done = shell("cache", command)
        assert (done.returncode, done.stderr) == (0, "")
        assert "0 results, 0 bytes" in done.stdout


def cached(shell: Shell, run_id: int) -> Path:
    (found,) = (shell.directory / "home/.cache/cambfs").glob(f"*/{run_id}.flac")
    return found


def test_verify_finds_a_damaged_result_and_removes_it(shell: Shell) -> None:
    shell("fetch", "1-2")
    done = shell("cache", "verify")
    assert done.returncode == 0
    assert done.stdout.startswith("2 right; 2 results")
    damaged = cached(shell, 1)
    with damaged.open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    done = shell("cache", "verify")
    assert done.returncode == 1
    assert "run 1: the cached file is damaged; removed" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 right, 1 damaged and removed; 1 result, 293.0 KiB in ")
    assert not damaged.exists()
    assert cached(shell, 2).exists()


def test_clear_asks_first(shell: Shell) -> None:
    shell("fetch", "1-2")
    assert "nothing was removed: there is no terminal" in shell("cache", "clear").stderr
    command = [sys.executable, "-m", "cambfs", "cache", "clear"]
    declined = subprocess.run(command, input="n\n", env=shell.environ, capture_output=True, text=True, timeout=LIMIT_S)
    assert declined.returncode == 1
    assert cached(shell, 1).exists()
    assert shell("cache", "clear", "--yes").stdout == "removed 2 results, 585.9 KiB\n"
    assert "0 results" in shell("cache", "list").stdout


def test_a_cache_that_cannot_be_read_is_one_line(shell: Shell) -> None:
    (shell.directory / "file").touch()
    assert "cannot use the cache directory" in complaint(shell("cache", "list", "--cache-dir", "file"))


def test_runs_are_cleared_without_a_question(shell: Shell) -> None:
    shell("fetch", "1-3")
    done = shell("cache", "clear", "1-2", "77")
    assert (done.returncode, done.stdout) == (0, "removed 2 results, 585.9 KiB; 1 not in the cache\n")
    assert shell("cache", "clear", "3").stdout == "removed 1 result, 293.0 KiB\n"
    assert "'x' is not a run id" in complaint(shell("cache", "clear", "x"), 2)


def test_the_list_tells_accounts_apart_and_shows_no_key(shell: Shell, api: Server) -> None:
    shell("fetch", "1")
    shell("fetch", "1-2", "--base-url", api.base_url.replace("127.0.0.1", "localhost"))
    lines = [line.split() for line in shell("cache", "list").stdout.splitlines()]
    assert lines[0][-1] == "ACCOUNT"
    assert [line[0] for line in lines[1:4]] == ["1", "1", "2"]
    accounts = [line[-1] for line in lines[1:4]]
    assert len(set(accounts)) == 2
    listed = shell("cache", "list", "--json").stdout
    assert KEY not in listed
    results = json.loads(listed)
    assert [(one["run"], one["size"], one["account"]) for one in results] == [
        (int(line[0]), 300_004, line[-1]) for line in lines[1:4]
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["last_used"]) for one in results)
    shell("cache", "clear", "-y")
    assert json.loads(shell("cache", "list", "--json").stdout) == []


def test_refresh_downloads_again(shell: Shell, api: Server) -> None:
    shell("fetch", "1-3")
    api.forget()
    done = shell("cache", "refresh", "1-2")
    assert (done.returncode, done.stderr) == (0, "cambfs: 2 fetched\n")
    assert api.count("stream") == 2
    assert shell("fetch", "1-3").stderr == "cambfs: 0 fetched, 3 already there\n"


def test_refresh_takes_nothing_from_a_shared_cache(shell: Shell, api: Server, tmp_path: Path) -> None:
    with running("redis", tmp_path) as engine:
        shared = {"CAMBFS_SHARED_CACHE": f"valkey://127.0.0.1:{engine.port}"}
        shell("fetch", "1-2", **shared)
        eventually(lambda: engine.admin.keys("*1}:f") and engine.admin.keys("*2}:f"))
        engine.admin.delete(*engine.admin.keys("*2}:*"))
        api.forget()
        done = shell("cache", "refresh", "1", **shared)
        assert (done.returncode, done.stderr) == (0, "cambfs: 1 fetched\n")
        assert api.count("stream") == 1
        eventually(lambda: engine.admin.keys("*1}:f"))
        engine.admin.execute_command("ACL", "SETUSER", "default", "-unlink")
        done = shell("cache", "refresh", "1", **shared)
        assert "permissions" in done.stderr or "no response" in done.stderr, "why the results stay"
        api.forget()
    done = shell("cache", "refresh", "1", **shared)  # the engine is gone
    assert (done.returncode, api.count("stream")) == (0, 1)
    assert "cambfs: warning: the results stay in the shared cache: valkey://" in done.stderr
    assert "Connection refused; refresh them again when that is mended" in done.stderr


@pytest.mark.parametrize("wrong", [{"CAMB_BASE_URL": "http://127.0.0.1:9/apis"}, {"CAMB_API_KEY": "wrong"}])
def test_refresh_removes_nothing_when_the_api_does_not_answer(shell: Shell, wrong: dict[str, str]) -> None:
    shell("fetch", "1", "--timeout", "1", **wrong)
    (directory,) = (shell.directory / "home/.cache/cambfs").iterdir()
    for name in ("1.flac", "1.json"):
        (directory / name).write_text("{}")
    complaint(shell("cache", "refresh", "1", "--timeout", "3", **wrong))
    assert (directory / "1.flac").exists()


def test_refreshing_nothing_is_refused(shell: Shell) -> None:
    assert "Missing argument 'RUN...'" in complaint(shell("cache", "refresh"), 2)
    assert "nowhere to fetch to" in complaint(shell("cache", "refresh", "1", "--no-disk-cache"), 2)
