"""Counts what a mount gets from the shared tier and puts there, and whether the engine responds and takes results.

The tier calls it; `cambfs.status` shows it. Threads: any. `_lock` is a leaf.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Literal

from cambfs.shared.engine import EngineClosed, EngineDown, EngineFull, RunMoves

_log = logging.getLogger(__name__)

Figure = Literal["facts", "hits", "followed", "led", "dropped", "received_bytes", "sent_bytes"]


@dataclass(frozen=True)
class Usage:
    """`address` is without a password. `is_up` is None before the first response of the engine; it has been so since
    `since_s` (of the epoch), and `reason` says why it is down. `refusal` is why it takes nothing new, although it
    responds, or ""; it did so last at `refused_s` (of the epoch).

    Results: `facts` counts those whose size came from the tier, `hits` those that were there in whole when they were
    opened, `followed` those that another machine was fetching, `led` those that this mount fetched for all, and
    `dropped` those that it removed because a seal was wrong. The bytes are those of results, without seals."""

    address: str
    is_up: bool | None = None
    since_s: float = 0.0
    reason: str = ""
    refusal: str = ""
    refused_s: float = 0.0
    facts: int = 0
    hits: int = 0
    followed: int = 0
    led: int = 0
    dropped: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0


class Counts:
    """`clock` returns seconds since the epoch."""

    def __init__(self, address: str, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = Lock()  # guards the usage
        self._usage = Usage(address, since_s=clock())

    def usage(self) -> Usage:
        with self._lock:
            return self._usage

    def add(self, figure: Figure, count: int = 1) -> None:
        with self._lock:
            self._usage = replace(self._usage, **{figure: getattr(self._usage, figure) + count})

    def note_up(self) -> None:
        """The engine has responded. Cheap to call each time."""
        self._note(True, "")

    def note_down(self, reason: str) -> None:
        """It has not, or is taken to be down still."""
        self._note(False, reason)

    def note_failure(self, error: EngineDown) -> None:
        """A call has failed."""
        match error:
            case EngineFull():
                self._note_refusal(str(error))
            case RunMoves() | EngineClosed():
                pass  # neither says anything of the next call
            case _:
                self.note_down(str(error))

    def _note_refusal(self, reason: str) -> None:
        with self._lock:
            is_news = not self._usage.refusal
            self._usage = replace(self._usage, refusal=reason, refused_s=self._clock())
        if is_news:
            _log.warning("new results are not shared, and those that are there are read all the same: %s", reason)

    def note_taken(self) -> None:
        """The engine has taken a whole result. A part would prove little, since a full engine has room for some."""
        with self._lock:
            is_news = bool(self._usage.refusal)
            self._usage = replace(self._usage, refusal="")
        if is_news:
            _log.info("the shared cache %s takes results again", self._usage.address)

    def _note(self, is_up: bool, reason: str) -> None:
        with self._lock:
            if self._usage.is_up is not is_up:
                self._usage = replace(self._usage, is_up=is_up, since_s=self._clock(), reason=reason)
            elif self._usage.reason != reason:  # down since then, but by now for another reason
                self._usage = replace(self._usage, reason=reason)
