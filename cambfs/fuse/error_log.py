"""The last failures of a mount, to be read back from it: `Input/output error` tells a user nothing.

Not the log, which has all of them and more. Threads: any; `_lock` is a leaf.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from threading import Lock

from cambfs import errors
from cambfs.errors import CambfsError, RemoteError
from cambfs.text import visible

_KEPT = 100

# The first of these that fits says what to do.
_ADVICE: Sequence[tuple[type[CambfsError], str]] = (
    (errors.UnknownRun, "see that this is the run_id of a finished speech run of this account, not a task's id"),
    (errors.KeyRefused, "see that the key is valid and may read this run, then mount again"),
    (errors.RateLimited, "wait a little; fewer --max-transfers ask less at a time"),
    (errors.ServerError, "the API is in trouble; try again later"),
    (errors.NotAudio, "the API answered with something else than audio; what it said is shown"),
    (errors.TimedOut, "see whether the network works; --timeout allows more time"),
    (errors.Unreachable, "see whether the network works and the base URL is right"),
    (errors.BrokenBody, "the connection breaks again and again; try again later"),
    (errors.ResultChanged, "open it again: what is read then is new from the first byte"),
    (errors.NoSpace, "free some space in the cache's file system, or take a smaller --cache-size"),
    (errors.TooManyOpenFiles, "close some files; a larger limit (ulimit -n) of the mount allows more"),
    (errors.TooLarge, "--max-result-size allows larger ones"),
    (errors.CacheDamaged, "open it again: it is fetched anew"),
)


class Journal:
    def __init__(self) -> None:
        self._lock = Lock()
        self._lines: deque[str] = deque(maxlen=_KEPT)

    def add(self, operation: str, path: str, error: CambfsError, errno_name: str) -> None:
        """Notes one failure; the oldest of more than 100 is dropped."""
        status = error.status if isinstance(error, RemoteError) else 0
        advice = next((advice for kind, advice in _ADVICE if isinstance(error, kind)), "see the log")
        fields = [
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            path.removeprefix("/"),
            operation,
            errno_name,
            f"HTTP {status}" if status else "-",
            str(error),
            advice,
        ]
        with self._lock:
            self._lines.append("\t".join(map(visible, fields)))

    def text(self) -> bytes:
        """A line each, oldest first: time, file, operation, errno, HTTP status, what happened and what to do."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines).encode()
