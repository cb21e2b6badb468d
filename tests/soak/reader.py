"""Reads files of a mount on command, line by line, and compares every byte: a process of its own, `reader.py`.

A line of standard input is JSON: the operation, the file, and the local files that it may equal. Each response is JSON
as well: "ok", an errno, or the error; and the number of compared bytes. A result may change between two opens, never
within one. Only the standard library is there. No threads. A map of pages that are not available ends it by SIGBUS.
"""

import errno
import json
import mmap
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


class Wrong(Exception):
    pass


class Versions:
    """The local files that are equal to the bytes read so far."""

    def __init__(self, paths: list[str]) -> None:
        self._stack = ExitStack()
        self._left: list[int] = []
        for path in paths:
            fd = os.open(path, os.O_RDONLY)
            self._stack.callback(os.close, fd)
            self._left.append(fd)
        self.compared = 0

    def check(self, offset: int, length: int, data: bytes) -> None:
        """A read of `length` bytes at `offset` returned `data`."""
        left = [fd for fd in self._left if os.pread(fd, length, offset) == data]
        if not left:
            sizes = [os.fstat(fd).st_size for fd in self._left]
            raise Wrong(f"wrong bytes: {len(data)} of {length} at {offset}; the size is one of {sizes}")
        self._left = left
        self.compared += len(data)

    def check_size(self, size: int) -> None:
        left = [fd for fd in self._left if os.fstat(fd).st_size == size]
        if not left:
            raise Wrong(f"wrong size: {size}")
        self._left = left

    def close(self) -> None:
        self._stack.close()


@contextmanager
def opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def whole(path: str, versions: Versions, chance: random.Random) -> None:
    step, offset = chance.choice((4096, 100_003, 1 << 17, 1 << 20)), 0
    with opened(path) as fd:
        while data := os.read(fd, step):
            # A read of a file may return less than requested before an error; only the last read must be at the end.
            versions.check(offset, len(data), data)
            offset += len(data)
    versions.check_size(offset)


def seeks(path: str, versions: Versions, chance: random.Random) -> None:
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        for _ in range(15):
            offset, length = chance.randrange(size), chance.randrange(1, 60_000)
            data = os.pread(fd, length, offset)
            rest = min(length, size - offset) - len(data)
            if rest:  # either an error or a lie
                data += os.pread(fd, rest, offset + len(data))
            versions.check(offset, length, data)


def tail(path: str, versions: Versions, _chance: random.Random) -> None:
    with opened(path) as fd:
        size = os.lseek(fd, 0, os.SEEK_END)
        versions.check_size(size)
        versions.check(size - 128, 4096, os.pread(fd, 4096, size - 128))


def mapped(path: str, versions: Versions, chance: random.Random) -> None:
    with opened(path) as fd:
        size = os.fstat(fd).st_size  # asked by mmap, a failure would be taken for the length 0, and show as EINVAL
        versions.check_size(size)
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as view:
            for _ in range(10):
                offset = chance.randrange(size)
                data = view[offset : offset + 20_000]
                versions.check(offset, len(data), data)


def sendfile(path: str, versions: Versions, _chance: random.Random) -> None:
    with opened(path) as fd, tempfile.TemporaryFile(buffering=0) as out:
        while os.sendfile(out.fileno(), fd, None, 1 << 20):
            pass
        size = os.fstat(out.fileno()).st_size
        versions.check(0, size, os.pread(out.fileno(), size, 0))
        versions.check_size(size)


def stat(path: str, versions: Versions, _chance: random.Random) -> None:
    versions.check_size(Path(path).stat().st_size)


WAYS = {way.__name__: way for way in (whole, seeks, tail, mapped, sendfile, stat)}


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        versions = Versions(order["versions"])
        try:
            WAYS[order["way"]](order["path"], versions, random.Random(order["seed"]))
            result = "ok"
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
        except Wrong as wrong:
            result = str(wrong)
        finally:
            versions.close()
        print(json.dumps([result, versions.compared]), flush=True)


if __name__ == "__main__":
    main()
