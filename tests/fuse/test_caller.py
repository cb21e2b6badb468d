"""`cambfs.fuse.interrupts`: callers that were killed, callers that were only interrupted, and unknown ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs.fuse.interrupts import is_killed

# It cannot take its signals, as one that waits in the kernel.
_WAITING = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def waiting() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", _WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGURG, signal.SIGCHLD, signal.SIGUSR1])
def test_a_harmless_signal_kills_nobody(waiting: subprocess.Popen[bytes], number: signal.Signals) -> None:
    waiting.send_signal(number)

    assert not is_killed(waiting.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_a_signal_that_kills_is_seen(waiting: subprocess.Popen[bytes], number: signal.Signals) -> None:
    waiting.send_signal(signal.SIGALRM)
    waiting.send_signal(number)

    assert is_killed(waiting.pid)


def test_who_is_gone_was_killed(waiting: subprocess.Popen[bytes]) -> None:
    waiting.kill()
    waiting.wait()

    assert is_killed(waiting.pid)


def test_who_is_in_another_pid_namespace_is_not_taken_for_killed() -> None:
    assert not is_killed(0)


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
@pytest.mark.parametrize("may_signal", [True, False])
def test_who_is_hidden_is_not_taken_for_killed(
    waiting: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, error: type[OSError], may_signal: bool
) -> None:
    """With `hidepid` there is no such file for those of other users."""

    def refuse(*_: object) -> str:
        raise error

    def refuse_to_signal(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        if not may_signal:
            patch.setattr(os, "kill", refuse_to_signal)
        response = is_killed(waiting.pid)

    assert not response
