"""Results as files of one directory: written whole or not at all, checked before they are believed.

Not which of them are kept (`cache`). `<run_id>.flac` is the result, `<run_id>.json` its sidecar, `part/` holds what is
on its way, `.lock` serves the mounts that share the directory. A name in `part/` whose file nobody has locked was left
by a crash. Threads: any; there is no state but the directory, and every change of a result's two names is made under
the file lock.

The sidecar vouches for the file (`sidecar`), which is therefore never touched: when it was used is the sidecar's mtime.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cambfs.cache.ranges import RangeSet
from cambfs.cache.sidecar import Sidecar, parse, voucher_for
from cambfs.cache.spool import Spool
from cambfs.errors import CacheDamaged, Closing, ConfigError
from cambfs.model import Facts
from cambfs.names import RunId, parse_run_id
from cambfs.system import private_files

_SIDECAR_LIMIT_BYTES = 4096
_CHECKED_AT_A_TIME_BYTES = 128 * 1024
# Nobody holds the file lock for more than a moment, unless it hangs.
_LOCK_PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.005


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
        self._path = str(directory)
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
        private_files.make_directory(self.directory)
        private_files.check_shared(self.directory.parent)
        private_files.claim_directory(self.directory)
        self._part.mkdir(mode=0o700, exist_ok=True)
        private_files.claim_directory(self._part)

    @property
    def _part(self) -> Path:
        return self.directory / "part"

    def _sweep(self) -> None:
        for path in self._part.iterdir():
            with suppress(OSError), _open(path) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
        names = set(os.listdir(self.directory))  # noqa: PTH208 - there may be 100,000, and paths are slow
        for name in names:
            if name.endswith(".json") and f"{name.removesuffix('.json')}.flac" not in names:
                (self.directory / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Raises OSError, too, when somebody has had it for longer than one may."""
        fd = os.open(f"{self._path}/.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + _LOCK_PATIENCE_S
            while not _try_lock(fd, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise OSError(errno.EBUSY, "another program holds the lock of the cache directory")
                time.sleep(_LOOK_EVERY_S)
            yield
        finally:
            os.close(fd)

    # Strings, for these are made all the time, and paths are slow.

    def _audio(self, run_id: RunId) -> str:
        return f"{self._path}/{run_id}.flac"

    def _sidecar(self, run_id: RunId) -> str:
        return f"{self._path}/{run_id}.json"

    def _temporary(self, name: str) -> str:
        return f"{self._path}/part/{name}.{secrets.token_hex(8)}"

    def run_ids(self) -> list[RunId]:
        """The runs whose results are here, in no order; nothing is verified."""
        with suppress(OSError), os.scandir(self.directory) as entries:
            # Without a list of the names, which in a large cache would take more memory than all else of it.
            names = (e.name for e in entries if e.name.endswith(".flac") and e.is_file(follow_symlinks=False))
            return [run_id for name in names if (run_id := parse_run_id(name.removesuffix(".flac"))) is not None]
        return []

    def scan(self) -> list[Stored]:
        """All results, the least recently used first."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self.directory) as entries:
            for entry in entries:
                run_id = parse_run_id(entry.name.removesuffix(".flac")) if entry.name.endswith(".flac") else None
                if run_id is not None and entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append(Stored(run_id, size, _mtime_ns(self._sidecar(run_id))))
        return sorted(found, key=lambda stored: stored.used_ns)

    def usage_bytes(self) -> int:
        """What all results together take."""
        with suppress(OSError), os.scandir(self.directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries if entry.name.endswith(".flac"))
        return 0

    def stamp_ns(self) -> int:
        """Differs after results came or went, whoever did it."""
        return _mtime_ns(self._path)

    def facts(self, run_id: RunId) -> Facts | None:
        """What the sidecar says, if a file of just that size is there; None when there is no such result.

        Raises CacheDamaged when the two do not fit.
        """
        try:
            return self._facts(run_id)
        except CacheDamaged:
            with suppress(OSError), self._locked():  # another mount may just be putting it there
                return self._facts(run_id)
            raise

    def _facts(self, run_id: RunId) -> Facts | None:
        try:
            status = os.lstat(self._audio(run_id))
        except OSError:
            return None
        sidecar = self._read_sidecar(run_id)
        if not stat.S_ISREG(status.st_mode) or status.st_size != sidecar.size:
            raise CacheDamaged(f"run {run_id}: the cached file has another size than its sidecar says")
        return Facts(size=status.st_size, mtime_ns=sidecar.mtime_ns)

    def _read_sidecar(self, run_id: RunId) -> Sidecar:
        with suppress(OSError):
            fd = _open_fd(self._sidecar(run_id))
            try:
                sidecar = parse(os.read(fd, _SIDECAR_LIMIT_BYTES))
            finally:
                os.close(fd)
            if sidecar is not None:
                return sidecar
        raise CacheDamaged(f"run {run_id}: the cached file has no proper sidecar")

    def open(self, run_id: RunId) -> tuple[Spool, Facts] | None:
        """The result's bytes, not checked, and what the sidecar says; None when it is not there.

        Raises CacheDamaged when the two do not fit.
        """
        facts = self.facts(run_id)
        if facts is None:
            return None
        try:
            with _open(self._audio(run_id)) as file:
                return Spool(os.dup(file.fileno()), RangeSet((0, facts.size))), facts
        except OSError as error:
            raise CacheDamaged(f"run {run_id}: the cached file cannot be read: {error.strerror}") from error

    def is_vouched_for(self, run_id: RunId, spool: Spool) -> bool:
        """Whether the file is as it was when its bytes were last known to be right. Raises CacheDamaged."""
        voucher = voucher_for(spool.identity())
        return bool(voucher) and self._read_sidecar(run_id).voucher == voucher

    def check(self, run_id: RunId, spool: Spool, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Compares all of it with the SHA-256 in the sidecar, which vouches for it from then on; `is_given_up` is asked
        every 128 KiB, and Closing raised when it is so. Raises CacheDamaged when it is not what the sidecar says."""
        sidecar, identity = self._read_sidecar(run_id), spool.identity()
        try:
            checksum = _sha256(spool.fileno(), is_given_up)
        except OSError as error:
            raise CacheDamaged(f"run {run_id}: the cached file cannot be read: {error.strerror}") from error
        if checksum != sidecar.sha256:
            raise CacheDamaged(f"run {run_id}: the cached file is damaged")
        with suppress(OSError, CacheDamaged), self._locked():
            if self._read_sidecar(run_id) == sidecar and spool.identity() == identity:
                self._write_sidecar(run_id, sidecar._replace(voucher=voucher_for(identity)))

    def new_spool(self, run_id: RunId, relieve: Callable[[], bool]) -> Spool:
        """An empty spool under a temporary name; `relieve` makes room on the disk. Raises OSError."""
        while True:
            path = self._temporary(str(run_id))
            try:
                fd = _create(path)
            except FileNotFoundError:  # somebody has removed the directory
                self._make()
                fd = _create(path)
            # Another mount that begins just now may have taken it for one that a crash left.
            if _try_lock(fd, fcntl.LOCK_SH) and os.fstat(fd).st_nlink:
                return Spool(fd, path=Path(path), relieve=relieve)
            os.close(fd)

    def commit(self, run_id: RunId, spool: Spool, facts: Facts, content_type: str) -> None:
        """Gives a whole spool its name; the spool stays readable. Raises OSError."""
        self.publish(run_id, spool, facts, self.describe(spool, facts, content_type))

    def describe(self, spool: Spool, facts: Facts, content_type: str) -> Sidecar:
        """The sidecar of a whole spool. Reads all of it. Raises OSError."""
        os.truncate(spool.fileno(), facts.size)
        return Sidecar(facts.size, facts.mtime_ns, _sha256(spool.fileno()), content_type)

    def publish(self, run_id: RunId, spool: Spool, facts: Facts, sidecar: Sidecar) -> None:
        """Gives a described spool its name. Raises OSError."""
        if (path := spool.path) is None:
            raise FileNotFoundError("the spool has left the disk")
        os.utime(spool.fileno(), ns=(facts.mtime_ns, facts.mtime_ns))
        with self._locked():
            self._write_sidecar(run_id, sidecar)  # before: also after a crash no result lies there without
            try:
                path.rename(self._audio(run_id))
            except OSError:
                self._remove(run_id)
                raise
            spool.path = None
            with suppress(OSError):  # then it will be read through before it is believed
                # Only now, for a file's ctime is when it was last changed or renamed.
                self._vouch(run_id, voucher_for(spool.identity()))

    def _vouch(self, run_id: RunId, voucher: bytes) -> None:
        """Adds it to the sidecar. A new one in its place would free an inode, and ext4, when it looks for a free one,
        passes by each that became so in the last seconds: to make other files would take longer."""
        _write(self._sidecar(run_id), os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, voucher)

    def _write_sidecar(self, run_id: RunId, sidecar: Sidecar) -> None:
        path = self._temporary(f"{run_id}.json")
        _write(path, os.O_CREAT | os.O_EXCL, sidecar.text())
        Path(path).rename(self._sidecar(run_id))

    def touch(self, run_id: RunId) -> None:
        """Notes that the result was used just now."""
        with suppress(OSError):
            os.utime(self._sidecar(run_id), follow_symlinks=False)

    def remove(self, run_id: RunId) -> None:
        """Removes the result; whoever has it open keeps reading. Nothing happens when it is not there."""
        with suppress(OSError), self._locked():
            self._remove(run_id)

    def _remove(self, run_id: RunId) -> None:
        for path in (self._audio(run_id), self._sidecar(run_id)):
            Path(path).unlink(missing_ok=True)


def _open(path: str | Path) -> BinaryIO:
    return os.fdopen(_open_fd(path), "rb")


def _open_fd(path: str | Path) -> int:
    # Without O_NONBLOCK, to open a pipe that lies there would wait for ever.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _write(path: str, flags: int, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)


def _create(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _try_lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _mtime_ns(path: str) -> int:
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0


def _sha256(fd: int, is_given_up: Callable[[], bool] = lambda: False) -> str:
    checksum, position = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_CHECKED_AT_A_TIME_BYTES))  # many results may end at the same time
    while count := os.preadv(fd, [buffer], position):
        if is_given_up():
            raise Closing("a cached file was not wanted any more before it was checked")
        checksum.update(buffer[:count])
        position += count
    return checksum.hexdigest()
