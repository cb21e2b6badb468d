"""Keeps Python's state of a thread that C has begun, such as libfuse's, for as long as the thread lives.

Without, Python makes one for every call that comes in from there, maps memory for it, and does away with both when the
call returns: a tenth of what a `stat` costs, and more of a read.

Not what is called (`adapter`). Threads: those. At the end of one the C library calls `_at_end` in it. The lock is a
leaf.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

_c, _python = ctypes.CDLL(None), ctypes.pythonapi
# For the destructors of C++: called while a thread still has all that is its own, unlike those of pthread_key_create,
# when Python does not find its state any more. Not every C library has it.
_call_at_end: Any = getattr(_c, "__cxa_thread_atexit_impl", None)
_library = ctypes.cast(_call_at_end, ctypes.c_void_p)  # whose destructor it is; any that stays loaded


class _ThisThread(threading.local):
    is_kept = False
    gil_state = 0


_this_thread = _ThisThread()
_changed = threading.Condition()  # guards the next one
_kept: set[int] = set()  # thread ids


def _let_go(_nothing: None) -> None:
    with _changed:
        _kept.discard(threading.get_ident())
        _changed.notify_all()
    _python.PyGILState_Release(_this_thread.gil_state)  # now this call has the last use of the state, and ends it


_at_end = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_let_go)


def keep() -> None:
    """To be called in a call that has come in from C, in a thread that C has begun. Nothing happens in the main one,
    nor where it cannot be done."""
    if not _this_thread.is_kept:
        _this_thread.is_kept = True
        if _call_at_end is not None and threading.get_ident() != threading.main_thread().ident:
            _keep()


def _keep() -> None:
    if _call_at_end(_at_end, None, _library) == 0:
        with _changed:
            _kept.add(threading.get_ident())
        # Uses are counted, and this one is left when the call returns.
        _this_thread.gil_state = _python.PyGILState_Ensure()


def await_ends(timeout_s: float) -> bool:
    """Waits for the end of all whose state is kept, and says whether they have ended: a thread that ends when the
    interpreter has ended already would take the process along."""
    with _changed:
        return _changed.wait_for(lambda: not _kept, timeout_s)
