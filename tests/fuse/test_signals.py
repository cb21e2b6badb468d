"""The signals of a mount, in a process of their own: they are blocked for good there."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import os, signal, threading, time
from cambfs.fuse.signals import Session

hung, ended = threading.Event(), threading.Event()

def hang():
    hung.set()
    time.sleep(1000)

Session().end_on_signals(ended.set, hang)
os.kill(os.getpid(), signal.SIGHUP)
assert hung.wait(20)
os.kill(os.getpid(), signal.SIGTERM)
os._exit(0 if ended.wait(20) else 1)
"""


def test_sigterm_ends_a_mount_that_still_follows_sighup() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], timeout=60, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
