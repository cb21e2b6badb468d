"""What becomes of an operation's failure: an errno, a line in the log, and one in `.cambfs/errors`.

The one table from errors to errnos. Threads: any.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence

from cambfs import errors
from cambfs.errors import CambfsError
from cambfs.fuse.error_log import ErrorLog

log = logging.getLogger(__name__)

# The first entry that fits determines the errno.
_ERRNOS: Sequence[tuple[type[CambfsError], int]] = (
    (errors.NoSuchName, errno.ENOENT),
    (errors.UnknownRun, errno.ENOENT),
    (errors.UnknownTask, errno.ENOENT),
    (errors.MisplacedTask, errno.ENOENT),
    (errors.NoWav, errno.ENOENT),
    (errors.KeyRefused, errno.EACCES),
    (errors.ReadOnly, errno.EROFS),
    (errors.TimedOut, errno.ETIMEDOUT),
    (errors.TaskPending, errno.ETIMEDOUT),
    (errors.ResultChanged, errno.ESTALE),
    (errors.TooLarge, errno.EFBIG),
    (errors.NoSpace, errno.ENOSPC),
    (errors.TooManyOpenFiles, errno.EMFILE),
    (errors.Cancelled, errno.EINTR),
    (errors.Closing, errno.ENODEV),
)
# Failures that users expect and cause all the time. They get no line in the log.
_EXPECTED = (
    errors.NoSuchName,
    errors.UnknownRun,
    errors.UnknownTask,
    errors.MisplacedTask,
    errors.NoWav,
    errors.ReadOnly,
    errors.Cancelled,
    errors.Closing,
)
# Of them, those without a line in `.cambfs/errors`.
_NOTHING_WRONG = (errors.NoSuchName, errors.ReadOnly, errors.Cancelled, errors.Closing)


def errno_of(error: CambfsError) -> int:
    """The errno for the kernel."""
    if isinstance(error, errors.Unreachable):
        return error.errno
    return next((number for kind, number in _ERRNOS if isinstance(error, kind)), errno.EIO)


class ErrnoError(OSError):
    """What an operation raises. The bindings give the errno of an OSError to the kernel, and would give it garbage for
    one without an errno."""

    errno: int

    def __init__(self, number: int) -> None:
        super().__init__(number, os.strerror(number))


class Errnos:
    def __init__(self, error_log: ErrorLog) -> None:
        self._error_log = error_log
        self._noted: CambfsError | None = None  # one word

    def note(self, operation: str, path: str, error: CambfsError) -> int:
        """Returns the errno. A failure that repeats right after is noted once."""
        number = errno_of(error)
        if error is not self._noted:
            self._noted = error.with_traceback(None)
            self._tell(operation, path, error, errno.errorcode[number])
        return number

    def _tell(self, operation: str, path: str, error: CambfsError, name: str) -> None:
        level = logging.DEBUG if isinstance(error, _EXPECTED) else logging.WARNING
        log.log(level, "%s %s: %s (%s)", operation, path, error, name)
        if not isinstance(error, _NOTHING_WRONG):
            self._error_log.add(operation, path, error, name)
