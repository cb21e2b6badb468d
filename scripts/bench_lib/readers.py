"""Ways of reading a result, timed: by usual commands, and by plain system calls.

Every function returns seconds, and raises CannotMeasure when the bytes are not those of the result: wrong bytes have no
speed.

Threads: `all_at_once` runs each task in one of its own.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

from bench_lib import doc_script
from bench_lib.figures import CannotMeasure
from bench_lib.mounts import KEY

HEAD_BYTES = 4096
_READ_BYTES = 1 << 20
_LIMIT_S = 300


def copy(command: Sequence[str], target: Path, original: Path) -> float:
    """A command that writes `target`, from its start to its end; compared with the original afterwards."""
    begin = time.perf_counter()
    done = _run(command)
    seconds = time.perf_counter() - begin
    _check_copy(done, target, original)
    return seconds


def cp(source: Path, target: Path, original: Path) -> float:
    return copy(["cp", str(source), str(target)], target, original)


def curl(url: str, target: Path, original: Path) -> float:
    return copy(["curl", "-sS", "-H", f"x-api-key: {KEY}", "-o", str(target), url], target, original)


def script(url: str, target: Path, original: Path) -> float:
    """The documentation's script."""
    return copy(_script(url, target), target, original)


def script_loop(url: str, target: Path, original: Path) -> float:
    """The documentation's script without its start, by its own clock: its cost in a program that runs already."""
    done = _run(_script(url, target))
    _check_copy(done, target, original)
    return float(done.stdout)


def _script(url: str, target: Path) -> list[str]:
    return [sys.executable, str(Path(doc_script.__file__)), url, str(target)]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT_S)


def _check_copy(done: subprocess.CompletedProcess[str], target: Path, original: Path) -> None:
    try:
        if done.returncode:
            raise CannotMeasure(f"fails: {done.stderr.strip().splitlines()[-1][-120:]}")
        _check_length(target.stat().st_size, original.stat().st_size)
        if not filecmp.cmp(target, original, shallow=False):
            raise CannotMeasure("copies wrong bytes")
    finally:
        target.unlink(missing_ok=True)


def _check_length(came: int, wanted: int) -> None:
    if wanted and not came:
        raise CannotMeasure("delivers nothing")
    if came != wanted:
        raise CannotMeasure(f"delivers {came:,} of {wanted:,} bytes")


def curl_first_byte(url: str) -> float:
    """curl's own time from the start of the transfer to the first byte of the response."""
    command = ["curl", "-sS", "-H", f"x-api-key: {KEY}", "-o", os.devnull, "-w", "%{time_starttransfer}", url]
    return float(_run(command).stdout)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise CannotMeasure(f"open fails: {error.strerror}") from None
    try:
        yield descriptor
    except OSError as error:
        raise CannotMeasure(f"reading fails: {error.strerror}") from None
    finally:
        os.close(descriptor)


def head(path: Path, expected: bytes) -> float:
    """The first bytes, from before the open."""
    begin = time.perf_counter()
    with opened(path) as descriptor:
        data = os.read(descriptor, len(expected))
        seconds = time.perf_counter() - begin
    _check(data, expected)
    return seconds


def tail(path: Path, expected: bytes) -> float:
    """The last bytes, as a player looks for a tag: open, ask for the size, read there."""
    begin = time.perf_counter()
    with opened(path) as descriptor:
        data = os.pread(descriptor, len(expected), max(0, os.fstat(descriptor).st_size - len(expected)))
        seconds = time.perf_counter() - begin
    _check(data, expected)
    return seconds


def seek(path: Path, offset: int, expected: bytes) -> float:
    """The first byte after a seek, when the beginning has been read; then plays on to the end of `expected`."""
    with opened(path) as descriptor:
        os.read(descriptor, HEAD_BYTES)
        begin = time.perf_counter()
        data = os.pread(descriptor, HEAD_BYTES, offset)
        seconds = time.perf_counter() - begin
        while len(data) < len(expected) and (more := os.pread(descriptor, HEAD_BYTES, offset + len(data))):
            data += more
    _check(data, expected)
    return seconds


def _check(data: bytes, expected: bytes) -> None:
    _check_length(len(data), len(expected))
    if data != expected:
        raise CannotMeasure("delivers wrong bytes")


def whole(path: Path, size: int, on_piece: Callable[[int], None] = lambda _position: None) -> float:
    """All of it, into one buffer again and again, from before the open."""
    buffer = bytearray(_READ_BYTES)
    position = 0
    begin = time.perf_counter()
    with opened(path) as descriptor:
        while came := os.readv(descriptor, [buffer]):
            position += came
            on_piece(position)
    seconds = time.perf_counter() - begin
    _check_length(position, size)
    return seconds


def size_of(path: Path, expected: int) -> float:
    begin = time.perf_counter()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CannotMeasure(f"stat fails: {error.strerror}") from None
    seconds = time.perf_counter() - begin
    if size != expected:
        raise CannotMeasure(f"stat says {size:,} bytes instead of {expected:,}")
    return seconds


def all_at_once(threads: int, tasks: Sequence[Callable[[], float]]) -> tuple[float, list[float]]:
    """The seconds of all tasks together, in that many threads, and of each."""
    threads = min(threads, len(tasks))
    barrier = Barrier(threads + 1)
    with ThreadPoolExecutor(threads, initializer=barrier.wait) as pool:
        futures = [pool.submit(task) for task in tasks]
        barrier.wait(_LIMIT_S)
        begin = time.perf_counter()
        each = [future.result(_LIMIT_S) for future in futures]
        return time.perf_counter() - begin, each
