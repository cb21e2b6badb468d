"""Results as seekable binary files of Python.

Threads: any may open files. One file is for one thread at a time, as Python's own files are. `_lock` guards the table
of libraries; a library and its threads live until the program ends. The
child of a fork has libraries of its own.
"""

from __future__ import annotations

import atexit
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, Literal, NamedTuple, Protocol

from cambfs import wiring
from cambfs.deadline import Deadline
from cambfs.errors import CambfsError
from cambfs.fuse.errnos import errno_of
from cambfs.names import parse_run_id, parse_task_id
from cambfs.runs.library import Library
from cambfs.settings.config import Settings, checked_key
from cambfs.settings.keywords import settings_for
from cambfs.settings.options import FOR_FETCH
from cambfs.wav.wavs import Wavs

Format = Literal["flac", "wav"]

# A read waits for all that it asks for. The next one finds most of it here.
_BUFFER_BYTES = 64 * 1024


class Source(Protocol):
    """An open result: a handle of a library, or of its WAVs."""

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int: ...

    def size(self, deadline: Deadline) -> int: ...

    def close(self) -> None: ...


class RunFile(io.RawIOBase):
    """`name` is that of the file in a mount. Every operation without progress ends after `timeout_s`."""

    def __init__(self, name: str, source: Source, timeout_s: float) -> None:
        self.name = name
        self._source = source
        self._timeout_s = timeout_s
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer, except at the end. Raises OSError."""
        self._check_open()
        with memoryview(buffer).cast("B") as view, _as_os_error(self.name):
            count = self._source.readinto(self._position, view, Deadline(self._timeout_s))
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Only from the end it waits, for the size. Raises OSError."""
        self._check_open()
        if whence == io.SEEK_END:
            with _as_os_error(self.name):
                begin = self._source.size(Deadline(self._timeout_s))
        elif whence in (io.SEEK_SET, io.SEEK_CUR):
            begin = self._position if whence == io.SEEK_CUR else 0
        else:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if begin + offset < 0:
            raise ValueError(f"negative seek position {begin + offset}")
        self._position = begin + offset
        return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()


class _Opened(NamedTuple):
    library: Library
    wavs: Wavs


_lock = Lock()  # guards the next three
_libraries: dict[Settings, _Opened] = {}
_closing = ExitStack()
atexit.register(lambda: _closing.close())
_of_parent: list[ExitStack] = []


def _begin_anew() -> None:
    """In the child of a fork, as `multiprocessing` makes one: the threads of the libraries are not there. What the
    parent closes is only kept, because the end of it would remove files of the parent."""
    global _lock, _closing  # another thread may have held the lock
    _of_parent.append(_closing)
    _lock, _closing = Lock(), ExitStack()
    _libraries.clear()


os.register_at_fork(after_in_child=_begin_anew)


def _opened(settings: Settings) -> _Opened:
    """The library of these settings. Raises ConfigError."""
    with _lock:
        if settings not in _libraries:
            library = _closing.enter_context(wiring.open_library(settings, tuple))
            _libraries[settings] = _Opened(library, Wavs(library))
        return _libraries[settings]


@contextmanager
def _as_os_error(name: str) -> Iterator[None]:
    """The errors of cambfs as those that Python's own files raise."""
    try:
        yield
    except CambfsError as error:
        raise OSError(errno_of(error), str(error), name) from error


def open_run(
    run_id: int, *, format: Format = "flac", api_key: str | None = None, **settings: object
) -> io.BufferedReader:
    """The result of a run as a seekable binary file, which is downloaded while it is read.

    "flac" is the result as it is, "wav" its samples as WAV. The other keywords are the settings of `cambfs fetch`, as
    `cache_size="1GiB"`; the environment and config.toml count, too. All files with the same settings share downloads,
    and the cache with every mount.

    Returns when the first bytes are here. Raises ConfigError for a wrong setting or a missing key. This call and the
    reads raise OSError with the errno that a mount has, as FileNotFoundError for a run that the API does not know.
    Raises ValueError for what is no run id or no format.
    """
    chosen = settings_for(FOR_FETCH, settings)
    if api_key is not None:
        chosen = replace(chosen, key=checked_key("api_key", api_key))
    found = parse_run_id(str(run_id))
    name = f"{run_id}.{format}"
    if found is None:
        hint = "; it is a task id, and cambfs wait prints the run id of a task" if parse_task_id(str(run_id)) else ""
        raise ValueError(f"{run_id!r} is not a run id{hint}")
    if format not in ("flac", "wav"):
        raise ValueError(f'the format is "flac" or "wav", not {format!r}')
    opened = _opened(chosen)
    with _as_os_error(name):
        deadline = Deadline(chosen.timeout)
        source = opened.library if format == "flac" else opened.wavs
        return io.BufferedReader(RunFile(name, source.open(found, deadline), chosen.timeout), _BUFFER_BYTES)
