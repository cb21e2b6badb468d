"""Whether this machine and user can mount. No mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cambfs.errors import ConfigError
from cambfs.mounts import libfuse, mountpoint


def test_missing_parts_of_fuse_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "may_mount", lambda: False)
    with pytest.raises(ConfigError, match="modprobe fuse"):
        libfuse.check(device=tmp_path / "fuse")
    device = tmp_path / "device"
    device.touch()
    libfuse.check(device=device)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 4_000_000_000)
        with pytest.raises(ConfigError, match="add uid 4000000000 to /etc/passwd, or mount as root"):
            libfuse.check(device=device)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match="apt install fuse3"):
        libfuse.check(device=device)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    with pytest.raises(ConfigError, match=r"libfuse is missing; as root: apt install fuse3, dnf .*, or pacman "):
        libfuse.check(device=device)


def test_a_device_that_may_not_be_opened_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="Permission denied; let this user read and write it"):
        libfuse.check(device=tmp_path)


def test_allow_other_needs_a_line_of_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(mountpoint, "may_mount", lambda: False)
    conf = tmp_path / "fuse.conf"
    conf.write_text("# user_allow_other\n")
    with pytest.raises(ConfigError, match="user_allow_other"):
        mountpoint.check_allow_other(conf)
    conf.write_text("mount_max = 10\nuser_allow_other\n")
    mountpoint.check_allow_other(conf)


def test_root_who_mounts_for_a_user_needs_no_line_for_allow_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the mount helper does with `uid=`: the process is the user's, and may still mount."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(mountpoint, "may_mount", lambda: True)
    mountpoint.check_allow_other(tmp_path / "none")
