"""Results as files of one directory: written whole or not at all, checked before they are believed.

Not which of them are kept (`cache`). `<run_id>.flac` is the result, `<run_id>.json` its sidecar, `part/` holds what is
on its way. The directory is held open, so that nothing is looked for by a path that others could turn elsewhere.

Mounts that share a directory need no lock, and so nobody ever waits for one. A sidecar is written when its file has its
name, and tells of just that file (`sidecar`): whatever two mounts do at the same time, a pair that does not belong
together is read through before it is believed, and half a pair is no result. A file that its maker has open is locked
(flock); half a pair, or a file in `part/`, that nobody has locked was left by a crash, and the next mount sweeps it.

Threads: any; there is no state but the directory. It is made anew, as another, when somebody has removed it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cambfs.cache import reading
from cambfs.cache.checks import FRAMES, check_structure, sha256
from cambfs.cache.descriptors import SHORTAGES
from cambfs.cache.directory import Directory, Name, sweep, try_lock
from cambfs.cache.reading import Opened, audio_name, sidecar_name
from cambfs.cache.sidecar import Sidecar
from cambfs.cache.spool import Spool
from cambfs.errors import CacheDamaged, ConfigError
from cambfs.model import RunInfo
from cambfs.names import RunId, parse_run_id
from cambfs.system import private_files

_PARTNERS = {"json": "flac", "flac": "json"}


@dataclass(frozen=True)
class Stored:
    """One result as the directory lists it; nothing in it is verified."""

    run_id: RunId
    size: int
    used_ns: int


class _Held(NamedTuple):
    results: Directory
    part: Directory


class Disk:
    """Methods raise OSError where there are no descriptors left (SHORTAGES), and for what else as they say."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory where it is missing, for the user alone, and sweeps what a crash left.

        Raises ConfigError when it cannot be used.
        """
        self.directory = directory
        try:
            self._held = self._open_directory()
            self._held.results.check_writable()
            self._sweep()
        except OSError as error:
            raise ConfigError(f"cannot use the cache directory {directory}: {error.strerror}") from error

    def _open_directory(self) -> _Held:
        results = Directory(private_files.open_directory(self.directory))
        return _Held(results, results.below("part"))

    def _make_anew(self) -> None:
        """Somebody has removed the directory, or `part/`. Another one in its place does not matter otherwise."""
        results = self._held.results
        self._held = self._open_directory() if results.is_removed() else _Held(results, results.below("part"))

    def _sweep(self) -> None:
        results, part = self._held
        for name in part.names():
            sweep(part, name)
        names = set(results.names())
        for name in names:
            stem, _, kind = name.rpartition(".")
            is_alone = kind in _PARTNERS and f"{stem}.{_PARTNERS[kind]}" not in names
            if is_alone and parse_run_id(stem) is not None:
                sweep(results, name)

    def run_ids(self) -> list[RunId]:
        """The runs whose results are here, in no order; nothing is verified."""
        return [run_id for run_id, _ in self._files()]

    def scan(self) -> list[Stored]:
        """All results, the least recently used first."""
        found = [Stored(run_id, _size(entry), self._used_ns(run_id)) for run_id, entry in self._files()]
        return sorted(found, key=lambda stored: stored.used_ns)

    def usage_bytes(self) -> int:
        """What all results together take."""
        return sum(_size(entry) for _, entry in self._files())

    def _files(self) -> Iterator[tuple[RunId, os.DirEntry[str]]]:
        """The results' files, one after the other: a list of their names takes more memory than all else of a large
        cache. None when the directory cannot be read."""
        try:
            with self._held.results.entries() as entries:
                for entry in entries:
                    run_id = parse_run_id(entry.name.removesuffix(".flac")) if entry.name.endswith(".flac") else None
                    if run_id is not None and entry.is_file(follow_symlinks=False):
                        yield run_id, entry
        except OSError as error:
            if error.errno in SHORTAGES:
                raise

    def _used_ns(self, run_id: RunId) -> int:
        try:
            return self._held.results.status(sidecar_name(run_id)).st_mtime_ns
        except OSError:
            return 0

    def stamp_ns(self) -> int:
        """Differs after any process has added or removed results."""
        try:
            return self._held.results.mtime_ns()
        except OSError:
            return 0

    def info(self, run_id: RunId) -> RunInfo | None:
        """What the sidecar says, if a file of just that size is there; None when there is no such result.

        Raises CacheDamaged when the two do not fit, or nothing proves the size.
        """
        return reading.info(self._held.results, run_id)

    def open(self, run_id: RunId) -> Opened | None:
        """The result's bytes, not checked, and what the sidecar says; None when it is not there.

        Raises CacheDamaged when the two do not fit.
        """
        return reading.open_(self._held.results, run_id)

    def check(self, run_id: RunId, spool: Spool, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Compares all of it with the SHA-256 in the sidecar, which vouches for it from then on, and looks at its
        structure where nothing else has proven it whole. `is_cancelled` is asked every 128 KiB, and Closing raised when
        it is so. Raises CacheDamaged when it is not what the sidecar says."""
        sidecar, identity = reading.read_sidecar(self._held.results, run_id), spool.identity()
        if sidecar is None:
            raise CacheDamaged(f"run {run_id}: the cached file was removed before it was checked")
        try:
            checksum = sha256(spool.fileno(), is_cancelled)
        except OSError as error:
            raise CacheDamaged(f"run {run_id}: the cached file cannot be read: {error.strerror}") from error
        if checksum != sidecar.sha256 or spool.identity() != identity:
            raise CacheDamaged(f"run {run_id}: the cached file is damaged")
        if not sidecar.proof:
            check_structure(run_id, sidecar, spool.fileno())
        spool.verified_identity, spool.sha256 = identity, sidecar.sha256
        right = sidecar._replace(identity=identity, proof=sidecar.proof or FRAMES)
        with suppress(OSError, CacheDamaged):  # then it is checked the next time once more
            if right != sidecar and reading.read_sidecar(self._held.results, run_id) == sidecar:
                self._write_sidecar(run_id, right)

    def verify(self, run_id: RunId) -> None:
        """Checks a result and its structure, whatever vouches for it; one that is not there is right. Raises
        CacheDamaged."""
        opened = self.open(run_id)
        if opened is None:
            return
        with closing(opened.spool) as spool:
            self.check(run_id, spool)
            sidecar = reading.read_sidecar(self._held.results, run_id)
            if sidecar is not None:
                check_structure(run_id, sidecar, spool.fileno())

    def new_spool(self, run_id: RunId, relieve: Callable[[], bool]) -> Spool:
        """An empty spool under a temporary name; `relieve` makes room on the disk. Raises OSError."""
        while True:
            name, fd = self._create(_temporary(str(run_id)))
            try:
                # Another mount that begins just now may have taken it for one that a crash left.
                if try_lock(fd, fcntl.LOCK_SH) and os.fstat(fd).st_nlink:
                    return Spool(fd, name=name, relieve=relieve)
            except OSError:
                name.remove()
                os.close(fd)
                raise
            os.close(fd)

    def _create(self, text: str) -> tuple[Name, int]:
        part = self._held.part
        try:
            return Name(part, text), part.create(text)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
        self._make_anew()
        part = self._held.part
        return Name(part, text), part.create(text)

    def commit(self, run_id: RunId, spool: Spool, info: RunInfo, content_type: str, proof: str) -> None:
        """Gives a whole spool its name; the spool stays readable. Raises OSError."""
        self.publish(run_id, spool, self.describe(spool, info, content_type, proof))

    def describe(self, spool: Spool, info: RunInfo, content_type: str, proof: str) -> Sidecar:
        """The sidecar of a whole spool, all of which is read, and then on the disk. Raises OSError, and where the disk
        fails to take it, the spool goes on in memory."""
        if spool.name is None:
            raise spool.trouble or FileNotFoundError(errno.ENOENT, "the spool has left the disk")
        os.truncate(spool.fileno(), info.size)
        checksum = sha256(spool.fileno())
        os.utime(spool.fileno(), ns=(info.mtime_ns, info.mtime_ns))
        try:
            os.fdatasync(spool.fileno())
        except OSError as error:  # what was not written yet may be forgotten, and read as something else
            spool.move_to_memory(error)
            raise
        return Sidecar(info.size, info.mtime_ns, checksum, content_type, proof)

    def publish(self, run_id: RunId, spool: Spool, sidecar: Sidecar) -> None:
        """Gives a described spool its name, and then its sidecar. Raises OSError, and there is no result then."""
        if spool.name is None:
            raise FileNotFoundError(errno.ENOENT, "the spool has left the disk")
        self._remove(run_id)
        spool.name.move(self._held.results, audio_name(run_id))
        spool.name = None
        try:
            # Only now, for a file's ctime is when it was last changed or renamed.
            identity = spool.identity()
            self._write_sidecar(run_id, sidecar._replace(identity=identity))
        except OSError:
            self.remove(run_id)
            raise
        spool.verified_identity, spool.sha256 = identity, sidecar.sha256

    def _write_sidecar(self, run_id: RunId, sidecar: Sidecar) -> None:
        results, part = self._held
        text = _temporary(sidecar_name(run_id))
        part.write(text, sidecar.text())
        try:
            part.rename(text, results, sidecar_name(run_id))
        except OSError:
            part.remove(text)
            raise

    def touch(self, run_id: RunId) -> None:
        """Notes that the result was used just now: its sidecar's mtime says so, for the file is never touched."""
        with suppress(OSError):
            self._held.results.touch(sidecar_name(run_id))

    def remove(self, run_id: RunId) -> None:
        """Removes the result, if there is one. Files that are open stay readable."""
        with suppress(OSError):
            self._remove(run_id)

    def _remove(self, run_id: RunId) -> None:
        self._held.results.clear(sidecar_name(run_id))
        self._held.results.clear(audio_name(run_id))


def _temporary(name: str) -> str:
    return f"{name}.{secrets.token_hex(8)}"


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # just removed
        return 0
