"""Checks of one cached file against its sidecar: owner, size, checksum, and the structure of the audio. No threads."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable

from cambfs import audio
from cambfs.audio import End
from cambfs.disk.sidecar import Sidecar
from cambfs.errors import CacheDamaged, Closing
from cambfs.names import RunId

# The proof that a result of an earlier version gets when its structure shows its end.
FRAMES = "frames"
_STORAGE = "storage"
_READ_AT_A_TIME_BYTES = 128 * 1024
# The audio may stand behind a tag with a small picture.
_HEAD_BYTES = 64 * 1024


def is_own_file(status: os.stat_result) -> bool:
    """Whether it is a regular file of this user that no other user can write to."""
    is_open_to_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not is_open_to_others


def check_fits(run_id: RunId, sidecar: Sidecar, status: os.stat_result) -> None:
    """Raises CacheDamaged when the file cannot be that of the sidecar."""
    if not is_own_file(status):
        raise CacheDamaged(f"run {run_id}: the cached file is not a regular file that only this user can write")
    if status.st_size != sidecar.size:
        raise CacheDamaged(f"run {run_id}: the cached file has another size than its sidecar says")


def check_structure(run_id: RunId, sidecar: Sidecar, fd: int) -> None:
    """Raises CacheDamaged when the file is not audio, or its structure ends elsewhere, unless storage had proven this
    very length. Without a proof the structure must be one."""
    try:
        flaw = _flaw(fd, sidecar.size, sidecar.proof)
    except OSError as error:
        flaw = error.strerror
    if flaw:
        raise CacheDamaged(f"run {run_id}: the cached file is damaged: {flaw}")


def _flaw(fd: int, size: int, proof: str) -> str | None:
    head = os.pread(fd, _HEAD_BYTES, 0)
    if audio.signature(head) is None:
        return "it is not audio"
    tail_bytes = min(size, audio.tail_bytes_wanted(head))
    end = audio.end_of(head, os.pread(fd, tail_bytes, size - tail_bytes), size)
    if not proof and end is not End.WHOLE:
        return "nothing proves that it is whole"
    if end is End.BROKEN and _STORAGE not in proof:
        return "its end is not the end of the audio"
    return None


def sha256(fd: int, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """Of the whole file. `is_cancelled` is asked every 128 KiB, and Closing raised when it is so. Raises OSError."""
    checksum, position = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_READ_AT_A_TIME_BYTES))  # many results may be completed at the same time
    while count := os.preadv(fd, [buffer], position):
        if is_cancelled():
            raise Closing("the check of a cached file was cancelled")
        checksum.update(buffer[:count])
        position += count
    return checksum.hexdigest()
