from __future__ import annotations

import errno
import time
from concurrent.futures import Future
from pathlib import Path

from cambfs.mounts.probe import outcome, probe


def test_a_directory_responds() -> None:
    assert outcome(probe(Path("/")), time.monotonic() + 20) == 0
    assert outcome(probe(Path("/nowhere")), time.monotonic() + 20) == errno.ENOENT


def test_a_mount_that_hangs_has_no_outcome() -> None:
    assert outcome(Future(), time.monotonic()) is None
