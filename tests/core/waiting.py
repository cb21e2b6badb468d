"""Waiting, in tests: always with a limit, never for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

from cambfs.patience import Patience
from tests.core.fakes import LIMIT_S

T = TypeVar("T")


def patience() -> Patience:
    return Patience(LIMIT_S)


def eventually(is_so: Callable[[], object], what: str = "it never became so") -> None:
    """Waits until `is_so`, looking often."""
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def in_thread(call: Callable[[], T]) -> Future[T]:
    """What `call` returns or raises, in a thread of its own."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, name="test", daemon=True).start()
    return future
