"""The kernel's mounts, as this process sees them, and what a mount of cambfs shows its owner.

Reads /proc/self/mountinfo. Only `read_inside` touches a mount itself, in a process of its own. No threads.
"""

from __future__ import annotations

import errno
import os
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cambfs.system import private_files

FSTYPE = "fuse.cambfs"
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mounted:
    """One line of mountinfo. `device` is its st_dev as `major:minor`; `options` are those of the file system, such as
    `user_id=1000`."""

    directory: Path
    fstype: str
    device: str
    options: tuple[str, ...] = ()

    @property
    def owner(self) -> int | None:
        """The uid of the user who mounted; None for what is not of FUSE."""
        return self._number("user_id")

    @property
    def group(self) -> int | None:
        return self._number("group_id")

    def _number(self, name: str) -> int | None:
        values = (value for key, _, value in (option.partition("=") for option in self.options) if key == name)
        return next((int(value) for value in values if value.isdecimal()), None)


def mounted_at(directory: Path, mountinfo: Path = _MOUNTINFO) -> Mounted | None:
    """The topmost mount at `directory`; None when it is not a mount point. Works for a dead mount, too."""
    wanted = resolved(directory)
    found = [mounted for mounted in all_mounts(mountinfo) if mounted.directory == wanted]
    return found[-1] if found else None


def own_mounts(mountinfo: Path = _MOUNTINFO) -> list[Mounted]:
    """This user's mounts of cambfs, in their order, without those that another mount covers."""
    on_top = {mounted.directory: mounted for mounted in all_mounts(mountinfo)}
    return [mounted for mounted in on_top.values() if mounted.fstype == FSTYPE and mounted.owner == os.geteuid()]


def read_inside(mounted: Mounted, name: str, timeout_s: float) -> bytes:
    """What the user who mounted reads in `.cambfs/NAME`: no other may look into the mount, not even root.

    A process of its own does it, for one that waits for a mount that hangs may not be ended. Raises TimeoutError when
    the mount does not respond, and OSError with what `cat` said.
    """
    is_root = os.geteuid() == 0
    process = subprocess.Popen(
        ["cat", "--", str(mounted.directory / ".cambfs" / name)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**private_files.environment(), "LC_ALL": "C"},
        cwd="/",
        user=mounted.owner if is_root else None,
        group=mounted.group if is_root else None,
    )
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _abandon(process)
        raise TimeoutError(errno.ETIMEDOUT, "the mount does not respond") from None
    if process.returncode:
        raise OSError(errno.EIO, err.decode(errors="replace").strip().rpartition(": ")[2])
    return out


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kills it, but does not wait long: even its end may have to wait for the mount."""
    process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(0.1)


def all_mounts(mountinfo: Path = _MOUNTINFO) -> list[Mounted]:
    """In the order in which they were made: one that lies on top of another follows it."""
    # Names may hold characters that `splitlines` takes for an end of line; the kernel escapes line feeds, spaces and
    # backslashes.
    return [_parse_line(os.fsdecode(line)) for line in mountinfo.read_bytes().split(b"\n")[:-1]]


def resolved(directory: Path) -> Path:
    """As `realpath`. It touches the file system at `directory`, and waits for a mount that hangs."""
    try:
        descriptor = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return Path(os.path.realpath(directory))
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)


def _parse_line(line: str) -> Mounted:
    left, _, right = line.partition(" - ")
    fields, (fstype, _, options) = left.split(" "), right.split(" ", 2)
    return Mounted(Path(_unescape(fields[4])), fstype, fields[2], tuple(options.split(",")))


def _unescape(text: str) -> str:
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), os.fsencode(text)))
