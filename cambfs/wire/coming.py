"""A connection that is made before the request that needs it: round trips and TLS pass while another request is made.

One at a time for each host; the pool has the others. Threads: one makes it, and the first that needs a connection waits
for it. `_lock` guards the future, and is never held while waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Connection)


class Coming(Generic[C]):
    def __init__(self) -> None:
        self._lock = Lock()  # guards the next one
        self._future: Future[C] | None = None

    def make(self, connect: Callable[[], C], is_usable: Callable[[C], bool]) -> None:
        """Makes one with `connect`, unless one that still `is_usable` is there already, and raises nothing. The caller
        that waits for it gets what `connect` raises."""
        with self._lock:
            before = self._future
            if before is not None and (not before.done() or is_usable(before.result())):
                return
            future = self._future = Future()
        if before is not None:  # no request came for it in its time
            before.result().close()
        try:
            future.set_result(connect())
        except Exception as error:
            with self._lock:
                if self._future is future:  # without a caller, the next one tries for itself
                    self._future = None
            future.set_exception(error)

    def take(self, is_usable: Callable[[C], bool]) -> C | None:
        """The one that was made, or is being made, for this caller alone; None when there is none, or none that still
        `is_usable`. Raises what its making raised."""
        future = self._claim()
        if future is None:
            return None
        connection = future.result()
        if is_usable(connection):
            return connection
        connection.close()
        return None

    def close(self) -> None:
        """Closes it, now or as soon as it is made."""
        future = self._claim()
        if future is not None:
            future.add_done_callback(_close)

    def _claim(self) -> Future[C] | None:
        with self._lock:
            future, self._future = self._future, None
            return future


def _close(future: Future[C]) -> None:
    if future.exception() is None:
        future.result().close()
