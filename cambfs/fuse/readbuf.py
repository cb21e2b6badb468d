"""The memory of an answer to a read: taken when the bytes are there, not while they are waited for.

libfuse's `read` has it from the beginning, and two reads of each stream are always under way. Its `read_buf` (fuse.h,
2.9) leaves it to the file system; libfuse frees what it finds in the answer, also after an error.

Not what is read (`open_files`), nor who asks (`adapter`). Threads: any; an answer belongs to the thread that makes it.
"""

from __future__ import annotations

import ctypes
from typing import Any

# Without giving the interpreter away.
_c = ctypes.PyDLL(None)
_c.malloc.argtypes, _c.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
_c.calloc.argtypes, _c.calloc.restype = [ctypes.c_size_t, ctypes.c_size_t], ctypes.c_void_p

_PY_BUF_WRITE = 0x200
_memory_view = ctypes.pythonapi.PyMemoryView_FromMemory
_memory_view.argtypes = ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int
_memory_view.restype = ctypes.py_object


class _Buffer(ctypes.Structure):
    """struct fuse_buf"""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("memory", ctypes.c_void_p),
        ("fd", ctypes.c_int),
        ("position", ctypes.c_longlong),
    )


class Answer(ctypes.Structure):
    """struct fuse_bufvec, with one buffer."""

    _fields_ = (
        ("count", ctypes.c_size_t),
        ("index", ctypes.c_size_t),
        ("offset", ctypes.c_size_t),
        ("buffer", _Buffer),
    )

    def room(self, length: int) -> memoryview:
        """As `spool.Room`: these bytes are the answer. The memory is there until the operation returns. Raises
        MemoryError."""
        assert not self.buffer.memory, "an answer has one room"
        self.buffer.memory = address = _allocated(_c.malloc(length or 1))
        self.buffer.size = length
        view: memoryview = _memory_view(address, length, _PY_BUF_WRITE)
        return view


def begin_answer(place: Any) -> Answer:
    """An empty one, put where `place` points to, for libfuse to free. Raises MemoryError."""
    place[0] = address = _allocated(_c.calloc(1, ctypes.sizeof(Answer)))
    answer = Answer.from_address(address)
    answer.count = 1
    return answer


def _allocated(address: int | None) -> int:
    if address is None:
        raise MemoryError("no memory for the answer to a read")
    return address
