"""Pulls the bytes of one run from a position on, response after response, until its goal is reached.

Not where the bytes go (`intake`), nor HTTP. It waits for no reader: it runs at the speed of the link. Threads: `pull`
runs in one; `stop` may be called from any. It has no lock of its own.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from threading import Event
from typing import Protocol

from cambfs.errors import CambfsError, Closing, TimedOut
from cambfs.remote.retry import Backoff
from cambfs.remote.source import Body
from cambfs.transfers.link import Pace
from cambfs.transfers.slots import Slots

log = logging.getLogger(__name__)

# One read from the socket. Larger is no faster; smaller costs more hand-overs of the interpreter lock.
_PIECE_BYTES = 256 * 1024
_LEAST_PART_BYTES = 16 * 1024
# Less than this per second is no progress: a link that slow never ends.
_SLOWEST_BYTES_PER_S = 1024
# Where a server limits each response, others bring no more.
_MOST_CHANGES = 4
_GAIN = 1.5
# A rate that was measured for less time shows how the first packets came, and no more.
_TELLING_S = 0.05


class Owner(Protocol):
    """The run. Its methods may raise CambfsError: after a temporary one the transfer asks again."""

    def begin(self, body: Body) -> None:
        """A response has begun; its first bytes follow."""

    def receive(self, transfer: Transfer, position: int, data: bytes) -> bool:
        """Takes bytes. Returns whether the next ones are wanted."""

    @property
    def expected_bytes(self) -> int | None:
        """The size of the result as far as any source tells it, perhaps without proof; None where none does. Without a
        lock."""

    def is_repeated(self) -> bool:
        """Whether to ask again after a failure that may pass."""

    def may_change_connection(self) -> bool:
        """Whether the rest may be asked for in another response, because this one is slow: another one has been seen to
        begin where it was asked to, as a source that only says so may begin anew. If it is not known of storage, it is
        asked, and known later. Raises nothing."""

    def end(self, transfer: Transfer, position: int, body: Body) -> int | None:
        """The response has ended at `position`: None when that is the end of the result, or nothing more is wanted,
        else the byte from which to ask again. Raises NotWhole."""

    def is_complete(self) -> bool:
        """Every byte is known to be here: one more response would bring nothing. Raises nothing."""


class Transfer:
    """`start` … `stop` is its goal (`stop` None: the end of the result). `open_at` asks for the bytes from a position
    on, and may answer from 0 instead: what is there already is then received once more.

    `position` is the first byte that has not come yet; `receive` is called when it is already behind the piece. Times
    are in time.monotonic seconds. `received_at` is when bytes last came, `begin_at` when the last response began, later
    by its pauses, or None; `is_shared` is that of its body. `progress_at` is when enough bytes had come to count as
    progress. While the transfer waits for its turn, the bytes of others count. After a connection broke, so do bytes
    that come once more. They do not after a silence, so that no caller waits longer than the timeout for new bytes.
    """

    def __init__(
        self,
        name: str,
        owner: Owner,
        open_at: Callable[[int], Body],
        slots: Slots,
        timeout_s: float,
        start: int = 0,
        stop: int | None = None,
    ) -> None:
        self.name = name
        self.stop_position = stop
        self.first_position = start
        self.position = start
        self.begin_at: float | None = None
        self.received_at = 0.0
        self.brought_at = 0.0
        self.is_wanted = True
        self.is_shared = False
        self._is_withdrawn = False
        self._progress_at = 0.0
        self._fell_silent = False
        self._changes = 0
        self._left_at_bytes_per_s = 0.0
        self._ask_from = self._begin_position = start
        self._owner = owner
        self._open_at = open_at
        self._slots = slots
        self._timeout_s = timeout_s
        self._told_to_stop = Event()
        self._body: Body | None = None

    @property
    def bytes_per_s(self) -> float:
        """The mean since the response came, without pauses; 0 before."""
        if self.begin_at is None:
            return 0.0
        return (self.position - self._begin_position) / max(time.monotonic() - self.begin_at, 1e-3)

    @property
    def left_s(self) -> float:
        """How long it will take to the end of the result, at its own rate, or at that of the link while it is too young
        to have one. Infinite where that is not known, nor the size, or it has passed that size."""
        is_young = self.begin_at is None or time.monotonic() - self.begin_at < _TELLING_S
        bytes_per_s = self._slots.link.bytes_per_s if is_young else self.bytes_per_s
        size, position = self._owner.expected_bytes, self.position
        return math.inf if size is None or size < position or not bytes_per_s else (size - position) / bytes_per_s

    def stop(self) -> None:
        """Ends it soon, from any thread; returns at once."""
        self._told_to_stop.set()
        self._slots.look(self)
        body = self._body
        if body is not None:
            body.close()

    def note_wanted(self, is_wanted: bool) -> None:
        """Whether more of it is wanted. An unwanted transfer gives its slot to the next."""
        if self.is_wanted != is_wanted:
            self.is_wanted, self._is_withdrawn = is_wanted, False
            self._slots.look(self)

    def withdraw(self) -> None:
        """Ends the transfer before its next response, unless it is wanted by then."""
        self._is_withdrawn = True
        self._slots.look(self)

    @property
    def is_dispensable(self) -> bool:
        """No caller waits for it, and it goes on all the same."""
        return not (self.is_wanted or self.stopping or self._is_withdrawn)

    @property
    def progress_at(self) -> float:
        return self._progress_at or self._slots.progress_at

    @property
    def stopping(self) -> bool:
        return self._told_to_stop.is_set()

    def pull(self) -> None:
        """Returns when the goal is reached, or nothing more is wanted. It has joined the slots before. Raises
        CambfsError when the last try has failed, or `stop` was called. A transfer that is not wanted yet pauses while
        callers wait, and tries only once."""
        with self._slots.turn(self):
            self.received_at = self._progress_at = time.monotonic()
            backoff = Backoff(self._timeout_s)
            while True:
                before = self.position
                self._let_callers_go_first()
                if self._is_withdrawn and not self.is_wanted:
                    return
                try:
                    if self._pull_one_response():
                        return
                except CambfsError as error:
                    if self._is_over(error) or (error.temporary and not self._is_repeated()):
                        return
                    if self.position >= before + self._floor_bytes:
                        backoff.progress()
                    # A reader in the middle of a file waits for a network that is gone for a moment.
                    self._pause(backoff.pause_s(error, outlast_outage=self.begin_at is not None), error)

    def _is_over(self, error: CambfsError) -> bool:
        """Whether only the mark of the end was lost. Raises Closing after `stop`."""
        if self.stopping:
            raise Closing("stopped") from error
        return error.temporary and self._owner.is_complete()

    def _is_repeated(self) -> bool:
        return self.is_wanted and self._owner.is_repeated()

    def _pause(self, pause_s: float, error: CambfsError) -> None:
        self._ask_from = self.position
        self._fell_silent = isinstance(error, TimedOut)
        log.info("%s: %s; asking again in %.1f s", self.name, error, pause_s)
        self._told_to_stop.wait(pause_s)

    def _pull_one_response(self) -> bool:
        """Whether the goal is reached."""
        with ExitStack() as stack:
            asked_at = time.monotonic()
            body = self._body = stack.enter_context(closing(self._open_at(self._ask_from)))
            stack.callback(self._forget_body)
            if self.stopping:
                raise Closing("stopped")
            self.begin_at = self.received_at = time.monotonic()
            if not body.is_shared:  # as for the bytes
                self._slots.link.began(self.begin_at - asked_at)
            self._begin_position, self.is_shared = self.position, body.is_shared
            if not self._fell_silent:
                self._progress_at = self.begin_at
            self._owner.begin(body)
            again_from = self._pump(body)
        if again_from is None or self._owner.is_complete():
            return True
        self._ask_from = again_from
        return False

    def _forget_body(self) -> None:
        self._body = None

    def _pump(self, body: Body) -> int | None:
        """All that a response brings; None when nothing more is wanted, else the byte from which to ask again."""
        position, uncounted, pace = body.start, 0, Pace()
        while data := pace.read(body, _PIECE_BYTES):
            if self.stopping:
                break
            start, position = position, position + len(data)
            uncounted += max(0, position - self.position) if self._fell_silent else len(data)
            before, self.position = self.position, max(self.position, position)
            try:
                is_more_wanted = self._owner.receive(self, start, data)
            except CambfsError:
                self.position = before  # the run did not take them
                raise
            if not body.is_shared:  # those come from a place that is nearer than the API
                self._slots.link.received(len(data))
            uncounted = self._note_progress(uncounted)
            if not is_more_wanted:
                return None
            if self._is_other_connection_faster(body, pace, position):
                return position
            self._let_callers_go_first()
        if self.stopping:
            raise Closing("stopped")
        if body.stop is not None and body.total is None:
            # A part of unknown length. Many small ones would take for ever.
            return position if position - body.start >= _LEAST_PART_BYTES else 0
        return self._owner.end(self, position, body)

    def _is_other_connection_faster(self, body: Body, pace: Pace, position: int) -> bool:
        """Whether to ask for the rest in another response, over another connection, because this one is far slower than
        the link."""
        if body.is_stored or body.is_shared or self._changes >= _MOST_CHANGES:
            return False
        if self.begin_at is None or position < self.position:
            return False
        if not self._slots.link.outpaces(pace, self._slots.running) or not self._owner.may_change_connection():
            return False
        self._changes += 1
        if pace.bytes_per_s is not None and pace.bytes_per_s < _GAIN * self._left_at_bytes_per_s:
            self._changes = _MOST_CHANGES  # the last change brought nothing
            return False
        self._left_at_bytes_per_s = pace.bytes_per_s or 0.0
        log.info("%s: %.0f bytes/s from byte %d on; the link brings more", self.name, pace.bytes_per_s, position)
        return True

    def _let_callers_go_first(self) -> None:
        paused_at = time.monotonic()
        if not self.is_wanted and self._slots.foreground.pause(self):
            self._progress_at = now = time.monotonic()
            if self.begin_at is not None:
                self.begin_at += now - paused_at

    def _note_progress(self, uncounted: int) -> int:
        """The bytes that are not counted as progress yet. Raises TimedOut when too few came for too long."""
        self.received_at = self.brought_at = now = time.monotonic()
        if uncounted >= self._floor_bytes:
            self._progress_at = now
            return 0
        if now - self._progress_at > self._timeout_s:
            raise TimedOut(f"less than {_SLOWEST_BYTES_PER_S} bytes a second for {self._timeout_s:g} s")
        return uncounted

    @property
    def _floor_bytes(self) -> float:
        return self._timeout_s * _SLOWEST_BYTES_PER_S
