"""A mount of the same results with as little as fusepy and requests allow, to tell their cost from that of cambfs.

It gets the sizes as an argument, makes one request for each open file, and serves reads from the body; or from local
files, to measure fusepy alone. It keeps nothing, proves nothing, and ignores errors. It is no limit: in some rows
cambfs is faster, because it avoids some of fusepy's own code.

A program: `python -m bench_lib.bare_mount MOUNTPOINT SOURCE SIZES FIRST COUNT`. SOURCE is the API's URL, or a directory
with a file for each kind; SIZES a JSON object, first digit of the run id → bytes; COUNT runs from FIRST on are listed.
Threads: libfuse's; the lock of an open file guards the bytes that have arrived.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import fuse
import requests

_PIECE_BYTES = 64 * 1024
_CONNECTIONS = 64
_TIMEOUT_S = 30


class _Streamed:
    def __init__(self, response: requests.Response) -> None:
        response.raise_for_status()
        self._response = response
        self._pieces: Iterator[bytes] = response.iter_content(_PIECE_BYTES)
        self._lock = Lock()
        self._come = bytearray()

    def read(self, start: int, stop: int) -> bytes:
        with self._lock:
            while len(self._come) < stop:
                self._come += next(self._pieces)
            return bytes(self._come[start:stop])

    def close(self) -> None:
        if next(self._pieces, None) is not None:  # the end returns the connection
            self._response.close()


class _Local:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY)

    def read(self, start: int, stop: int) -> bytes:
        return os.pread(self._fd, stop - start, start)

    def close(self) -> None:
        os.close(self._fd)


class _Operations(fuse.Operations):  # type: ignore[misc]  # fusepy has no types
    def __init__(self, source: str, sizes: dict[str, int], listed: range) -> None:
        self._source = source
        self._sizes = sizes
        self._listed = listed
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._opened: dict[int, _Streamed | _Local] = {}
        self._numbers = itertools.count(1)

    def _size(self, path: str) -> int:
        try:
            return self._sizes[path[1]]
        except KeyError:
            raise fuse.FuseOSError(errno.ENOENT) from None

    def getattr(self, path: str, _fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2}
        return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": self._size(path)}

    def readdir(self, _path: str, _fh: int) -> list[str]:
        return [".", "..", *(f"{run_id}.flac" for run_id in self._listed)]

    def open(self, path: str, _flags: int) -> int:
        number = next(self._numbers)
        self._opened[number] = self._open(path[1:].removesuffix(".flac"))
        return number

    def _open(self, run_id: str) -> _Streamed | _Local:
        if not self._source.startswith("http"):
            return _Local(Path(self._source, f"{run_id[0]}.flac"))
        return _Streamed(self._session.get(f"{self._source}/tts-result/{run_id}", stream=True, timeout=_TIMEOUT_S))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return self._opened[fh].read(offset, min(offset + size, self._size(path)))

    def release(self, _path: str, fh: int) -> int:
        self._opened.pop(fh).close()
        return 0

    def init(self, path: str) -> Any:
        print("mounted at", path, flush=True)


def main() -> None:
    mountpoint, source, sizes, first, count = sys.argv[1:]
    operations = _Operations(source, json.loads(sizes), range(int(first), int(first) + int(count)))
    options = {"ro": True, "attr_timeout": 0, "entry_timeout": 300, "max_readahead": 128 * 1024}  # as cambfs needs them
    fuse.FUSE(operations, mountpoint, foreground=True, **options)


if __name__ == "__main__":
    main()
