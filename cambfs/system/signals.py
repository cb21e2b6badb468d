"""Which threads get the signals that end a process. While a mount runs, `fuse/signals` waits for them. No threads."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the main thread as Ctrl-C does; otherwise temporary things would be left behind."""

    def unwind(number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def without_signals() -> Iterator[None]:
    """Threads that start inside the block never get a signal that ends the process: the mount's own thread waits for
    those signals."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep_signals_out() -> None:
    """From here on, to the end of the process, signals reach only a thread that waits for them: a second Ctrl-C must
    not cut the cleanup short."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
