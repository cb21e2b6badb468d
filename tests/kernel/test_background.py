"""`cambfs mount` in the background, `cambfs unmount`, and the leftovers of a crash, as a user sees them."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cambfs.mounts import mountpoint
from tests.api.server import Server
from tests.kernel.harness import (
    CAMBFS,
    KEY,
    Done,
    Mount,
    detach,
    environment,
    is_mounted,
    mounts_below,
    run,
    wait_until,
)

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


def test_unmounting_below_open_files_leaves_nothing_in_the_log(cambfs: Cambfs, directory: Path, tmp_path: Path) -> None:
    for _ in range(3):
        assert cambfs("mount").status == 0
        file = os.open(directory / "101.flac", os.O_RDONLY)
        assert os.read(file, 4) == b"fLaC"
        assert cambfs("unmount").status == 0
        assert not is_mounted(directory)
        with suppress(OSError):  # the mount has gone
            os.close(file)
    (log,) = tmp_path.glob(".local/state/cambfs/*.log")
    assert "failed to unmount" not in log.read_text()


def test_a_directory_is_mounted_once(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount").status == 0
    done = cambfs("mount")
    assert done.status == 1
    assert "already mounted there" in done.err
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


# Other mounts, other mount namespaces, and several at once.


@pytest.mark.parametrize("more", [[], ["--mkdir"]])
def test_of_several_mounts_at_once_one_wins_and_the_others_say_so(
    cambfs: Cambfs, server: Server, tmp_path: Path, directory: Path, more: list[str]
) -> None:
    command = [CAMBFS, "mount", *more, str(directory)]
    for _ in range(2):
        if more:
            directory.rmdir()
        processes = [
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(server, tmp_path))
            for _ in range(4)
        ]
        said = [process.communicate(timeout=60)[1] for process in processes]
        statuses = [process.returncode for process in processes]

        assert sorted(statuses) == [0, 1, 1, 1], said
        assert mounts_below(directory) == [directory]
        for words in (words for status, words in zip(statuses, said, strict=True) if status):
            assert "another cambfs is mounting there" in words or "already mounted there" in words
            assert words.count("\n") == 1
        assert (directory / "101.flac").stat().st_size > 0
        assert cambfs("unmount").status == 0


def test_what_was_made_is_not_removed_from_under_another_mount(tmp_path: Path) -> None:
    """The process that made the directory may lose the race for it."""
    directory = tmp_path / "made"
    with ExitStack() as winner:
        with mountpoint.made(directory, keep=False):
            winner.enter_context(mountpoint.claimed(directory))
        assert directory.is_dir()
    directory.rmdir()
    with mountpoint.made(directory, keep=False):
        assert directory.is_dir()
    assert not directory.exists()


# All that Python takes for the end of a line, and all that the kernel escapes.
_ODD = "odd\r\v\f\x1c\x1d\x1e\x85\u2028\u2029 \t\n\\\udcff"


def test_mount_points_may_have_any_name(cambfs: Cambfs, server: Server, tmp_path: Path, directory: Path) -> None:
    odd = tmp_path / _ODD
    odd.mkdir()
    env = environment(server, tmp_path)
    try:
        assert run([CAMBFS, "mount", str(odd)], env=env).status == 0
        assert (odd / "101.flac").stat().st_size > 0
        assert cambfs("mount").status == 0, "beside it"
        assert cambfs("unmount").status == 0
        assert not is_mounted(directory)
        done = run([CAMBFS, "mount", str(odd)], env=env)
        assert (done.status, done.err.count("\n")) == (1, 1)
        assert "already mounted there" in done.err
    finally:
        assert run([CAMBFS, "unmount", str(odd)], env=env).status == 0
    assert list(odd.iterdir()) == []


def test_unmounting_ends_the_daemon_though_another_namespace_has_a_copy(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount").status == 0
    daemon = _daemon(directory)
    namespace = [
        "unshare",
        "-m" if os.geteuid() == 0 else "-rm",
        "sh",
        "-c",
        'echo; read -r _; ls "$0"',
        str(directory),
    ]
    with subprocess.Popen(
        namespace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "\n"
        done = cambfs("unmount")

        assert (done.status, done.err) == (0, "")
        assert not _is_alive(daemon)
        assert "not connected" in other.communicate("\n", timeout=20)[1]


def test_mounting_where_a_mount_hangs_is_refused(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount", "--runs", "101").status == 0
    daemon = int((directory / ".cambfs" / "pid").read_text())
    os.kill(daemon, signal.SIGSTOP)
    try:
        done = cambfs("mount")
    finally:
        os.kill(daemon, signal.SIGCONT)
    words = f"cambfs: {directory}: cambfs is already mounted there; to unmount it: cambfs unmount {directory}\n"
    assert (done.status, done.err) == (1, words)


def test_a_mount_that_hangs_can_be_unmounted(cambfs: Cambfs, directory: Path) -> None:
    assert cambfs("mount").status == 0
    daemon = _daemon(directory)
    os.kill(daemon, signal.SIGSTOP)
    try:
        done = cambfs("unmount")
        assert not is_mounted(directory)
    finally:
        os.kill(daemon, signal.SIGCONT)
    words = f"cambfs: {directory}: unmounted, but its process hangs; find it with: pgrep -af cambfs\n"
    assert (done.status, done.err) == (1, words)
    wait_until(lambda: not _is_alive(daemon), "the daemon has ended")


def test_a_tree_that_root_made_writable_refuses_writes_all_the_same(server: Server, tmp_path: Path) -> None:
    with Mount(server, tmp_path) as mount:
        if os.geteuid() == 0:  # other users cannot
            assert run(["mount", "-i", "-o", "remount,rw", str(mount.path)]).status == 0
        file, new = mount.path / "101.flac", mount.path / "new"
        writes: list[Callable[[], object]] = [
            lambda: file.write_bytes(b"x"),
            lambda: os.open(file, os.O_RDWR),
            lambda: os.truncate(file, 0),
            lambda: os.utime(file),
            lambda: file.chmod(0o600),
            lambda: os.chown(file, 0, 0),
            file.unlink,
            lambda: file.rename(new),
            lambda: new.symlink_to(file),
            lambda: new.hardlink_to(file),
            new.touch,
            new.mkdir,
            lambda: os.mkfifo(new),
            lambda: (mount.path / ".cambfs").rmdir(),
            lambda: os.setxattr(file, "user.a", b""),
            lambda: os.removexattr(file, "user.a"),
        ]
        for number, write in enumerate(writes):
            with pytest.raises(OSError, match="Read-only file system") as failed:
                write()
            assert failed.value.errno == errno.EROFS, number
        assert len(file.read_bytes()) == file.stat().st_size == server.results[101].stat().st_size
