"""What happens when the process, or the machine, has too many open files. No threads."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from cambfs.errors import NoSpace, TooManyOpenFiles

# These errors are about this process or machine, not about the file.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

T = TypeVar("T")


def with_descriptors(work: Callable[[], T], close_one: Callable[[], bool]) -> T:
    """The result of `work`. While `work` finds no descriptor left, `close_one` closes one, or returns False, and `work`
    is called again. Raises TooManyOpenFiles or NoSpace when none can be closed, and any other OSError of `work`."""
    while True:
        try:
            return work()
        except OSError as error:
            if error.errno not in SHORTAGES:
                raise
            if not close_one():
                raise shortage(error, "nothing more can be opened") from error


def shortage(error: OSError, text: str) -> NoSpace | TooManyOpenFiles:
    """Too few descriptors, or too little space, as an error of cambfs."""
    kind = TooManyOpenFiles if error.errno in (errno.EMFILE, errno.ENFILE) else NoSpace
    return kind(f"{text}: {error.strerror}")
