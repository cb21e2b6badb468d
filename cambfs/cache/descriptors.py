"""What to do when nothing can be opened, because this process, or the machine, has too much open. No threads."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from cambfs.errors import NoSpace, TooManyOpenFiles

# What has run short when nothing can be opened. It says nothing of what was to be opened.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

T = TypeVar("T")


def with_descriptors(work: Callable[[], T], close_one: Callable[[], bool]) -> T:
    """What `work` gives; where that finds no descriptor left, `close_one` gives one up, or returns False, and `work` is
    called again. Raises TooManyOpenFiles or NoSpace when nothing is left to give up, and OSError of other kinds."""
    while True:
        try:
            return work()
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            if not close_one():
                raise shortage(error, "nothing more can be opened") from error


def shortage(error: OSError, text: str) -> NoSpace | TooManyOpenFiles:
    """What this process, or the machine, has too little of: descriptors, or room."""
    kind = TooManyOpenFiles if error.errno in (errno.EMFILE, errno.ENFILE) else NoSpace
    return kind(f"{text}: {error.strerror}")
