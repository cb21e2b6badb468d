"""How much callers are interested in one run, and so how far it is fetched, and what is kept of it.

Callers have it open, or wait for something of it. While it is not open, it may be fetched on a guess: that a caller
opens it next. No threads and no lock of its own: its owner holds the lock of the run, except where a docstring says
otherwise.
"""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace

from cambfs.errors import CambfsError
from cambfs.transfers.context import Tuning


@dataclass(frozen=True)
class _Guess:
    """The reason for fetching a run that is not open. By default there is none."""

    is_unasked: bool = False  # no caller has asked for its audio, now or before
    ahead_bytes: int = 0  # it is next in a sequence of opens, and fetched if it has at most so many bytes
    has_stream: bool = False  # its stream began beside a caller's look at the size, and for nothing else


class Interest:
    """`waiters` are the callers that wait for something of the run."""

    def __init__(self, waiters: Sized, tuning: Tuning) -> None:
        self._waiters = waiters
        self._tuning = tuning
        self._handles = 0
        self._guess = _Guess()  # no guess while there are handles
        self._withheld: CambfsError | None = None
        self._is_in_sequence = False  # one word, written by any thread

    # What callers do, and what they are expected to do.

    def add_handle(self) -> None:
        """A caller opens the run."""
        self._handles += 1
        self._guess = _Guess()

    def remove_handle(self) -> None:
        self._handles -= 1

    def guess_next(self, most_bytes: int, *, is_begun: bool) -> None:
        """A caller is likely to open it as the next of a sequence. `is_begun`: there is audio of it. Not while open."""
        self._guess = replace(self._guess_anew(is_begun), ahead_bytes=most_bytes)
        self.note_in_sequence()

    def guess_open(self, *, is_begun: bool, has_stream: bool) -> None:
        """A caller that looks at the size is likely to open it. `has_stream`: one is there already. Not while open."""
        guess = self._guess_anew(is_begun)
        self._guess = replace(guess, has_stream=guess.has_stream or not has_stream)

    def _guess_anew(self, is_begun: bool) -> _Guess:
        assert not self.is_open, "an open confirms every guess"
        return replace(self._guess, is_unasked=not is_begun)

    def drop_next(self) -> None:
        """It is not expected as the next of a sequence any more."""
        self._guess = replace(self._guess, ahead_bytes=0)

    def note_in_sequence(self) -> None:
        """Its reader opens one result after the other. Without the lock."""
        self._is_in_sequence = True

    # How much interest that is.

    @property
    def is_open(self) -> bool:
        """Without the lock."""
        return self._handles > 0

    @property
    def is_awaited(self) -> bool:
        """It is open, or a caller waits for it. Without the lock."""
        return self._handles > 0 or len(self._waiters) > 0

    @property
    def is_next(self) -> bool:
        """It is fetched as the next of a sequence, behind everything that callers wait for."""
        return self._guess.ahead_bytes > 0

    @property
    def is_unasked(self) -> bool:
        """No caller has asked for its audio: a part of it is not kept."""
        return self._guess.is_unasked

    @property
    def may_return(self) -> bool:
        """Whether a stream without interest waits for it a moment, since a reader has left or an open is near."""
        return self._guess.has_stream or not self._guess.is_unasked

    def is_wanted(self, size: int | None, here_bytes: int) -> bool:
        """Whether to fetch more, given the size and how much is here. The rest of a nearly complete result always."""
        if self.is_awaited or (self.is_next and max(size or 0, here_bytes) <= self._guess.ahead_bytes):
            return True
        return size is not None and size - here_bytes <= max(self._tuning.nearly_bytes, size // 10) and here_bytes > 0

    def is_pressing(self, missing_bytes: int, bytes_per_s: float) -> bool:
        """Whether transfers ahead pause while a caller waits for it, given what is missing and the rate of the link.
        Without the lock, so it may be late."""
        beside_bytes, beside_s = self._tuning.beside_bytes, self._tuning.beside_s
        is_long = missing_bytes > beside_bytes or 0 < beside_s * bytes_per_s < missing_bytes
        return is_long or not self._is_in_sequence

    # Failures of a stream that began on a guess.

    def disown_stream(self) -> bool:
        """Whether the stream began for an open that was only likely. A caller that needs one starts another."""
        had_stream = self._guess.has_stream
        self._guess = replace(self._guess, has_stream=False)
        return had_stream

    def withhold(self, error: CambfsError, *, may_storage_tell: bool) -> bool:
        """Whether the callers that wait are spared an error of the stream: they asked for the size only, and may still
        get it. If they need the stream, they ask for it, and then its errors are theirs."""
        if not (self.is_unasked and len(self._waiters) and (may_storage_tell or error.temporary)):
            return False
        self._guess = replace(self._guess, is_unasked=False)
        self._withheld = None if error.temporary else error
        return True

    def take_withheld(self) -> CambfsError | None:
        """A final error that they were spared. It is theirs when storage does not tell the size either."""
        error, self._withheld = self._withheld, None
        return error
