"""A mount that an automounter makes when somebody first looks, as `x-systemd.automount` in fstab does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.api.server import Server
from tests.kernel.harness import CAMBFS, detach, environment, run

_AUTOMOUNTER = str(Path(__file__).with_name("automounter.py"))
_HELPER = str(Path(CAMBFS).with_name("mount.cambfs"))
_LIMIT_S = 60.0


@contextmanager
def _automounted(server: Server, directory: Path, options: str) -> Iterator[None]:
    """`directory` is mounted at the first use. Nothing can be reached in it any more when that has ended."""
    command = [sys.executable, _AUTOMOUNTER, str(directory), _HELPER, "cambfs", str(directory), "-o", options]
    with subprocess.Popen(
        command, env=environment(server, directory.parent), stdout=subprocess.PIPE, start_new_session=True
    ) as automounter:
        try:
            assert automounter.stdout is not None
            assert automounter.stdout.readline() == b"ready\n"
            yield
        finally:
            automounter.kill()
            automounter.wait(_LIMIT_S)
            detach(directory)


# No other user can mount autofs, and not every kernel has it.
if os.geteuid() == 0 and "\tautofs\n" in Path("/proc/filesystems").read_text():

    def test_the_first_look_mounts(server: Server, tmp_path: Path) -> None:
        directory = tmp_path / "camb"
        directory.mkdir()
        with _automounted(server, directory, "noauto,_netdev,x-systemd.automount,runs=101"):
            done = run(f"ls {directory}; cat {directory}/101.flac", limit_s=_LIMIT_S)
            assert (done.status, done.err) == (0, ""), done
            assert done.out == b"101.flac\n101.url\n" + server.results[101].read_bytes()
            assert run([CAMBFS, "unmount", str(directory)]).status == 0
