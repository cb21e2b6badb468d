"""The answer to a read as libfuse takes it: `struct fuse_bufvec` of fuse_common.h, and memory that `free` frees."""

from __future__ import annotations

import ctypes
import struct
import sys

import pytest

from cambfs.fuse import readbuf
from cambfs.fuse.readbuf import Answer, begin_answer

# count, index, offset; and of the buffer: size, flags, memory, fd, position.
_LAYOUT = struct.Struct("@NNNNiPiq")

_free = ctypes.CDLL(None).free
_free.argtypes = [ctypes.c_void_p]


def _new_answer() -> Answer:
    place = ctypes.pointer(ctypes.c_void_p())
    answer = begin_answer(place)
    assert place[0] == ctypes.addressof(answer)
    return answer


def _as_libfuse_sees_it(answer: Answer) -> tuple[int, ...]:
    return _LAYOUT.unpack(ctypes.string_at(ctypes.addressof(answer), ctypes.sizeof(answer)))


def test_an_answer_has_the_bytes_of_its_room() -> None:
    answer = _new_answer()
    assert _as_libfuse_sees_it(answer) == (1, 0, 0, 0, 0, 0, 0, 0)
    with answer.room(5) as room:
        assert (room.nbytes, room.readonly) == (5, False)
        room[:] = b"bytes"

    count, index, offset, size, flags, memory, fd, position = _as_libfuse_sees_it(answer)
    assert (count, index, offset, size, flags, fd, position) == (1, 0, 0, 5, 0, 0, 0)
    assert ctypes.string_at(memory, size) == b"bytes"
    _free(memory)
    _free(ctypes.addressof(answer))


def test_memory_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = _new_answer()
    with pytest.raises(MemoryError, match="no memory"):
        answer.room(sys.maxsize)

    assert _as_libfuse_sees_it(answer) == (1, 0, 0, 0, 0, 0, 0, 0), "libfuse frees what it finds"
    _free(ctypes.addressof(answer))
    monkeypatch.setattr(readbuf._c, "calloc", lambda *_: None)
    with pytest.raises(MemoryError, match="no memory"):
        _new_answer()
