"""Reads one file in one way, from a process of its own: `reader.py WAY FILE ...`.

Run with `python -I -S`, so that it starts quickly; only the standard library is there. What it prints is the same for
the same bytes. No threads but in `together`.
"""

import errno
import functools
import hashlib
import mmap
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


def _print_digest(pieces: Iterator[bytes]) -> None:
    digest, count = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        count += len(piece)
    print(count, digest.hexdigest())


def read(path: str) -> None:
    with Path(path).open("rb") as file:
        _print_digest(iter([file.read()]))


def readinto(path: str) -> None:
    buffer = bytearray(77_777)

    def pieces() -> Iterator[bytes]:
        with Path(path).open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                yield bytes(buffer[:count])

    _print_digest(pieces())


def copyfile(path: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        read(str(shutil.copyfile(path, Path(directory) / "copy")))


def mapped(path: str) -> None:
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        middle = len(view) // 2
        # The second half first: a map has no order.
        print(hashlib.sha256(view[middle:]).hexdigest(), hashlib.sha256(view[:middle]).hexdigest(), len(view))


def sendfile(path: str) -> None:
    """Straight after open: the size was not requested."""
    with Path(path).open("rb", buffering=0) as file, tempfile.TemporaryFile(buffering=0) as out:
        while os.sendfile(out.fileno(), file.fileno(), None, 1 << 20):
            pass
        _print_all(out.fileno())


def splice(path: str) -> None:
    """Straight after open, through a pipe."""
    with Path(path).open("rb", buffering=0) as file, tempfile.TemporaryFile(buffering=0) as out:
        receive, send = os.pipe()
        while count := os.splice(file.fileno(), send, 65536):
            while count:
                count -= os.splice(receive, out.fileno(), count)
        _print_all(out.fileno())


def _print_all(fd: int) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    _print_digest(iter(lambda: os.read(fd, 1 << 20), b""))


def pread(path: str, seed: str = "1", count: str = "40") -> None:
    """At places in no order, without a size first; then around the end."""
    chance = random.Random(int(seed))
    fd = os.open(path, os.O_RDONLY)
    digest = hashlib.sha256(os.pread(fd, 16, 0))
    size = os.fstat(fd).st_size
    for _ in range(int(count)):
        digest.update(os.pread(fd, chance.randrange(1, 70_000), chance.randrange(size)))
    for offset in (size - 128, size - 1, size, size + 1, size + (1 << 20), 1 << 41):
        digest.update(b"|" + os.pread(fd, 4096, max(0, offset)))
    os.close(fd)
    print(size, digest.hexdigest())


def seek(path: str) -> None:
    """Whence from the end, and to data and holes, each straight after an open."""
    for offset, whence in ((0, os.SEEK_END), (-128, os.SEEK_END), (0, os.SEEK_HOLE), (10, os.SEEK_DATA)):
        fd = os.open(path, os.O_RDONLY)
        print(os.lseek(fd, offset, whence), hashlib.sha256(os.read(fd, 200)).hexdigest())
        os.close(fd)


def sizes(*paths: str) -> None:
    """All at the same time, each in a thread."""
    found: dict[str, object] = {}

    def look(path: str) -> None:
        try:
            found[path] = Path(path).stat().st_size
        except OSError as error:
            found[path] = error.errno

    _all_at_once([functools.partial(look, path) for path in paths])
    for path in paths:
        print(path, found[path])


def together(path: str, readers: str, local: str) -> None:
    """Many readers of one file: some whole, most at random places; each compares with the file `local`."""
    wrong: list[str] = []

    def compare(number: int) -> None:
        chance = random.Random(number)
        with Path(path).open("rb", buffering=0) as file, Path(local).open("rb", buffering=0) as truth:
            size = os.fstat(truth.fileno()).st_size
            if number % 8 == 0:
                places = [(offset, 100_000) for offset in range(0, size + 1, 100_000)]
            else:
                places = [(chance.randrange(size), chance.randrange(1, 200_000)) for _ in range(20)]
            for offset, length in places:
                if os.pread(file.fileno(), length, offset) != os.pread(truth.fileno(), length, offset):
                    wrong.append(f"reader {number}: {length} bytes at {offset} differ")

    _all_at_once([functools.partial(compare, number) for number in range(int(readers))])
    print("\n".join(wrong) or "all the same")
    sys.exit(bool(wrong))


def _all_at_once(works: list[Callable[[], None]]) -> None:
    gate = threading.Barrier(len(works))

    def work(one: Callable[[], None]) -> None:
        gate.wait(30)
        one()

    threads = [threading.Thread(target=work, args=(one,)) for one in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def attempt(*words: str) -> None:
    """Evaluates Python expressions with the names of `os`; says the errno that each ends with."""
    for expression in words:
        try:
            eval(expression, dict(vars(os)))
            print("ok")
        except OSError as error:
            print(errno.errorcode[error.errno or 0])


def hold(path: str) -> None:
    """Opens, says so, and then reads the offset and length on each line of standard input."""
    fd = os.open(path, os.O_RDONLY)
    print("open", flush=True)
    for line in sys.stdin:
        offset, length = map(int, line.split())
        try:
            print(hashlib.sha256(os.pread(fd, length, offset)).hexdigest(), flush=True)
        except OSError as error:
            print(errno.errorcode[error.errno or 0], flush=True)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
