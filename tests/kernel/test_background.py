"""`cambfs mount` in the background, `cambfs unmount`, and what a crash leaves, through a user's eyes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cambfs.demo.server import Server
from tests.kernel.harness import CAMBFS, KEY, Done, Mount, detach, environment, is_mounted, run, wait_until

Cambfs = Callable[..., Done]


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "camb"
    directory.mkdir()
    yield directory
    detach(directory)


@pytest.fixture
def cambfs(server: Server, tmp_path: Path, directory: Path) -> Cambfs:
    """Runs `cambfs COMMAND … DIRECTORY`, each a process of its own, as a shell would."""

    def call(*words: str) -> Done:
        command = [CAMBFS, *words, str(directory)]
        return run(command, env=environment(server, tmp_path), on_hang=lambda: detach(directory))

    return call


def _daemon(directory: Path) -> int:
    return int((directory / ".cambfs" / "pid").read_text())


def _is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_first_look_after_mounting_works(cambfs: Cambfs, server: Server, directory: Path, tmp_path: Path) -> None:
    wanted = server.results[101].read_bytes()
    for _ in range(3):
        done = cambfs("mount")
        assert (done.status, done.out, done.err) == (0, b"", "")
        assert (directory / "101.flac").stat().st_size == len(wanted)
        assert (directory / "101.flac").read_bytes() == wanted
        daemon = _daemon(directory)
        assert KEY not in Path(f"/proc/{daemon}/cmdline").read_text()
        assert cambfs("unmount").status == 0
        assert not is_mounted(directory)
        wait_until(lambda pid=daemon: not _is_alive(pid), "the daemon has ended")  # type: ignore[misc]
        assert list(directory.iterdir()) == []
    (log,) = tmp_path.glob(".local/state/cambfs/*.log")
    assert KEY not in log.read_text()
    assert "Traceback" not in log.read_text()
    assert server.count("stream", 101) == 1


def test_a_directory_is_mounted_once(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount").status == 0
    done = cambfs("mount")
    assert done.status == 1
    assert "mounted there already" in done.err
    assert done.err.count("\n") == 1
    assert (directory / "101.flac").stat().st_size > 0
    assert cambfs("unmount").status == 0


def test_a_wrong_key_is_refused_in_one_line(cambfs: Cambfs, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr("tests.kernel.harness.KEY", "wrong-key")
    done = cambfs("mount")
    assert done.status == 1
    assert "CAMB_API_KEY" in done.err
    assert done.err.count("\n") == 1
    assert "wrong-key" not in done.err
    assert not is_mounted(directory)


def test_what_a_crash_leaves_is_mended_by_unmounting(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount").status == 0
    daemon = _daemon(directory)
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: "not connected" in run(["ls", str(directory)]).err, "the mount is dead")
    assert cambfs("unmount").status == 0
    assert not is_mounted(directory)
    assert cambfs("mount").status == 0
    assert (directory / "101.flac").stat().st_size > 0
    assert cambfs("unmount").status == 0


def test_the_daemon_ends_on_sigterm(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount").status == 0
    daemon = _daemon(directory)
    os.kill(daemon, signal.SIGTERM)
    wait_until(lambda: not is_mounted(directory), "it has been unmounted")
    wait_until(lambda: not _is_alive(daemon), "the daemon has ended")


def test_the_signal_that_wakes_the_loop_never_kills(server: Server, tmp_path: Path) -> None:
    """It is sent until the loop has ended, so it may come at any later time, too."""
    with Mount(server, tmp_path) as mount:
        assert mount.run("ls -l; cat 101.flac > /dev/null").status == 0
        mount.process.send_signal(signal.SIGTERM)
        while mount.process.poll() is None:
            mount.process.send_signal(signal.SIGUSR1)
