"""`cambfs doctor` and real mounts: one that responds, one that is stopped, and one whose daemon was killed."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.kernel.conftest import Mounted
from tests.kernel.harness import CAMBFS, Mount, environment, is_mounted, run, wait_until


def doctor(mount: Mount, *arguments: object) -> list[dict[str, Any]]:
    """The checks of mounts; those of other tests' are left out."""
    done = run([CAMBFS, "doctor", "--json", *map(str, arguments)], env=environment(mount.server, mount.home))
    assert not done.err
    checks = json.loads(done.out)["checks"]
    assert (done.status == 1) == any(check["state"] == "broken" for check in checks)
    found = [check for check in checks if check["group"] == "mounts"]
    # The home, and what is below it, is written as a user would.
    ours = str(mount.path).replace(str(mount.home), "~")
    return [check for check in found if check["check"] == "DIR" or check["found"].startswith(f"{ours}:")]


def only(mount: Mount, *arguments: object) -> tuple[str, str]:
    """State and remedy of the only line about the mount."""
    (check,) = doctor(mount, *arguments)
    return check["state"], check["remedy"]


def unmounting(mount: Mount) -> str:
    return f"cambfs unmount {mount.path}".replace(str(mount.home), "~")


def test_a_mount_that_answers(mounted: Mounted) -> None:
    with mounted() as mount:
        wait_until(lambda: only(mount, mount.path) == ("ok", ""), "the mount answers")
        wait_until(lambda: not doctor(mount), "all that respond are one line")


def test_a_mount_whose_daemon_was_killed(mounted: Mounted) -> None:
    with mounted() as mount:
        mount.status = -signal.SIGKILL
        mount.process.kill()
        mount.process.wait()
        assert is_mounted(mount.path), "a dead mount is left"
        for arguments in ([], [mount.path]):
            assert only(mount, *arguments) == ("broken", unmounting(mount))
        done = run([CAMBFS, "unmount", str(mount.path)])
        assert (done.status, done.err) == (0, "")
        assert only(mount, mount.path) == ("ok", ""), "cambfs can be mounted there"


def test_a_mount_that_hangs_holds_up_nothing(mounted: Mounted) -> None:
    with mounted() as mount:
        mount.process.send_signal(signal.SIGSTOP)
        try:
            assert only(mount) == ("warning", unmounting(mount))
            assert only(mount, mount.path) == ("broken", unmounting(mount))
        finally:
            mount.process.send_signal(signal.SIGCONT)
        wait_until(lambda: only(mount, mount.path) == ("ok", ""), "the mount answers again")


def test_what_a_mount_keeps_is_counted(mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run("cat 101.flac").status == 0
        mount.await_idle()
        wait_until(mount.cached_runs, "the result is cached")
        environ = environment(mount.server, mount.home, CAMBFS_CACHE_DIR=str(mount.cache_dir))
        done = run([CAMBFS, "doctor"], env=environ)
    assert b"results           1 of this account" in done.out
