"""A thread of C keeps one state of Python's between its calls, and takes it along when it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import ctypes, sys

c, python = ctypes.CDLL(None), ctypes.pythonapi
python.PyInterpreterState_Head.restype = ctypes.c_void_p
for function in (python.PyInterpreterState_ThreadHead, python.PyThreadState_Next):
    function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def states():
    state, count = python.PyInterpreterState_ThreadHead(python.PyInterpreterState_Head()), 0
    while state:
        state, count = python.PyThreadState_Next(state), count + 1
    return count

called, go_on = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
c.sem_init(called, 0, 0)
c.sem_init(go_on, 0, 0)
at_end = c.__cxa_thread_atexit_impl
library = ctypes.cast(at_end, ctypes.c_void_p)

from cambfs.fuse import threadstate

@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
def call(_):
    if "keep" in sys.argv:
        threadstate.keep()
        threadstate.keep()
    # The last is done first: after the call, and before the state goes, the thread says so and waits.
    at_end(c.sem_wait, go_on, library)
    at_end(c.sem_post, called, library)

before = states()
threads = [ctypes.c_ulong() for _ in range(20)]
for thread in threads:
    c.pthread_create(ctypes.byref(thread), None, call, None)
for _ in threads:
    c.sem_wait(called)
between = states()
for _ in threads:
    c.sem_post(go_on)
ended = threadstate.await_ends(20)
for thread in threads:
    c.pthread_join(thread, None)
print(between - before, ended, states() - before)
"""


@pytest.mark.parametrize(("what", "told"), [("keep", "20 True 0"), ("nothing", "0 True 0")])
def test_a_state_lives_from_the_first_call_to_the_end_of_the_thread(what: str, told: str) -> None:
    command = [sys.executable, "-X", "dev", "-c", _PROGRAM, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, told, "")
