from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# In a process of its own: what forks here must have no threads, and must not be the test runner.
_PROGRAM = """
import json, os, signal, sys, time
from pathlib import Path
from cambfs.system import daemon, signals
from cambfs.errors import ConfigError, LinkError

daemon._RESPONSE_TIMEOUT_S = {response_timeout}
daemon._START_TIMEOUT_S = {start_timeout}
directory = Path(sys.argv[1])
inherited = os.open("/dev/zero", os.O_RDONLY)
os.set_inheritable(inherited, True)

def stay():
    while True:
        signal.pause()

def work(report):
    (directory / "pid").write_text(str(os.getpid()))
{work}

def is_mounted():
{is_mounted}

try:
    daemon.start(work, is_mounted, lambda text: print("warning:", text), directory / "log")
    print("returned")
except ConfigError as error:
    print("error:", error)
"""


def start(
    directory: Path, work: str, is_mounted: str = "return True", start_timeout: float = 20, response_timeout: float = 20
) -> subprocess.CompletedProcess[str]:
    indented = ["\n".join("    " + line for line in part.strip("\n").split("\n")) for part in (work, is_mounted)]
    timeouts = {"start_timeout": start_timeout, "response_timeout": response_timeout}
    program = _PROGRAM.format(work=indented[0], is_mounted=indented[1], **timeouts)
    return subprocess.run([sys.executable, "-c", program, directory], capture_output=True, text=True, timeout=60)


def child(directory: Path) -> int:
    return int((directory / "pid").read_text())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True)
def _ended(tmp_path: Path) -> Iterator[None]:
    """Leftover children are ended."""
    yield
    if (tmp_path / "pid").exists() and is_running(child(tmp_path)):
        os.kill(child(tmp_path), signal.SIGKILL)


def test_it_returns_when_the_child_is_ready_and_the_child_has_left_the_terminal(tmp_path: Path) -> None:
    done = start(
        tmp_path,
        """
report.ready()
facts = {
    "leads": os.getsid(0) == os.getpid(),
    "cwd": os.getcwd(),
    "stdio": [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)],
    "inherited": any(os.readlink(f"/proc/self/fd/{fd}") == "/dev/zero" for fd in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{fd}")),
}
(directory / "new").write_text(json.dumps(facts))
(directory / "new").rename(directory / "facts")
stay()
""",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("returned\n", "", 0)
    until((tmp_path / "facts").exists)
    info = json.loads((tmp_path / "facts").read_text())
    assert info["leads"]
    assert info["cwd"] == "/"
    assert info["stdio"] == ["/dev/null", "/dev/null", str(tmp_path / "log")]
    assert not info["inherited"]
    assert is_running(child(tmp_path))


def test_the_child_is_of_the_same_process_group_until_it_is_ready(tmp_path: Path) -> None:
    """An automounter knows by the group which processes may reach the mount point."""
    work = 'if os.getpgrp() == os.getpid():\n    raise ConfigError("left too early")\nreport.ready()\nstay()'
    assert start(tmp_path, work).stdout == "returned\n"


def test_it_does_not_return_before_the_tree_responds(tmp_path: Path) -> None:
    done = start(
        tmp_path,
        'report.ready()\n(directory / "tree").touch()\nstay()',
        'there = (directory / "tree").exists()\nprint("asked")\nreturn there',
    )
    assert done.stdout.endswith("asked\nreturned\n")


def test_an_error_of_the_child_is_raised_with_what_was_said_about_it(tmp_path: Path) -> None:
    done = start(tmp_path, 'os.write(2, b"fuse: first\\nfuse: no such option\\n\\n")\nraise ConfigError("no mount")')
    assert done.stdout == "error: no mount (fuse: no such option)\n"
    assert done.stderr == ""
    assert not is_running(child(tmp_path))


def test_warnings_reach_the_user(tmp_path: Path) -> None:
    done = start(tmp_path, 'report.warn("one\\ntwo")\nreport.warn("ü")\nraise ConfigError("end")')
    assert done.stdout == "warning: one\ntwo\nwarning: ü\nerror: end\n"


@pytest.mark.parametrize("work", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "return", "sys.exit(1)"])
def test_a_child_that_ends_early_is_an_error_that_names_the_log(tmp_path: Path, work: str) -> None:
    done = start(tmp_path, work)
    assert done.stdout == f"error: the mount ended before it was ready; its log is {tmp_path / 'log'}\n"


def test_an_unexpected_exception_is_one_line(tmp_path: Path) -> None:
    done = start(tmp_path, 'raise RuntimeError("boom")')
    assert done.stdout == f"error: unexpected RuntimeError: boom; the log is {tmp_path / 'log'}\n"
    assert done.stderr == ""


@pytest.mark.parametrize("is_mounted", ["return False", 'raise OSError("dead")', "stay()"])
def test_a_tree_that_does_not_respond_ends_the_child(tmp_path: Path, is_mounted: str) -> None:
    done = start(
        tmp_path, "report.ready()\nstay()", is_mounted.replace("stay()", "time.sleep(60)"), response_timeout=0.3
    )
    assert done.stdout.startswith("error: the mount did not respond")
    assert not is_running(child(tmp_path))


def test_a_child_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    done = start(tmp_path, "stay()", start_timeout=1)
    assert done.stdout == "error: the mount was not ready after 1 s; it was stopped\n"
    assert not is_running(child(tmp_path))


def test_a_child_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    work = "signals.keep_signals_out()\nreport.ready()\nstay()"
    program = "daemon._END_TIMEOUT_S = 0.1\nreturn False"
    done = start(tmp_path, work, program)
    assert done.stdout.startswith("error: the mount did not respond")
    assert not is_running(child(tmp_path))


_UNWINDING = """
import os, signal, sys
from cambfs.system.signals import ending_on_signals
try:
    with ending_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
finally:
    print("tidied up")
"""


def test_sigterm_unwinds(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _UNWINDING], capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("tidied up\n", 128 + signal.SIGTERM)
