"""Ends the loop that serves a mount, from another thread or by a signal.

Independent of libfuse, except for one function that it is given. Threads: `signals` waits for signals; `reload` follows
SIGHUP, which may take long.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import Event, Lock, Thread, main_thread

_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_WAKE_AGAIN_S = 0.02


class Session:
    """Lasts from `begin` to `end`, which the loop's thread calls; that is the main thread. `on_begin` is called at
    `begin`; `ended_by` is the signal that came, or None."""

    def __init__(self, on_begin: Callable[[], None] = lambda: None) -> None:
        self.ended_by: int | None = None
        self._on_begin = on_begin
        self._begun = Event()
        self._ended = Event()
        self._lock = Lock()  # held while the loop is made to exit, so that it is not freed meanwhile
        self._exit_loop: Callable[[], None] | None = None

    def begin(self, exit_loop: Callable[[], None]) -> None:
        """`exit_loop` is called by another thread, and never after `end` has returned."""
        self._exit_loop = exit_loop
        self._begun.set()
        self._on_begin()

    def end(self) -> None:
        with self._lock:
            self._exit_loop = None
        self._ended.set()

    def exit(self) -> None:
        """Makes the loop end, and libfuse unmount, even during operations; waits until it has begun to."""
        self._begun.wait()
        with self._lock:
            if self._exit_loop is not None:
                self._exit_loop()
        # The loop checks only when a signal wakes its thread.
        while not self._ended.wait(_WAKE_AGAIN_S):
            signal.pthread_kill(main_thread().ident or 0, signal.SIGUSR1)

    def end_on_signals(self, before: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> None:
        """At SIGINT or SIGTERM calls `before`, then exits. SIGHUP does the same, unless there is `on_hangup`, which is
        called instead. libfuse's own handlers would wait for blocked operations; `before` ends them. Call it in the
        main thread. The signals are blocked from then on, and SIGUSR1 has a handler, until `ignore_late_signals`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        # With `intr`, libfuse has an empty handler of its own for this one, but removes it before it has ended. It
        # leaves an existing handler alone.
        signal.signal(signal.SIGUSR1, lambda *_: None)

        hung_up = Event()

        def follow_hangups(act: Callable[[], None]) -> None:
            while hung_up.wait():
                hung_up.clear()
                act()

        def end() -> None:
            while (number := signal.sigwait(_ENDING)) == signal.SIGHUP and on_hangup is not None:
                hung_up.set()  # in another thread: this one must hear SIGTERM, also while a file system hangs
            self.ended_by = number
            try:
                before()
            finally:
                self.exit()

        if on_hangup is not None:
            Thread(target=follow_hangups, args=(on_hangup,), name="reload", daemon=True).start()
        Thread(target=end, name="signals", daemon=True).start()

    @staticmethod
    def ignore_late_signals() -> None:
        """The SIGUSR1 of `exit` may still be on its way when Python restores the signals."""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
