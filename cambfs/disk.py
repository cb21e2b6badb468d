"""Results as files of one directory: written whole or not at all, checked before they are believed.

Not which of them are kept (`cache`). `<run_id>.flac` is the result, `<run_id>.json` its sidecar, `part/` holds what is
on its way, `.lock` serves the mounts that share the directory. A name in `part/` whose file nobody has locked was left
by a crash. Threads: any; there is no state but the directory, and every change of a result's two names is made under
the file lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cambfs import private
from cambfs.errors import CacheDamaged, ConfigError
from cambfs.facts import Facts
from cambfs.names import RunId, parse_run_id
from cambfs.ranges import RangeSet
from cambfs.spool import Spool

_SIDECAR_LIMIT_BYTES = 4096


@dataclass(frozen=True)
class Stored:
    """One result as the directory lists it; nothing in it is verified."""

    run_id: RunId
    size: int
    used_ns: int


class Disk:
    def __init__(self, directory: Path) -> None:
        """Makes the directory where it is missing, for the user alone, and sweeps what a crash left.

        Raises ConfigError when it cannot be used.
        """
        self.directory = directory
        try:
            self._prepare()
        except OSError as error:
            raise ConfigError(f"cannot use the cache directory {directory}: {error.strerror}") from error

    def _prepare(self) -> None:
        self._make()
        with self._locked():
            self._sweep()

    def _make(self) -> None:
        """Raises OSError unless nobody else can put something in the place of what is in there."""
        private.make_directory(self.directory)
        private.check_shared(self.directory.parent)
        private.claim_directory(self.directory)
        self._part.mkdir(mode=0o700, exist_ok=True)
        private.claim_directory(self._part)

    @property
    def _part(self) -> Path:
        return self.directory / "part"

    def _sweep(self) -> None:
        for path in self._part.iterdir():
            with suppress(OSError), self._open(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        names = set(os.listdir(self.directory))  # noqa: PTH208 - there may be 100,000, and paths are slow
        for name in names:
            if name.endswith(".json") and f"{name.removesuffix('.json')}.flac" not in names:
                (self.directory / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fd = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _audio(self, run_id: RunId) -> Path:
        return self.directory / f"{run_id}.flac"

    def _sidecar(self, run_id: RunId) -> Path:
        return self.directory / f"{run_id}.json"

    def run_ids(self) -> list[RunId]:
        """The runs whose results are here, in no order; nothing is verified."""
        names: list[str] = []
        with suppress(OSError), os.scandir(self.directory) as entries:
            names = [e.name for e in entries if e.name.endswith(".flac") and e.is_file(follow_symlinks=False)]
        found = (parse_run_id(name.removesuffix(".flac")) for name in names)
        return [run_id for run_id in found if run_id is not None]

    def scan(self) -> list[Stored]:
        """All results, the least recently used first."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                run_id = parse_run_id(entry.name.removesuffix(".flac")) if entry.name.endswith(".flac") else None
                if run_id is not None and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        found.append(Stored(run_id, status.st_size, status.st_atime_ns))
        return sorted(found, key=lambda stored: stored.used_ns)

    def stamp_ns(self) -> int:
        """Differs after results came or went, whoever did it."""
        try:
            return self.directory.stat().st_mtime_ns
        except OSError:
            return 0

    def facts(self, run_id: RunId) -> Facts | None:
        """What the sidecar says, if a file of just that size is there; None when there is no such result.

        Raises CacheDamaged when the two do not fit.
        """
        try:
            status = self._audio(run_id).lstat()
        except OSError:
            return None
        sidecar = self._read_sidecar(run_id)
        if not stat.S_ISREG(status.st_mode) or status.st_size != sidecar["size"]:
            raise CacheDamaged(f"run {run_id}: the cached file has another size than its sidecar says")
        return Facts(size=status.st_size, mtime_ns=sidecar["mtime_ns"])

    def _read_sidecar(self, run_id: RunId) -> dict[str, Any]:
        try:
            with self._open(self._sidecar(run_id)) as file:
                sidecar = json.loads(file.read(_SIDECAR_LIMIT_BYTES))
            if [type(sidecar[name]) for name in ("size", "mtime_ns", "sha256")] == [int, int, str]:
                return dict(sidecar)
        except (OSError, ValueError, TypeError, KeyError):
            pass
        raise CacheDamaged(f"run {run_id}: the cached file has no proper sidecar")

    def _open(self, path: Path) -> BinaryIO:
        # Without O_NONBLOCK, to open a pipe that lies there would wait for ever.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")

    def open(self, run_id: RunId, *, verify: bool) -> Spool | None:
        """The result's bytes, compared with the SHA-256 in the sidecar if asked; None when it is not there.

        Raises CacheDamaged when it is not what the sidecar says.
        """
        facts = self.facts(run_id)
        if facts is None:
            return None
        try:
            with self._open(self._audio(run_id)) as file:
                if verify and _sha256(file.fileno()) != self._read_sidecar(run_id)["sha256"]:
                    raise CacheDamaged(f"run {run_id}: the cached file is damaged")
                return Spool(os.dup(file.fileno()), RangeSet((0, facts.size)))
        except OSError as error:
            raise CacheDamaged(f"run {run_id}: the cached file cannot be read: {error.strerror}") from error

    def new_spool(self, run_id: RunId, relieve: Callable[[], bool]) -> Spool:
        """An empty spool under a temporary name; `relieve` makes room on the disk. Raises OSError."""
        path = self._part / f"{run_id}.{secrets.token_hex(8)}"
        try:
            fd = _create(path)
        except FileNotFoundError:  # somebody has removed the directory
            self._make()
            fd = _create(path)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return Spool(fd, path=path, relieve=relieve)

    def commit(self, run_id: RunId, spool: Spool, facts: Facts, content_type: str) -> None:
        """Gives a whole spool its name; the spool stays readable. Raises OSError."""
        self.publish(run_id, spool, facts, self.describe(spool, facts, content_type))

    def describe(self, spool: Spool, facts: Facts, content_type: str) -> str:
        """The sidecar of a whole spool. Reads all of it. Raises OSError."""
        os.truncate(spool.fileno(), facts.size)
        checksum = _sha256(spool.fileno())
        return json.dumps(
            {"size": facts.size, "sha256": checksum, "content_type": content_type, "mtime_ns": facts.mtime_ns}
        )

    def publish(self, run_id: RunId, spool: Spool, facts: Facts, sidecar: str) -> None:
        """Gives a described spool its name. Raises OSError."""
        if spool.path is None:
            raise FileNotFoundError("the spool has left the disk")
        os.utime(spool.fileno(), ns=(time.time_ns(), facts.mtime_ns))
        with self._locked():
            self._write_sidecar(run_id, sidecar)
            spool.path.rename(self._audio(run_id))
        spool.path = None

    def _write_sidecar(self, run_id: RunId, text: str) -> None:
        path = self._part / f"{run_id}.json.{secrets.token_hex(8)}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
            file.write(text + "\n")
        path.rename(self._sidecar(run_id))

    def touch(self, run_id: RunId) -> None:
        """Notes that the result was used just now."""
        with suppress(OSError):
            path = self._audio(run_id)
            os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns), follow_symlinks=False)

    def remove(self, run_id: RunId) -> None:
        """Removes the result; whoever has it open keeps reading. Nothing happens when it is not there."""
        with suppress(OSError), self._locked():
            self._audio(run_id).unlink(missing_ok=True)
            self._sidecar(run_id).unlink(missing_ok=True)


def _create(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _sha256(fd: int) -> str:
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
