"""A machine that sleeps while a mount lives."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.api.server import Server
from tests.kernel.harness import Mount

# `cambfs`, on a machine that has slept for as many seconds as a file has bytes.
_PROGRAM = """
import os, sys, time
now_s = time.clock_gettime
time.clock_gettime = lambda clock: now_s(clock) + os.stat(sys.argv[1]).st_size * (clock == time.CLOCK_BOOTTIME)
from cambfs.cli import main
main(sys.argv[2:])
"""


def test_a_url_that_expired_in_suspend_is_signed_anew(server: Server, tmp_path: Path) -> None:
    slept = tmp_path / "slept"
    slept.touch()
    with Mount(server, tmp_path / "home", command=[sys.executable, "-c", _PROGRAM, str(slept)]) as mount:
        first, second = mount.run(["cat", "101.url"]).out, mount.run(["cat", "101.url"]).out
        slept.write_bytes(bytes(2 * 3600))
        third = mount.run(["cat", "101.url"]).out

        assert json.loads(first) == json.loads(second)
        assert json.loads(third).keys() == {"output_url"}
        assert json.loads(third) != json.loads(first)
