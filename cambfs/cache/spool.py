"""The bytes of one run that have arrived: one file descriptor, and which ranges of it are filled.

Not who fetches them (`transfer`) or waits for them (`run`), nor which are kept (`cache`). Threads: `readinto` and
`write` are called by many at once. A caller adds to `filled`, and reads it, only under the lock of the spool's owner.
Under `_moving` only `relieve` is called, which locks the cache.
"""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock

from cambfs.cache.ranges import RangeSet
from cambfs.errors import CacheDamaged, NoSpace

_COPY_BYTES = 1 << 20
_serials = itertools.count(1)


class Spool:
    """Owns `fd`. `path` is its temporary name in the cache directory, or None when it has none. `relieve` frees space
    on a full disk, or returns False. A spool in memory goes to an unlinked file when it grows beyond `spill_bytes`.

    `serial` differs between any two spools of a process, so whoever saw bytes of one can tell that another may hold
    others. `etag` is the validator of the answer that brought them, and `has_ranges` whether the API gives ranges of
    what it validates. Bytes that are not in `filled` are undefined.
    """

    def __init__(
        self,
        fd: int,
        filled: RangeSet | None = None,
        path: Path | None = None,
        relieve: Callable[[], bool] = lambda: False,
        spill_bytes: int | None = None,
    ) -> None:
        self.serial = next(_serials)
        self.filled = RangeSet() if filled is None else filled
        self.path = path
        self.etag: str | None = None
        self.is_condemned = False  # its bytes are wrong, and not to be kept
        self.has_ranges = False
        self._fd = fd
        self._relieve = relieve
        self._spill_bytes = spill_bytes
        self._moving = Lock()  # held while bytes are written or the descriptor is redirected, so none is lost between

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fills the buffer with bytes that must be filled. Raises CacheDamaged when the file has lost them."""
        try:
            count = os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise CacheDamaged(f"a cached file cannot be read: {error.strerror}") from error
        if count != len(buffer):
            raise CacheDamaged(f"a cached file ends at {offset + count}, before its size")

    def read(self, offset: int, length: int) -> bytes:
        """As `readinto`, to new bytes."""
        buffer = bytearray(length)
        self.readinto(offset, memoryview(buffer))
        return bytes(buffer)

    def write(self, offset: int, data: bytes) -> None:
        """Puts the bytes down; the caller adds them to `filled` afterwards.

        A full disk is relieved; where it cannot be, the bytes go on in memory, and the temporary name is given up.
        Raises NoSpace when memory is full, too.
        """
        with self._moving:
            if self._spill_bytes is not None and offset + len(data) > self._spill_bytes:
                self._move_to_unlinked_file()
            while True:
                try:
                    return self._write(offset, data)
                except OSError as error:
                    self._find_room(error)

    def _find_room(self, error: OSError) -> None:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"cannot spool: {error.strerror}") from error
        if self._relieve():
            return
        if self.path is None:
            raise NoSpace("no space on the disk, nor in memory") from error
        self._move_to_memory()

    def _write(self, offset: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._fd, left, offset)
            left, offset = left[written:], offset + written

    def _move_to_memory(self) -> None:
        target = os.memfd_create("cambfs-spool", os.MFD_CLOEXEC)
        try:
            self._move_to(target)
        finally:
            os.close(target)
        self.discard_name()

    def _move_to_unlinked_file(self) -> None:
        with tempfile.TemporaryFile() as target:
            self._move_to(target.fileno())
        self._spill_bytes = None

    def _move_to(self, target: int) -> None:
        try:
            self._copy_to(target)
            os.dup2(target, self._fd, inheritable=False)
        except OSError as error:
            raise NoSpace(f"no space on the disk, nor in memory: {error.strerror}") from error

    def _copy_to(self, target: int) -> None:
        position, end = 0, os.fstat(self._fd).st_size
        while position < end:
            data = os.pread(self._fd, _COPY_BYTES, position)
            if not data:
                break
            position += os.pwrite(target, data, position)

    def identity(self) -> tuple[int, int, int, int]:
        """Differs, as far as a file system tells, when the file is another, or was written to or renamed."""
        status = os.fstat(self._fd)
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def fileno(self) -> int:
        return self._fd

    def discard_name(self) -> None:
        """Gives up the temporary name, if there is one; the bytes stay readable until `close`."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()
            self.path = None

    def close(self) -> None:
        """Frees the bytes, and the temporary name. May be called twice."""
        if self._fd >= 0:
            self.discard_name()
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def memory_spool(spill_bytes: int | None = None) -> Spool:
    return Spool(os.memfd_create("cambfs-spool", os.MFD_CLOEXEC), spill_bytes=spill_bytes)
