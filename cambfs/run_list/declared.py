"""The runs that the user declares (`--runs`, `--runs-file`), so that a listing shows them, and their names.

It makes no request, so a declared run may not exist. Any number of threads may call; the file is checked at each call,
and not in between.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence, Set
from pathlib import Path
from typing import NamedTuple

from cambfs.errors import SettingError
from cambfs.names import RunId, TaskId
from cambfs.run_list.content import Content, parse_content
from cambfs.run_list.folders import Folder
from cambfs.run_list.items import expand, parse_runs
from cambfs.run_list.lines import Problem
from cambfs.system import user_files

_MAX_FILE_BYTES = 64 * 2**20  # a million lines of the longest ranges
_MAX_LOGGED_LINES = 10
_YOUNG_NS = 2 * 10**9  # file systems stamp times this coarsely at worst

_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int, int, int]


class Names(NamedTuple):
    """The tree of names, and when its file was changed last. It is the same object until the file changes."""

    root: Folder
    mtime_ns: int


class _Version(NamedTuple):
    """One version of the file, with the runs of `--runs` beside. `signature` is None when the file was so young that
    it could change again and keep its signature; `digest` tells then whether it did."""

    runs: tuple[RunId, ...]
    tasks: dict[TaskId, None]
    names: Names
    signature: _Signature | None
    digest: bytes
    errors: list[Problem]
    warnings: list[Problem]


_NO_FILE = Content()


class DeclaredRuns:
    """Calling it returns the declared runs, ascending, each once; cheap while the file has not changed. `names` and
    `tasks` return the rest of the file.

    A mistake at construction raises SettingError. A later mistake in the file is logged once and has no other effect:
    bad lines are skipped, and while a file cannot be read the last list stays in force.
    """

    def __init__(self, runs: str = "", file: Path | None = None) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._file: Path | None = None
        self._fixed: list[range] = []
        self._current = _version([], _NO_FILE)
        self._problems: list[str] = []
        self._trouble = ""
        self.declare(runs, file)

    def declare(self, runs: str, file: Path | None) -> None:
        """Replaces the declared runs. Raises SettingError, and nothing changes then."""
        try:
            fixed = parse_runs(runs)
            current = _version(fixed, _NO_FILE) if file is None else _read_all(fixed, file)
        except ValueError as error:
            raise SettingError(f"--runs: {error}") from None
        with self._lock:
            self._file, self._fixed, self._current, self._problems = file, fixed, current, []
            self._trouble = "\n".join(_lines(file, current.warnings))  # the caller shows these

    def __call__(self) -> Sequence[RunId]:
        return self._refreshed().runs

    def tasks(self) -> Set[TaskId]:
        """The tasks in the file, in its order. To look for one of them costs little."""
        return self._refreshed().tasks.keys()

    def names(self) -> Names:
        return self._refreshed().names

    def warnings(self) -> list[str]:
        """A line for each name in the file that may surprise."""
        return _lines(self._file, self._refreshed().warnings)

    def problems(self) -> list[str]:
        """What keeps the file, or lines of it, from being used; a line each."""
        with self._lock:
            if self._file is not None:
                self._refresh(self._file)
            return list(self._problems)

    def _refreshed(self) -> _Version:
        with self._lock:
            if self._file is not None:
                self._refresh(self._file)
            return self._current

    def _refresh(self, file: Path) -> None:
        try:
            if self._current.signature is not None and _sign(file.stat()) == self._current.signature:
                return
            content, status, signature = _read(file)
            if hashlib.sha256(content).digest() != self._current.digest:
                self._current = _parse(self._fixed, file, content, status)
            if status.st_mtime_ns != self._current.names.mtime_ns:
                self._current = self._current._replace(names=Names(self._current.names.root, status.st_mtime_ns))
        except (OSError, ValueError) as error:
            self._current = self._current._replace(signature=None)
            self._problems = [f"{file}: {reason(error)}; the runs listed before stay listed"]
            self._report(self._problems)
            return
        self._current = self._current._replace(signature=signature)
        current = self._current
        self._problems = [f"{line}; skipped" for line in _lines(file, current.errors)]
        self._report(self._problems + _lines(file, current.warnings))

    def _report(self, lines: list[str]) -> None:
        """Logs errors, once as long as they stay the same."""
        if (trouble := "\n".join(lines)) != self._trouble:
            for line in lines[:_MAX_LOGGED_LINES]:
                _log.warning("%s", line)
            if len(lines) > _MAX_LOGGED_LINES:
                more = len(lines) - _MAX_LOGGED_LINES
                _log.warning("%s: %d more such lines; cambfs names check shows them", self._file, more)
        self._trouble = trouble


def read_content(file: Path) -> Content:
    """The file with all its mistakes. Raises OSError, and ValueError when it cannot be understood at all."""
    return parse_content(_read(file)[0], is_csv=_is_csv(file))


def reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _read_all(fixed: list[range], file: Path) -> _Version:
    """Raises SettingError."""
    try:
        content, status, signature = _read(file)
        version = _parse(fixed, file, content, status)
    except OSError as error:
        raise SettingError(f"{file}: {reason(error)}; it should have one run or range per line") from None
    except ValueError as error:
        raise SettingError(f"{file}: {error}") from None
    if version.errors:
        raise SettingError(_first_of(file, version.errors))
    return version._replace(signature=signature)


def _parse(fixed: list[range], file: Path, content: bytes, status: os.stat_result) -> _Version:
    """Raises ValueError."""
    found = parse_content(content, is_csv=_is_csv(file))
    return _version(fixed, found, status.st_mtime_ns, hashlib.sha256(content).digest())


def _version(fixed: list[range], found: Content, mtime_ns: int = 0, digest: bytes = b"") -> _Version:
    runs, names = expand(fixed + found.ranges), Names(found.root, mtime_ns)
    return _Version(runs, dict.fromkeys(found.tasks), names, None, digest, found.errors, found.warnings)


def _is_csv(file: Path) -> bool:
    return file.suffix.casefold() == ".csv"


def _first_of(file: Path, problems: list[Problem]) -> str:
    """The first problem, and how to see the others: people mend a file in one go."""
    first = _lines(file, problems)[0]
    return first if len(problems) == 1 else f"{first} (1 of {len(problems)} errors; see: cambfs names check {file})"


def _lines(file: Path | None, problems: list[Problem]) -> list[str]:
    return [f"{file}:{number}: {text}" for number, text in problems]


def _read(file: Path) -> tuple[bytes, os.stat_result, _Signature | None]:
    """The content, its status, and its signature; None when the file is so young that it can change again and keep its
    signature.

    Raises OSError, and ValueError when it is not a file, or too long.
    """
    content, status = user_files.read(file, _MAX_FILE_BYTES)
    young = abs(time.time_ns() - status.st_ctime_ns) < _YOUNG_NS
    return content, status, None if young else _sign(status)


def _sign(status: os.stat_result) -> _Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
