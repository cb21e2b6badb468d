"""Whether the shared engine is used at all. After a failure it is left alone for PAUSE_S, so that only one caller in so
long waits for an engine that is gone.

The breakers of HTTP origins (`hosts`) look twice before they open, because a mount needs the API. It does not need this
engine.

Threads: any. `_lock` is a leaf; it is not held while a call is under way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from cambfs.shared.engine import EngineClosed, EngineDown, EngineFull, RunMoves

PAUSE_S = 10.0
_log = logging.getLogger(__name__)


class Breaker:
    """`name` begins the texts of errors and log lines. `clock` counts seconds, and never goes back."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = Lock()  # guards all below
        self._reason = ""  # why the engine is down, or ""
        self._retry_at = 0.0
        self._is_trying = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Held around a call. Raises EngineDown at once while the engine is down, except for one call after PAUSE_S."""
        is_trial = self._admit()
        try:
            yield
            self._note_answer(is_trial)
        except (EngineFull, RunMoves):
            self._note_answer(is_trial)
            raise
        except EngineClosed:
            raise
        except EngineDown as error:
            self._note_failure(str(error))
            raise
        finally:
            if is_trial:
                with self._lock:
                    self._is_trying = False

    def _admit(self) -> bool:
        """Whether the call tries on behalf of all."""
        with self._lock:
            if not self._reason:
                return False
            if self._is_trying or self._clock() < self._retry_at:
                raise EngineDown(self._reason)
            self._is_trying = True
            return True

    def _note_answer(self, is_trial: bool) -> None:
        with self._lock:
            was_down = bool(self._reason) and is_trial
            if was_down:
                self._reason = ""
        if was_down:
            _log.info("the shared cache %s is back", self._name)

    def _note_failure(self, reason: str) -> None:
        with self._lock:
            is_news = not self._reason
            self._reason, self._retry_at = reason, self._clock() + PAUSE_S
        if is_news:
            # Also printed by `fetch` and in programs, which are no mounts.
            remedy = f"to find out why: cambfs doctor --shared-cache {self._name}"
            _log.warning("the shared cache is down, so results come from the API: %s; %s", reason, remedy)
