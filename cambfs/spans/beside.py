"""The ranges of one result that are under way beside its stream: starts them, ends them, and counts their failures.

`lanes` decides how many there should be, and which bytes each takes. Each is a transfer in a thread of its own,
`beside-RUN-OFFSET`. No threads and no lock here: the run that owns it holds its lock for every method.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from cambfs.disk.ranges import RangeSet
from cambfs.errors import CambfsError
from cambfs.spans.lanes import Lanes

log = logging.getLogger(__name__)


class Transfer(Protocol):
    """One that fetches `first_position` … `stop_position` (None: to the end of the result)."""

    @property
    def name(self) -> str: ...

    @property
    def first_position(self) -> int: ...

    @property
    def stop_position(self) -> int | None: ...

    @property
    def stopping(self) -> bool: ...

    def stop(self) -> None: ...


T = TypeVar("T", bound=Transfer)


class Beside(Generic[T]):
    """Iterates over the transfers that are under way."""

    def __init__(self, start: Callable[[int, int | None], T]) -> None:
        """`start` begins a transfer of start … stop (None: to the end of the result). It may raise CambfsError."""
        self._start = start
        self._lanes = Lanes()
        self._running: list[T] = []
        self._has_begun = False

    def __iter__(self) -> Iterator[T]:
        return iter(self._running)

    def __len__(self) -> int:
        return len(self._running)

    @property
    def is_open(self) -> bool:
        """Whether there should be any."""
        return self._lanes.count > 0

    @property
    def has_begun(self) -> bool:
        """Whether there has been one."""
        return self._has_begun

    def is_at_work_at(self, position: int) -> bool:
        """Whether one of them is to bring the byte at `position`."""
        return any(
            one.first_position <= position and (one.stop_position is None or position < one.stop_position)
            for one in self._running
        )

    def consider(self, came_bytes: int, missing_bytes: int) -> None:
        """A reader waits for the stream, which may be joined by one more. `came_bytes` are here, however they came."""
        self._lanes.consider(time.monotonic(), came_bytes, missing_bytes)

    def fill(self, front: int, size: int, filled: RangeSet) -> None:
        """Starts as many as there should be. The stream is at `front`, and `filled` is here. Where one cannot be
        started there are no more: the stream needs none, and its readers must not fail for that."""
        while len(self._running) < self._lanes.count:
            taken = [(one.first_position, one.stop_position or size) for one in self._running]
            found = self._lanes.next_range(front, size, [*filled, *taken])
            if found is None:
                return
            start, stop = found
            # The end of the last response may prove that of the result.
            try:
                self._running.append(self._start(start, None if stop == size else stop))
                self._has_begun = True
            except CambfsError as error:
                log.info("no ranges beside a stream any more: %s", error)
                self._lanes.fail()

    def hold(self) -> None:
        """Other readers need the link: for a while, none is started."""
        self._lanes.hold(time.monotonic())

    def clear(self) -> None:
        """A reader has gone elsewhere and needs the link at once: as `hold`, and ends those under way."""
        self.hold()
        for one in self._running:
            one.stop()

    def forget(self, transfer: T, error: Exception | None) -> None:
        """One of them has ended. After an error there are no more of this result, unless it was told to stop."""
        self._running.remove(transfer)
        if error is not None and not transfer.stopping:
            log.info("%s: no ranges beside the stream any more: %s", transfer.name, error)
            self._lanes.fail()
