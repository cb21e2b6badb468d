"""The last failures of a mount, shown in `.cambfs/errors`, because `Input/output error` alone tells a user nothing.

The log has all of them and more. Threads: any; `_lock` is a leaf.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from cambfs import errors
from cambfs.errors import CambfsError, RemoteError
from cambfs.text import visible

_KEPT = 100

# The first entry that fits is the advice.
_ADVICE: Sequence[tuple[type[CambfsError], str]] = (
    (
        errors.UnknownPath,
        "check that the base URL ends in /apis; if it does, that this is the run_id of a finished text-to-speech run",
    ),
    (
        errors.UnknownRun,
        "check that this is the run_id of a finished text-to-speech run of this account, not a task id",
    ),
    (
        errors.UnknownTask,
        "check that this is the task_id of a text-to-speech task of this account",
    ),
    (errors.MisplacedTask, "a task's files are in the folder tasks, for example tasks/TASK.flac"),
    (errors.TaskPending, "open it again later; --task-wait waits longer, and cambfs wait shows progress"),
    (errors.TaskFailed, "the API gives the reason; start the task again"),
    (
        errors.KeyRefused,
        "check that the key is valid and may read this run; a mount in the background reads a new one at kill -HUP",
    ),
    (errors.RateLimited, "wait a little; a smaller --max-transfers sends fewer requests at a time"),
    (errors.ServerError, "the API has a problem; try again later"),
    (errors.NotAudio, "the API sent something other than audio; the message quotes it"),
    (errors.TimedOut, "check that the network works; --timeout allows more time"),
    (errors.Unreachable, "check that the network works and that the base URL is right"),
    (errors.BrokenBody, "the connection breaks again and again; try again later"),
    (errors.ResultChanged, "open the file again to read the new result"),
    (errors.NoSpace, "free some space in the file system of the cache, or use a smaller --cache-size"),
    (errors.TooManyOpenFiles, "close some files, or raise the mount's limit of open files (ulimit -n)"),
    (errors.TooLarge, "a larger --max-result-size allows it"),
    (errors.NoWav, "open the .flac file instead: it has the result as it is"),
    (errors.Undecodable, "copy the .flac file and look at it with flac -t"),
    (errors.CacheDamaged, "open the file again; it is then downloaded again"),
)


class Failure(NamedTuple):
    """One failure, for people; nothing in it is secret, and every field prints as itself. `status` is "-" when there
    was no response."""

    time: str
    file: str
    operation: str
    errno: str
    status: str
    what: str
    advice: str


class ErrorLog:
    def __init__(self) -> None:
        self._lock = Lock()
        self._failures: deque[Failure] = deque(maxlen=_KEPT)

    def add(self, operation: str, path: str, error: CambfsError, errno_name: str) -> None:
        """Notes one failure; the oldest of more than 100 is dropped."""
        status = error.status if isinstance(error, RemoteError) else 0
        advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "see the log")
        fields = (
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            path.removeprefix("/"),
            operation,
            errno_name,
            f"HTTP {status}" if status else "-",
            str(error),
            advice,
        )
        with self._lock:
            self._failures.append(Failure(*map(visible, fields)))

    def failures(self) -> list[Failure]:
        """The failures, oldest first."""
        with self._lock:
            return list(self._failures)

    def last(self, file: str) -> str | None:
        """The errno and the text of the last failure of a file; None when it has none."""
        found = next((one for one in reversed(self.failures()) if one.file == file), None)
        return None if found is None else f"{found.errno}: {found.what}"

    def entries(self) -> list[dict[str, str]]:
        """As `failures`, with the names of the fields."""
        return [failure._asdict() for failure in self.failures()]

    def text(self) -> bytes:
        """One line per failure, oldest first: time, file, operation, errno, HTTP status, what happened and what to
        do."""
        return "".join("\t".join(failure) + "\n" for failure in self.failures()).encode()
