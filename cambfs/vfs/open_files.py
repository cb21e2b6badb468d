"""Open files: what each one reads, and how the kernel may use its page cache for it.

`tree` says which files there are. Threads: any. An OpenText is made under the lock of `results`, which keeps the
shown texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, ResultChanged

# After a failed read the kernel requests the same pages up to three times more, one by one, before its caller gets the
# error. So for a while after a failure a read of the same place does not wait for missing bytes again.
_SAME_FAILURE_S = 1.0
# A reader has two requests under way; each may fail, and be repeated, on its own.
_FAILURES_KEPT = 8


class OpenFile(Protocol):
    keep_cache: bool
    """The kernel's cached pages of this name are still right for it."""
    direct_io: bool
    """Reads bypass the kernel's page cache, which all open files of the name share: this one has other bytes than
    another one, or different bytes each time."""

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """Fills `buffer` with the bytes from `offset` on and returns their number: fewer than fit only when the file
        ends there, 0 at its end. Raises CambfsError, and leaves undefined bytes in `buffer` then."""

    def close(self) -> None:
        """Call once."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Failure of a read from `start` to `stop`. From `until_s` (time.monotonic) on, a read waits for that place
    again."""

    start: int
    stop: int
    error: CambfsError
    until_s: float

    def holds_for(self, offset: int, stop: int) -> bool:
        return self.start <= offset and stop <= self.stop and time.monotonic() < self.until_s


class OpenResult(Protocol):
    """A handle of the library, or of its WAVs."""

    same_bytes: bool
    beside_other: bool

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int: ...

    def close(self) -> None: ...


class OpenAudio:
    def __init__(self, handle: OpenResult) -> None:
        self._handle = handle
        self.keep_cache = handle.same_bytes
        self.direct_io = handle.beside_other
        # One word, written by any thread. If a failure gets lost, a read waits once more.
        self._failures: tuple[_Failure, ...] = ()

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        stop = offset + len(buffer)
        failure = self._failure_at(offset, stop) if self._failures else None
        try:
            return self._handle.readinto(offset, buffer, deadline if failure is None else Deadline(0))
        except CambfsError as error:
            if not error.temporary:
                raise
            if failure is not None:
                raise failure.error.with_traceback(None) from None
            new = _Failure(offset, stop, error, time.monotonic() + _SAME_FAILURE_S)
            self._failures = (*self._failures, new)[-_FAILURES_KEPT:]
            raise

    def _failure_at(self, offset: int, stop: int) -> _Failure | None:
        return next((one for one in self._failures if one.holds_for(offset, stop)), None)

    def close(self) -> None:
        self._handle.close()


@dataclass(slots=True)
class Shown:
    """A run's `.url` file while it is open: its text at the last open, and how many handles are open.

    The kernel's pages of it hold `pages_text`, while any of the `sharing` handles read through them.
    """

    text: bytes = b""
    mtime_ns: int = 0
    opened: int = 0
    sharing: int = 0
    pages_text: bytes = b""


class OpenText:
    """One open `.url` file, with the text of its own open. The attributes are those of the last open. When their size
    differs from the length of this text, the kernel would cut or pad it, so reading fails."""

    keep_cache = False

    def __init__(self, shown: Shown, close: Callable[[OpenText], None]) -> None:
        self._shown = shown
        self._text = shown.text
        self._close = close
        self.direct_io = shown.sharing > 0 and shown.pages_text != self._text
        shown.opened += 1
        if not self.direct_io:
            shown.sharing += 1
            shown.pages_text = self._text

    def forget(self) -> bool:
        """Takes it from the counts, under the same lock; returns whether no handle is open any more."""
        self._shown.opened -= 1
        self._shown.sharing -= not self.direct_io
        return not self._shown.opened

    def readinto(self, offset: int, buffer: memoryview, _deadline: Deadline) -> int:
        if len(self._text) != len(self._shown.text):
            raise ResultChanged("the URL has changed, and the new one has a different length")
        return _copy(self._text, offset, buffer)

    def close(self) -> None:
        self._close(self)


class OpenControl:
    keep_cache, direct_io = False, True

    def __init__(self, text: bytes) -> None:
        self._text = text

    def readinto(self, offset: int, buffer: memoryview, _deadline: Deadline) -> int:
        return _copy(self._text, offset, buffer)

    def close(self) -> None:
        pass


def _copy(text: bytes, offset: int, buffer: memoryview) -> int:
    piece = text[offset : offset + len(buffer)]
    buffer[: len(piece)] = piece
    return len(piece)
