"""What this process may take of the machine: open files.

No threads: called once, before any others run.
"""

from __future__ import annotations

import resource


def allow_many_open_files() -> None:
    """Every open or partly fetched result has a descriptor; the usual limit is meant for programs that use select."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
