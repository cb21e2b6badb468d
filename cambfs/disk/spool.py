"""The bytes of one run that have arrived: a file descriptor, and the set of ranges that are filled.

Threads: many call `readinto` and `write` at once. Callers use `filled` only under the lock of the spool's owner. Under
`_moving` only `relieve` is called, which locks the cache.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from cambfs.disk import checks
from cambfs.disk.descriptors import shortage
from cambfs.disk.directory import Name
from cambfs.disk.ranges import RangeSet
from cambfs.disk.sidecar import Identity, identity_of
from cambfs.errors import CacheDamaged, NoSpace

log = logging.getLogger(__name__)

_COPY_BYTES = 1 << 20
# How often reads check that the cached file is unchanged.
_LOOK_EVERY_S = 1.0
_generations = itertools.count(1)


class Spool:
    """Owns `fd`. `name` is its temporary name in the cache directory, or None when it has none. `relieve` frees space
    on a full disk, or returns False. A spool in memory goes to an unlinked file when it grows beyond `spill_bytes`.

    `generation` differs between any two spools of a process: other bytes may be in a spool with another generation.
    `etag` is the validator of the response that brought them, and `has_ranges` whether the API gives ranges of what it
    validates. `verified_identity` is the identity of a file in the cache whose bytes are known to be right, and
    `trouble` why the bytes have left the disk, if they have; `sha256` is what such a file has. Bytes that are not in
    `filled` are undefined.
    """

    def __init__(
        self,
        fd: int,
        filled: RangeSet | None = None,
        name: Name | None = None,
        relieve: Callable[[], bool] = lambda: False,
        spill_bytes: int | None = None,
        *,
        is_in_memory: bool = False,
    ) -> None:
        self.generation = next(_generations)
        self.filled = RangeSet() if filled is None else filled
        self.name = name
        self.etag: str | None = None
        self.is_invalid = False  # its bytes are wrong and must not be kept
        self.has_ranges = False
        self.verified_identity: Identity | None = None
        self.sha256 = ""
        self.trouble: OSError | None = None
        self._fd = fd
        self._relieve = relieve
        self._spill_bytes = spill_bytes
        self._is_in_memory = is_in_memory
        self._look_at = 0.0  # one word, written by any reader
        self._moving = Lock()  # held while bytes are written or the descriptor is redirected, so none is lost between

    def readinto(self, offset: int, buffer: memoryview) -> None:
        """Fills the buffer from a range in `filled`. Raises CacheDamaged when the file has lost bytes, or was changed
        more than a second ago."""
        try:
            count = os.preadv(self._fd, [buffer], offset)
        except OSError as error:
            raise CacheDamaged(f"a cached file cannot be read: {error.strerror}") from error
        if count != len(buffer):
            raise CacheDamaged(f"a cached file ends at {offset + count}, before its size")
        if self.verified_identity is not None and (now := time.monotonic()) >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raises CacheDamaged when the cached file has changed since its bytes were known to be right."""
        if self.verified_identity is None:
            return
        try:
            status = os.fstat(self._fd)
        except OSError as error:
            raise CacheDamaged(f"a cached file cannot be examined: {error.strerror}") from error
        found = identity_of(status)
        if not status.st_nlink and found[:-1] == self.verified_identity[:-1]:
            self.verified_identity = found  # it was removed, which changes the ctime
        if found != self.verified_identity:
            self._check_anew(found)

    def _check_anew(self, found: Identity) -> None:
        """A new link or mode changes the ctime, but not the bytes: compares the checksum."""
        if found[:2] == (self.verified_identity or ())[:2] and self.sha256 and checks.sha256(self._fd) == self.sha256:
            self.verified_identity = found
            return
        raise CacheDamaged("a cached file was changed while it was open")

    def read(self, offset: int, length: int) -> bytes:
        """As `readinto`, to new bytes."""
        buffer = bytearray(length)
        self.readinto(offset, memoryview(buffer))
        return bytes(buffer)

    def write(self, offset: int, data: bytes) -> None:
        """Writes the bytes; the caller adds them to `filled` afterwards.

        Calls `relieve` when the disk is full. When the disk fails in any other way, all bytes move to memory and the
        temporary name is removed. Raises NoSpace or TooManyOpenFiles when memory fails, too, and CacheDamaged when
        the bytes on the disk cannot be read.
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
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and self._relieve():
            return
        if self._is_in_memory:
            raise NoSpace(f"no space on the disk or in memory: {error.strerror}") from error
        self._move_to_memory(error)

    def _write(self, offset: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._fd, left, offset)
            left, offset = left[written:], offset + written

    def move_to_memory(self, trouble: OSError) -> None:
        """The disk has failed: moves all bytes to memory. Raises as `write` does."""
        with self._moving:
            self._move_to_memory(trouble)

    def _move_to_memory(self, trouble: OSError) -> None:
        try:
            target = os.memfd_create("cambfs-spool", os.MFD_CLOEXEC)
            try:
                self._move_to(target)
            finally:
                os.close(target)
        except OSError as error:
            raise shortage(error, "no space on the disk or in memory") from error
        self._is_in_memory, self.trouble = True, trouble
        self.discard_name()

    def _move_to_unlinked_file(self) -> None:
        """Stays in memory when no file can be made."""
        self._spill_bytes = None
        try:
            with tempfile.TemporaryFile() as target:
                self._move_to(target.fileno())
            self._is_in_memory = False
        except OSError as error:
            log.info("a large result stays in memory: %s", error.strerror)

    def _move_to(self, target: int) -> None:
        position, end = 0, os.fstat(self._fd).st_size
        while position < end and (data := self._read_some(position)):
            position += os.pwrite(target, data, position)
        os.dup2(target, self._fd, inheritable=False)

    def _read_some(self, position: int) -> bytes:
        try:
            return os.pread(self._fd, _COPY_BYTES, position)
        except OSError as error:
            raise CacheDamaged(f"a partly downloaded file cannot be read: {error.strerror}") from error

    def identity(self) -> Identity:
        return identity_of(os.fstat(self._fd))

    def fileno(self) -> int:
        return self._fd

    def discard_name(self) -> None:
        """Removes the temporary name, if there is one. The bytes stay readable until `close`."""
        if self.name is not None:
            with suppress(OSError):
                self.name.remove()
            self.name = None

    def close(self) -> None:
        """Frees the bytes, and the temporary name. May be called twice."""
        if self._fd >= 0:
            self.discard_name()
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        self.close()


def memory_spool(spill_bytes: int | None = None) -> Spool:
    """Raises OSError."""
    return Spool(os.memfd_create("cambfs-spool", os.MFD_CLOEXEC), spill_bytes=spill_bytes, is_in_memory=True)
