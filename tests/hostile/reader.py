"""Reads files of a mount on command, line by line: `MODE FILE` in, one line of JSON out.

Run with `python -I -S` in the tree, so that it starts quickly; only the standard library is there. The output has the
bytes, piece by piece with their offset (base64), how each read ended ("end", or the name of an errno), and the sizes
from `stat`. Threads: two in the mode `two`, none otherwise.
"""

import base64
import errno
import json
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_PIECE_BYTES = 1 << 17
_TAIL_BYTES = 300


class Answer:
    def __init__(self) -> None:
        self.reads: list[dict[str, object]] = []
        self.sizes: list[int | str] = []

    def read(self, fd: int, offset: int = 0) -> None:
        """From an offset to the end, or to an error."""
        data, end = b"", "end"
        try:
            while piece := os.pread(fd, _PIECE_BYTES, offset + len(data)):
                data += piece
        except OSError as error:
            end = errno.errorcode[error.errno or 0]
        self.add(offset, data, end)

    def add(self, offset: int, data: bytes, end: str) -> None:
        self.reads.append({"offset": offset, "data": base64.b64encode(data).decode(), "end": end})

    def open(self, path: str, use: Callable[[int], None]) -> None:
        """An error while opening, or in `use`, is the end of the read."""
        try:
            fd = os.open(path, os.O_RDONLY)
        except OSError as error:
            return self.add(0, b"", errno.errorcode[error.errno or 0])
        try:
            use(fd)
        except OSError as error:
            self.add(0, b"", errno.errorcode[error.errno or 0])
        finally:
            os.close(fd)

    def stat(self, path: str) -> None:
        try:
            self.sizes.append(Path(path).stat().st_size)
        except OSError as error:
            self.sizes.append(errno.errorcode[error.errno or 0])


def whole(answer: Answer, path: str) -> None:
    answer.open(path, answer.read)


def stat(answer: Answer, path: str) -> None:
    answer.stat(path)
    whole(answer, path)


def tail(answer: Answer, path: str) -> None:
    def use(fd: int) -> None:
        size = os.lseek(fd, 0, os.SEEK_END)
        answer.sizes.append(size)
        answer.read(fd, max(0, size - _TAIL_BYTES))
        answer.read(fd)

    answer.open(path, use)


def map(answer: Answer, path: str) -> None:
    """In a child, for an error in a page is a signal there: SIGBUS, which counts as EIO."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _map_and_leave(path, send)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        lines = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == -signal.SIGBUS:
        answer.add(0, b"", "EIO")
    else:
        answer.add(0, lines, errno.errorcode.get(status, f"status {status}") if status else "end")


def _map_and_leave(path: str, send: int) -> None:
    status = 255
    try:
        fd = os.open(path, os.O_RDONLY)
        size = os.fstat(fd).st_size  # `mmap` itself takes a failure of this for an empty file
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as view, os.fdopen(send, "wb") as pipe:
            pipe.write(bytes(view))
        status = 0
    except OSError as error:
        status = error.errno or 255
    finally:
        os._exit(status)


def two(answer: Answer, path: str) -> None:
    threads = [threading.Thread(target=whole, args=(answer, path)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def size(answer: Answer, path: str) -> None:
    answer.stat(path)


def list_all(answer: Answer, path: str) -> None:
    """All sizes in the order of the listing, as `ls -l` requests them; the bytes are the names."""
    names = sorted(
        (entry.name for entry in os.scandir(path) if entry.name.endswith(".flac")), key=lambda n: int(n[:-5])
    )
    for name in names:
        answer.stat(name)
    answer.add(0, "\n".join(names).encode(), "end")


MODES = {f.__name__: f for f in (whole, stat, tail, map, two, size, list_all)}

if __name__ == "__main__":
    for line in sys.stdin:
        mode, name = line.split()
        found = Answer()
        MODES[mode](found, name)
        print(json.dumps(vars(found)), flush=True)
