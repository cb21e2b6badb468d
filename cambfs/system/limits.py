"""Limits and rights of this process: open files, core dumps, and the right to mount for a user.

No threads: called before others start, except `forgo_root`, which acts on all threads.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct

CAP_SYS_ADMIN = 21  # of <linux/capability.h>, as the version
_CAPABILITY_VERSION = 0x20080522
_PR_SET_DUMPABLE = 4  # of <sys/prctl.h>


def allow_many_open_files() -> None:
    """Every open or partly fetched result has a descriptor. The usual limit is low, for programs that use select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def forbid_core_dumps() -> None:
    """Forbids core dumps of this process, which has the key in its memory. A debugger of this user may not attach, nor
    read most of /proc/<pid>. Children that are other programs are not affected."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    # The limit does not apply where a program collects core dumps.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


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
