"""Limits and rights of this process: open files, and the right to mount for a user, readahead.

No threads: called before others start, except `forgo_root`, which acts on all threads, and `read_further_ahead`.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from contextlib import suppress
from pathlib import Path

from cambfs.system.mount_table import all_mounts

CAP_SYS_ADMIN = 21  # of <linux/capability.h>, as the version
_READ_AHEAD_KB = 1024  # as much as one request can bring
_CAPABILITY_VERSION = 0x20080522


def allow_many_open_files() -> None:
    """Every open or partly fetched result has a descriptor. The usual limit is low, for programs that use select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def read_further_ahead(directory: Path, bdi: Path = Path("/sys/class/bdi")) -> None:
    """Makes the kernel read 1 MiB ahead in the mount at `directory` (a resolved path), not 128 KiB. Only root may;
    for others nothing changes. Call it after the mount has answered the first request: the kernel sets its own limit
    then."""
    found = [mounted.device for mounted in all_mounts() if mounted.directory == directory]
    if found:
        with suppress(OSError):
            (bdi / found[-1] / "read_ahead_kb").write_text(str(_READ_AHEAD_KB))


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Turns root's process into one of this user, who may still mount anywhere until `forgo_root`. Raises OSError."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    # The kernel keeps the rights while root is the saved user, and takes them from all threads when that ends.
    os.setresuid(uid, uid, 0)
    # Effective and permitted, not inheritable, twice 32 bits.
    rights = struct.pack("6I", 1 << CAP_SYS_ADMIN, 1 << CAP_SYS_ADMIN, 0, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(struct.pack("Ii", _CAPABILITY_VERSION, 0), rights) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def forgo_root() -> None:
    """Drops the rights of root that `become` has kept; nothing else changes."""
    real, _, saved = os.getresuid()
    if real != saved:
        os.setresuid(real, real, real)
