"""The runs that the user declares (`--runs`, `--runs-file`), so that a listing shows them.

It makes no request, so a declared run may not exist. Any number of threads may call; the file is checked at each call,
and not in between.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from cambfs.errors import SettingError
from cambfs.names import RunId, parse_run_id
from cambfs.system import user_files
from cambfs.text import quoted

MAX_DECLARED_RUNS = 1_000_000
_MAX_FILE_BYTES = 64 * 2**20  # a million lines of the longest ranges
_MAX_LOGGED_LINES = 10
_YOUNG_NS = 2 * 10**9  # file systems stamp times this coarsely at worst

_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)

_log = logging.getLogger(__name__)

_Signature = tuple[int, int, int, int, int]


def parse_runs(text: str) -> list[range]:
    """The runs in a list like `1-100,205`, in the order written. Raises ValueError with a sentence."""
    return [_parse_item(item) for item in text.split(",")] if text.strip() else []


def expand(ranges: Iterable[range]) -> tuple[RunId, ...]:
    """The runs in all `ranges`, ascending, each once. Raises ValueError when there are more than MAX_DECLARED_RUNS."""
    merged: list[range] = []
    for runs in sorted(ranges, key=lambda runs: runs.start):
        if merged and runs.start <= merged[-1].stop:
            merged[-1] = range(merged[-1].start, max(merged[-1].stop, runs.stop))
        else:
            merged.append(runs)
    count = sum(runs.stop - runs.start for runs in merged)
    if count > MAX_DECLARED_RUNS:
        raise ValueError(f"{count:,} runs are declared; at most {MAX_DECLARED_RUNS:,} can be listed (any run opens)")
    return tuple(map(RunId, itertools.chain.from_iterable(merged)))


def _parse_item(item: str) -> range:
    item = item.strip()
    first, dash, last = (part.strip() for part in item.partition("-"))
    start, end = parse_run_id(first), parse_run_id(last if dash else first)
    if _TASK_ID.fullmatch(item):
        raise ValueError(f"{quoted(item)} is a task id; name the run_id of the finished task")
    if start is None or end is None:
        raise ValueError(f"{quoted(item)} is not a run id or a range like 1-100")
    if end < start:
        raise ValueError(f"{item!r} is a range that descends; write {end}-{start}")
    return range(start, end + 1)


def _parse_lines(text: str) -> tuple[list[range], list[tuple[int, str]]]:
    """The runs, and the number of each bad line with its error."""
    ranges: list[range] = []
    bad: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        item = line.partition("#")[0].strip()
        try:
            ranges += [_parse_item(item)] if item else []
        except ValueError as error:
            bad.append((number, str(error)))
    return ranges, bad


class DeclaredRuns:
    """Calling it returns the declared runs, ascending, each once; cheap while the file has not changed.

    A mistake at construction raises SettingError. A later mistake in the file is logged once and has no other effect:
    bad lines are skipped, and while a file cannot be read the last list stays in force.
    """

    def __init__(self, runs: str = "", file: Path | None = None) -> None:
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._file: Path | None = None
        self._fixed: list[range] = []
        self._current: tuple[RunId, ...] = ()
        self._signature: _Signature | None = None
        self._trouble = ""
        self.declare(runs, file)

    def declare(self, runs: str, file: Path | None) -> None:
        """Replaces the declared runs. Raises SettingError, and nothing changes then."""
        try:
            fixed = parse_runs(runs)
            current, signature = (expand(fixed), None) if file is None else _read_all(fixed, file)
        except ValueError as error:
            raise SettingError(f"--runs: {error}") from None
        with self._lock:
            self._file, self._fixed, self._current = file, fixed, current
            self._signature, self._trouble = signature, ""

    def __call__(self) -> Sequence[RunId]:
        with self._lock:
            if self._file is not None:
                self._refresh(self._file)
            return self._current

    def _refresh(self, file: Path) -> None:
        try:
            if self._signature is not None and _sign(file.stat()) == self._signature:
                return
            text, signature = _read(file)
            ranges, bad = _parse_lines(text)
            self._current = expand(self._fixed + ranges)
        except (OSError, ValueError) as error:
            self._signature = None
            self._report([f"{file}: {_reason(error)}; the runs listed before stay listed"])
            return
        self._signature = signature
        self._report([f"{file}:{number}: {text}; skipped" for number, text in bad])

    def _report(self, lines: list[str]) -> None:
        """Logs errors, once as long as they stay the same."""
        if (trouble := "\n".join(lines)) != self._trouble:
            for line in lines[:_MAX_LOGGED_LINES]:
                _log.warning("%s", line)
            if len(lines) > _MAX_LOGGED_LINES:
                _log.warning("%s: %d more bad lines; skipped", self._file, len(lines) - _MAX_LOGGED_LINES)
        self._trouble = trouble


def _read_all(fixed: list[range], file: Path) -> tuple[tuple[RunId, ...], _Signature | None]:
    """Raises SettingError."""
    try:
        text, signature = _read(file)
        ranges, bad = _parse_lines(text)
        if bad:
            raise SettingError(f"{file}:{bad[0][0]}: {bad[0][1]}")
        return expand(fixed + ranges), signature
    except OSError as error:
        raise SettingError(f"{file}: {_reason(error)}; it should have one run or range a line") from None
    except ValueError as error:
        raise SettingError(f"{file}: {error}") from None


def _read(file: Path) -> tuple[str, _Signature | None]:
    """The content, and its signature; None when the file is so young that it can change again and keep its signature.

    Raises OSError, and ValueError when it is no file or too long.
    """
    content, status = user_files.read(file, _MAX_FILE_BYTES)
    young = abs(time.time_ns() - status.st_ctime_ns) < _YOUNG_NS
    return content.decode("utf-8-sig", "replace"), None if young else _sign(status)


def _sign(status: os.stat_result) -> _Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _reason(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
