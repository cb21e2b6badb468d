"""Results as files of one directory: written completely or not at all, and checked before use.

`<run_id>.flac` is the result, `<run_id>.json` its sidecar, `part/` holds incomplete files. The directory is held open,
so that nothing is opened by a path that another user could redirect. Not which results are kept (`cache`).

Mounts that share a directory need no common lock. A sidecar is written after its file has its name, and identifies that
file (`sidecar`). If two mounts write at the same time and a pair does not match, the file is read through before use;
half a pair is not a result. The maker of an incomplete file holds a lock on it (flock). Half a pair, or a file in
`part/`, without a lock is left over from a crash. The next mount removes it.

Threads: any. The only state is the directory, which is made again when it has been removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cambfs.disk import reading
from cambfs.disk.checks import check_structure, sha256
from cambfs.disk.descriptors import SHORTAGES
from cambfs.disk.directory import Directory, Name, sweep, try_lock
from cambfs.disk.reading import Opened, audio_name, sidecar_name
from cambfs.disk.sidecar import Sidecar
from cambfs.disk.spool import Spool
from cambfs.errors import CacheDamaged, ConfigError
from cambfs.model import RunInfo
from cambfs.names import RunId, parse_run_id
from cambfs.system import private_files

# A younger directory can change and keep its stamp: file systems stamp this coarsely at worst.
_YOUNG_NS = 2 * 10**9
_PARTNERS = {"json": "flac", "flac": "json"}


@dataclass(frozen=True)
class Stored:
    """One result as the directory lists it; nothing in it is verified."""

    run_id: RunId
    size: int
    used_ns: int


class Usage(NamedTuple):
    """What the results together took when the directory had this stamp."""

    stamp_ns: int = 0
    results: int = 0
    bytes: int = 0


class _Held(NamedTuple):
    results: Directory
    part: Directory


class Disk:
    """All methods raise OSError when no descriptors are left (SHORTAGES)."""

    def __init__(self, directory: Path) -> None:
        """Makes the directory if it is missing, for the user alone, and removes what a crash has left.

        Raises ConfigError when the directory cannot be used.
        """
        self.directory = directory
        self._usage = Usage()  # one word
        try:
            self._held = self._open_directory()
            self._held.results.check_writable()
            self._sweep()
        except OSError as error:
            raise unusable(directory, error) from error

    def _open_directory(self) -> _Held:
        results = Directory(private_files.open_directory(self.directory))
        return _Held(results, results.below("part"))

    def _make_anew(self) -> None:
        """The directory, or `part/`, has been removed."""
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
        """The runs whose results are here, unsorted and not verified."""
        return [run_id for run_id, _ in self._files()]

    def scan(self) -> list[Stored]:
        """All results, the least recently used first."""
        found = [Stored(run_id, _size(entry), self._used_ns(run_id)) for run_id, entry in self._files()]
        return sorted(found, key=lambda stored: stored.used_ns)

    def usage(self) -> Usage:
        """The number and total size of all results. Counted again only after results were added or removed."""
        stamp_ns = self.stamp_ns()
        if not stamp_ns or stamp_ns != self._usage.stamp_ns:
            sizes = [_size(entry) for _, entry in self._files()]
            is_settled = time.time_ns() - stamp_ns > _YOUNG_NS
            self._usage = Usage(stamp_ns if is_settled else 0, len(sizes), sum(sizes))
        return self._usage

    def _files(self) -> Iterator[tuple[RunId, os.DirEntry[str]]]:
        """The files of the results, one at a time: a list of them would need much memory. None when the directory
        cannot be read."""
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
        """Changes when any process adds or removes results."""
        try:
            return self._held.results.mtime_ns()
        except OSError:
            return 0

    def info(self, run_id: RunId) -> RunInfo | None:
        """The info in the sidecar; None without such a result.

        Raises CacheDamaged when file and sidecar do not match, or nothing proves the size.
        """
        return reading.info(self._held.results, run_id)

    def identify(self, run_id: RunId) -> tuple[str, bytes]:
        """The SHA-256 in the sidecar and the first bytes, neither of them checked; empty where they cannot be had."""
        return reading.identify(self._held.results, run_id)

    def open(self, run_id: RunId) -> Opened | None:
        """The bytes, not checked, the info in the sidecar, and whether the bytes are known to be right; None without
        such a result.

        Raises CacheDamaged when file and sidecar do not match.
        """
        return reading.open_(self._held.results, run_id)

    def check(self, run_id: RunId, spool: Spool, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        """Compares the file with the checksum in its sidecar, and notes its identity there. Checks its structure when
        nothing else has proven it complete. Raises CacheDamaged when it differs, Closing when `is_cancelled`, which
        is called every 128 KiB."""
        found, right = reading.check(self._held.results, run_id, spool, is_cancelled)
        with suppress(OSError, CacheDamaged):  # it is checked again next time
            if right != found and reading.read_sidecar(self._held.results, run_id) == found:
                self._write_sidecar(run_id, right)

    def verify(self, run_id: RunId) -> None:
        """Compares a result with its checksum, even if it is known to be right, and checks its structure. A missing
        result is right. Raises CacheDamaged."""
        opened = self.open(run_id)
        if opened is None:
            return
        with closing(opened.spool) as spool:
            self.check(run_id, spool)
            sidecar = reading.read_sidecar(self._held.results, run_id)
            if sidecar is not None:
                check_structure(run_id, sidecar, spool.fileno())

    def new_spool(self, run_id: RunId, relieve: Callable[[], bool]) -> Spool:
        """An empty spool under a temporary name; `relieve` frees space on the disk. Raises OSError."""
        while True:
            name, fd = self._create(_temporary(str(run_id)))
            try:
                # A mount that is just starting may take it for a leftover, and remove it.
                if try_lock(fd, fcntl.LOCK_SH) and os.fstat(fd).st_nlink:
                    return Spool(fd, name=name, relieve=relieve)
            except OSError:
                name.remove()
                os.close(fd)
                raise
            os.close(fd)

    def _create(self, text: str) -> tuple[Name, int]:
        try:
            fd = self._held.part.create(text)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            self._make_anew()
            fd = self._held.part.create(text)
        return Name(self._held.part, text), fd

    def describe(self, spool: Spool, info: RunInfo, content_type: str, proof: str) -> Sidecar:
        """The sidecar of a complete spool. Reads the file and syncs it to the disk. Raises OSError; when the disk has
        failed, the spool has moved to memory."""
        if spool.name is None:
            raise spool.trouble or FileNotFoundError(errno.ENOENT, "the spool has left the disk")
        os.truncate(spool.fileno(), info.size)
        checksum = sha256(spool.fileno())
        os.utime(spool.fileno(), ns=(info.mtime_ns, info.mtime_ns))
        try:
            os.fdatasync(spool.fileno())
        except OSError as error:  # the kernel may have dropped pages that were not written
            spool.move_to_memory(error)
            raise
        return Sidecar(info.size, info.mtime_ns, checksum, content_type, proof)

    def publish(self, run_id: RunId, spool: Spool, sidecar: Sidecar) -> None:
        """Gives a spool its name, and writes its sidecar. Raises OSError, and leaves no result then."""
        if spool.name is None:
            raise FileNotFoundError(errno.ENOENT, "the spool has left the disk")
        self._remove(run_id)
        spool.name.move(self._held.results, audio_name(run_id))
        spool.name = None
        try:
            # After the rename, which changes the ctime.
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
        """Notes a use of the result, as the mtime of its sidecar. The file itself is never touched."""
        with suppress(OSError):
            self._held.results.touch(sidecar_name(run_id))

    def remove(self, run_id: RunId) -> None:
        """Removes the result, if there is one. Open files stay readable."""
        with suppress(OSError):
            self._remove(run_id)

    def _remove(self, run_id: RunId) -> None:
        self._held.results.clear(sidecar_name(run_id))
        self._held.results.clear(audio_name(run_id))


def unusable(directory: Path, error: OSError) -> ConfigError:
    """What to say of a cache directory. Some errors come with their own remedy."""
    reason = error.strerror or str(error)
    remedy = "" if ";" in reason else "; name another one with --cache-dir"
    return ConfigError(f"cannot use the cache directory {directory}: {reason}{remedy}")


def _temporary(name: str) -> str:
    return f"{name}.{secrets.token_hex(8)}"


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # just removed
        return 0
