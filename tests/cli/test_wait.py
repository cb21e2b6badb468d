"""`cambfs wait`, and `cambfs fetch` of tasks, against the embedded API."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from cambfs.demo.store import Task
from tests.api.faults import Fault
from tests.api.server import Server
from tests.cli.shell import LIMIT_S, Shell, complaint, names, until

TASK = "3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10"
OTHER = "3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a11"
_FOR_EVER_S = 1e9


@pytest.fixture(autouse=True)
def _no_other_tasks(api: Server) -> Iterator[None]:
    yield
    api.tasks.clear()
    for run_id in {*api.results} - {1, 2, 3}:
        del api.results[run_id]


def add(api: Server, task_id: str, takes_s: float = 0.0, outcome: str = "SUCCESS", endpoint: str = "tts") -> None:
    """A task that makes run 11, or another one 12."""
    api.tasks[task_id] = Task(endpoint, 11 if task_id == TASK else 12, api.results[1], takes_s, outcome)


def test_each_task_that_succeeds_is_a_line(shell: Shell, api: Server) -> None:
    add(api, TASK)
    add(api, OTHER, endpoint="translated-tts")
    done = shell("wait", TASK, OTHER.upper(), TASK)
    assert (done.returncode, done.stderr) == (0, "cambfs: 2 succeeded\n")
    assert sorted(done.stdout.splitlines()) == [f"{TASK} 11", f"{OTHER} 12"]
    assert api.count("task") == 3  # the second is asked for as speech first


def test_it_waits_for_a_pending_task(shell: Shell, api: Server) -> None:
    add(api, TASK, _FOR_EVER_S)
    with subprocess.Popen(
        [sys.executable, "-m", "cambfs", "wait", TASK], env=shell.environ, stdout=subprocess.PIPE, text=True
    ) as waiting:
        until(lambda: api.count("task") > 0, "the task is asked for")
        assert waiting.poll() is None
        api.tasks[TASK].takes_s = 0
        assert waiting.communicate(timeout=LIMIT_S)[0] == f"{TASK} 11\n"
    assert waiting.returncode == 0


def test_a_failure_tells_its_reason(shell: Shell, api: Server) -> None:
    outcomes = {f"{TASK[:-1]}{n}": outcome for n, outcome in enumerate(("ERROR", "TIMEOUT", "PAYMENT_REQUIRED"), 2)}
    for task_id, outcome in outcomes.items():
        add(api, task_id, outcome=outcome)
    add(api, OTHER)
    done = shell("wait", *outcomes, OTHER)
    assert (done.returncode, done.stdout) == (1, f"{OTHER} 12\n")
    *lines, last = done.stderr.splitlines()
    for task_id, outcome in outcomes.items():
        assert sum(line.startswith(f"cambfs: task {task_id}: {outcome}: The ") for line in lines) == 1
    assert (len(lines), last) == (3, "cambfs: 1 succeeded, 3 failed")


def test_an_unknown_task_is_a_failure(shell: Shell) -> None:
    done = shell("wait", TASK)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first == f"cambfs: task {TASK}: the API says 400: Invalid task id"
    assert last == "cambfs: 0 succeeded, 1 failed"


def test_the_time_is_over(shell: Shell, api: Server) -> None:
    add(api, TASK, _FOR_EVER_S)
    add(api, OTHER)
    done = shell("wait", "--timeout", "0.5", TASK, OTHER)
    assert (done.returncode, done.stdout) == (124, f"{OTHER} 12\n")
    assert done.stderr == "cambfs: 1 succeeded, 1 still pending\n"
    add(api, OTHER, outcome="ERROR")
    assert shell("wait", "--timeout", "0.5", TASK, OTHER).returncode == 1


def test_ctrl_c_ends_the_wait(shell: Shell, api: Server) -> None:
    add(api, TASK, _FOR_EVER_S)
    with subprocess.Popen(
        [sys.executable, "-m", "cambfs", "wait", TASK], env=shell.environ, stderr=subprocess.PIPE, text=True
    ) as waiting:
        until(lambda: api.count("task") > 0, "the task is asked for")
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=LIMIT_S)[1] == "cambfs: interrupted; 0 succeeded\n"
    assert waiting.returncode == 130


def test_what_is_no_task_is_a_mistake(shell: Shell, api: Server) -> None:
    assert "'1477' is not a task id" in complaint(shell("wait", "1477"), 2)
    assert "Missing argument" in complaint(shell("wait"), 2)
    assert "is not a time" in complaint(shell("wait", "--timeout", "soon", TASK), 2)
    assert api.count("task") == 0


def test_a_wrong_key_is_one_line(shell: Shell, api: Server) -> None:
    add(api, TASK)
    said = complaint(shell("wait", TASK, CAMB_API_KEY="another"), 1)
    assert f"task {TASK}: the API says 401" in said


def on_terminal(shell: Shell, *arguments: str, stdout: int | None = None) -> tuple[bytes, bytes, int]:
    """What a terminal shows, what a pipe at standard output gets, and the exit code. Without `stdout` that is the
    terminal, too."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    command = [sys.executable, "-m", "cambfs", *arguments]
    with subprocess.Popen(command, env=shell.environ, stdout=stdout or theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal reports so that its writers are gone
            while piece := os.read(ours, 4096):
                shown += piece
        os.close(ours)
        printed = b"" if process.stdout is None else process.stdout.read()
    return shown, printed, process.returncode


def test_a_terminal_gets_a_bar_and_a_pipe_the_lines(shell: Shell, api: Server) -> None:
    add(api, TASK)
    add(api, OTHER, outcome="ERROR")
    line = f"{TASK} 11".encode()
    shown, printed, status = on_terminal(shell, "wait", TASK, OTHER, stdout=subprocess.PIPE)
    assert (printed, status) == (line + b"\n", 1)
    assert b"2/2 tasks" in shown
    assert f"cambfs: task {OTHER}: ERROR: The voice does not exist".encode() in shown
    assert line not in shown
    shown, _, status = on_terminal(shell, "wait", TASK)
    assert re.search(rb"\r\x1b\[2K" + line + rb"\r\n", shown), shown  # the bar's line is cleared for it
    assert status == 0


def test_fetch_takes_tasks_beside_runs(shell: Shell, api: Server) -> None:
    add(api, TASK)
    add(api, OTHER)
    done = shell("fetch", f"1,{TASK.upper()}", OTHER, "-o", "out")
    assert (done.returncode, done.stderr) == (0, "cambfs: 3 fetched\n")
    assert names(shell.directory / "out") == ["1.flac", "11.flac", "12.flac"]
    assert (shell.directory / "out/11.flac").read_bytes() == api.results[1].read_bytes()
    assert shell("fetch", "-", given=f"{TASK}\n").stderr == "cambfs: 0 fetched, 1 already there\n"


def test_fetch_counts_tasks_without_a_run(shell: Shell, api: Server) -> None:
    add(api, TASK, outcome="ERROR")
    done = shell("fetch", "1", TASK, OTHER)
    assert (done.returncode, done.stdout) == (1, "1.flac: 300004 bytes\n")
    first, last = done.stderr.splitlines()
    assert first == f"cambfs: task {TASK}: ERROR: The voice does not exist"
    assert last == "cambfs: 1 fetched, 1 unknown, 1 failed; -v shows why"
    add(api, TASK, _FOR_EVER_S)
    done = shell("fetch", "--task-wait", "0.3", TASK)
    assert done.returncode == 1
    assert f"cambfs: task {TASK}: still pending" in done.stderr


def test_the_wait_goes_on_after_an_outage(shell: Shell, api: Server) -> None:
    add(api, TASK)
    api.fail(Fault("reset", "task", after_bytes=-1, times=2))
    assert shell("wait", TASK).stdout == f"{TASK} 11\n"
