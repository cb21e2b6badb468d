"""What this process may take of the machine: open files, and memory that was freed.

Not what is kept of the results (`cache`). No threads: called once, before any others run.
"""

from __future__ import annotations

import ctypes
import resource

# Of malloc.h. What is read or received at a time is smaller than large: for each of those, pages would be made anew.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGE_BYTES, _KEPT_FREE_BYTES = 1 << 20, 512 * 1024


def allow_many_open_files() -> None:
    """Every open or partly fetched result has a descriptor; the usual limit is meant for programs that use select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def give_memory_back() -> None:
    """glibc keeps what is freed the longer, the larger it was: after a listing of 100,000, as much as all that is known
    of them. With limits of one's own that does not grow."""
    set_limit = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_limit is not None:
        set_limit(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        set_limit(_M_TRIM_THRESHOLD, _KEPT_FREE_BYTES)
