"""`cambfs unmount`: mounts in use, dead mounts, other users' and other programs' mounts."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs.errors import ConfigError
from cambfs.mounts import mount_table, unmount
from cambfs.mounts.mount_table import Mounted
from tests.cli.shell import LIMIT_S, Shell, complaint, is_running, until


def test_a_dead_mount_can_be_unmounted(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    os.kill(shell.daemon(), signal.SIGKILL)
    until(lambda: not is_running(shell.daemon()))
    assert shell("unmount", "mnt").returncode == 0
    assert mount_table.mounted_at(shell.mountpoint) is None


def test_unmounting_ends_who_has_a_file_open(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    process = shell.daemon()
    fd = os.open(shell.mountpoint / "1.flac", os.O_RDONLY)
    try:
        assert os.pread(fd, 4, 0) == b"fLaC"
        assert shell("unmount", "mnt").returncode == 0
        assert mount_table.mounted_at(shell.mountpoint) is None
        until(lambda: not is_running(process), "the process of the mount has not ended")
        with pytest.raises(OSError, match="not connected"):
            os.fstat(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


HIDDEN = "import ctypes, sys; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print('ready', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def hidden_process(*arguments: str) -> Iterator[int]:
    """A process that is not dumpable, as a mount is, with these arguments."""
    python = Path(sys.executable).resolve()  # not by a path that has the name of a checkout in it
    command = [str(python), "-c", HIDDEN, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.kill()


def test_a_user_who_cannot_see_the_open_files_of_a_mount_finds_it_all_the_same() -> None:
    with hidden_process("cambfs", "mount") as ours, hidden_process("sshfs") as other:
        if os.geteuid() == 0:
            assert not unmount._is_daemon(ours)  # root sees that /dev/fuse is not open
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(unmount, "_open_files", refuse_to_list)
            assert unmount._is_daemon(ours)
            assert not unmount._is_daemon(other)
            patch.setattr(os, "geteuid", lambda: 12345)
            assert not unmount._is_daemon(ours)


def refuse_to_list(_: int) -> Iterator[str]:
    raise PermissionError(13, "Permission denied")


def test_unmounting_lazily_lets_them_go_on(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    process = shell.daemon()
    with (shell.mountpoint / "1.flac").open("rb") as file:
        assert shell("unmount", "--lazy", "mnt").returncode == 0
        assert mount_table.mounted_at(shell.mountpoint) is None
        assert len(file.read()) == 300_004
        assert is_running(process)
    until(lambda: not is_running(process), "the process of the mount has not ended")


def test_where_nothing_is_mounted_nothing_is_unmounted(shell: Shell) -> None:
    assert "nothing is mounted there" in complaint(shell("unmount", "mnt"))
    assert "nothing is mounted there" in complaint(shell("unmount", "none"))


def test_a_foreign_mount_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmount, "mounted_at", lambda _: Mounted(tmp_path, "fuse.sshfs", "0:50"))
    monkeypatch.setattr(unmount, "_detach", lambda *_, **__: pytest.fail("unmounted"))
    with pytest.raises(ConfigError, match=r"not a cambfs mount \(fuse.sshfs\); it is left alone"):
        unmount.unmount(tmp_path)


@pytest.mark.parametrize(("uid", "owner"), [(0, "user root"), (4_000_000_000, "uid 4000000000")])
def test_another_users_mount_is_left_alone_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, owner: str
) -> None:
    mounted = Mounted(tmp_path, "fuse.cambfs", "0:50", ("ro", f"user_id={uid}", "group_id=0"))
    monkeypatch.setattr(unmount, "mounted_at", lambda _: mounted)
    monkeypatch.setattr(unmount, "_detach", lambda *_, **__: pytest.fail("unmounted"))
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    for lazy in (True, False):
        with pytest.raises(ConfigError, match=f"was mounted by {owner}; only that user and root can unmount it"):
            unmount.unmount(tmp_path, lazy=lazy)


def test_umount_is_the_same_command(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    assert shell("umount", "mnt").returncode == 0
    assert mount_table.mounted_at(shell.mountpoint) is None
    assert "see: cambfs umount --help" in complaint(shell("umount"), 2)
    assert "umount " not in shell("--help").stdout.replace("unmount", "")


@pytest.mark.parametrize(
    ("fusermount", "umount", "said"),
    [
        ("true", "false", ""),
        ("echo failed to open /etc/mtab >&2; false", "true", ""),
        ("echo failed to open /etc/mtab >&2; false", "echo not root >&2; false", "failed to open /etc/mtab"),
        ("echo Device or resource busy >&2; false", "true", "Device or resource busy"),
        ("false", "false", "fusermount3 failed"),
        (None, "true", ""),
        (None, None, "apt install fuse3"),
    ],
)
def test_a_user_unmounts_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusermount: str | None, umount: str | None, said: str
) -> None:
    for name, script in (("fusermount3", fusermount), ("umount", umount)):
        if script is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        words = unmount._detach_as_user(Path("/nowhere"), lazy=False)
    except ConfigError as error:
        words = str(error)
    assert words.endswith(said)
    assert bool(words) == bool(said)


def test_unmounting_ends_a_mount_in_the_foreground(shell: Shell) -> None:
    process = shell.start("mount", "-f", "mnt", awaiting="Ctrl-C unmounts")
    assert shell("unmount", "mnt").returncode == 0
    assert process.wait(LIMIT_S) == 0
