"""Whether the API is there, for a listing: while it is unreachable, a listing leaves out names that only the API knows.

`hosts.breaker` knows which hosts are down and for how long. Threads: any; the look is made in a thread named `look`,
which all simultaneous callers share. No lock: two that begin at once look twice.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field

from cambfs.errors import CambfsError
from cambfs.names import RunId
from cambfs.remote.source import Source
from cambfs.system.workers import Workers

# A listing waits no longer than this for its response. It is a few round trips, also by way of a satellite.
_LOOK_S = 1.0


@dataclass(frozen=True)
class _Look:
    came: Future[None] = field(default_factory=Future)
    wait_until: float = field(default_factory=lambda: time.monotonic() + _LOOK_S)


class Outlook:
    def __init__(self, source: Source, workers: Workers) -> None:
        self._source = source
        self._workers = workers
        self._look: _Look | None = None  # one word

    def is_api_there(self, run_id: RunId) -> bool:
        """Found out within a second, with a request about this run if need be; False when that is not enough."""
        look = self._look
        if look is None or look.came.done():
            look = self._look = _Look()
            self._begin(look, run_id)
        try:
            look.came.result(max(0.0, look.wait_until - time.monotonic()))
        except (CambfsError, FutureTimeout):
            return False
        return True

    def _begin(self, look: _Look, run_id: RunId) -> None:
        def work() -> None:
            try:
                self._source.look(run_id)
                look.came.set_result(None)
            except Exception as error:  # raised where it is waited for
                look.came.set_exception(error)

        try:
            self._workers.start("look", work)
        except CambfsError as error:
            look.came.set_exception(error)
