"""The list of mounts, and looking into a mount from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cambfs.mounts.mount_table import FSTYPE, Mounted, mounted_at, own_mounts, read_inside

_USER = 65534


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    """A mount of another user; root may look into it as this user only."""
    for path in (tmp_path, *tmp_path.parents):  # the directories of pytest are open to their owner only
        if not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o055)
    inside = tmp_path / ".cambfs"
    inside.mkdir()
    (inside / "self").symlink_to("/proc/self/status")
    return Mounted(tmp_path, FSTYPE, "0:9", ("ro", f"user_id={_USER}", f"group_id={_USER}"))


def test_root_looks_into_a_mount_as_the_user_who_mounted(mounted: Mounted) -> None:
    lines = read_inside(mounted, "self", 30.0).decode().splitlines()
    (uid,) = (line.split()[1] for line in lines if line.startswith("Uid:"))
    assert int(uid) == (_USER if os.geteuid() == 0 else os.geteuid())


def test_what_cannot_be_read_says_why(mounted: Mounted) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        read_inside(mounted, "none", 30.0)


def test_a_mount_that_hangs_is_not_waited_for(mounted: Mounted, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".cambfs/fifo", 0o644)
    with pytest.raises(TimeoutError):
        read_inside(mounted, "fifo", 0.1)


def test_mount_points_are_found_whatever_their_name(tmp_path: Path) -> None:
    directory = tmp_path / "a b\tc\\d"
    directory.mkdir()
    mountinfo = tmp_path / "mountinfo"
    escaped = str(directory).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    mountinfo.write_text(
        f"40 1 8:1 / {escaped} rw - ext4 /dev/sda rw\n"
        f"41 1 0:50 / {escaped} ro,nosuid shared:7 - fuse.cambfs cambfs ro,user_id=0\n"
    )
    assert mounted_at(directory, mountinfo) == Mounted(directory, "fuse.cambfs", "0:50", ("ro", "user_id=0"))
    assert mounted_at(tmp_path, mountinfo) is None


_MOUNTINFO = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:50 / /home/a ro - fuse.cambfs cambfs ro,user_id={uid},group_id=0
31 22 0:51 / /home/b\\040c ro - fuse.cambfs cambfs ro,user_id={uid},group_id=0
32 22 0:52 / /home/other ro - fuse.cambfs cambfs ro,user_id={other},group_id=0
33 22 0:53 / /home/sshfs rw - fuse.sshfs x rw,user_id={uid},group_id=0
34 22 0:54 / /home/a rw - tmpfs tmpfs rw
"""


def test_the_mounts_of_this_user_are_found(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(_MOUNTINFO.format(uid=os.getuid(), other=os.getuid() + 1))
    found = [mounted.directory for mounted in own_mounts(mountinfo)]
    assert found == [Path("/home/b c")], "the first is covered by another"
