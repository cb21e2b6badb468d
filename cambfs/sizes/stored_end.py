"""The end of storage's object, beside the bytes of the stream: whether both are of one file.

Neither decides a size or a proof (`sizing`, `completeness`). No threads and no lock of its own: the run that owns it
holds its lock for every method.
"""

from __future__ import annotations

from cambfs import audio
from cambfs.disk.spool import Spool
from cambfs.remote.object_store import HEAD_BYTES, Tail


class StoredEnd:
    """`is_agreed` is whether the object ends with the last of the samples that the stream's head counts, `is_same`
    whether the stream has these very bytes at this very place. Both are None before the stream has come so far."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.is_agreed: bool | None = None
        self.is_same: bool | None = None

    def is_at(self, position: int) -> bool:
        """Whether the stream, which ended there, ends with these bytes."""
        return self.is_same is True and self.tail.total == position

    def compare(self, spool: Spool) -> None:
        """To be called when more of the stream has arrived."""
        tail = self.tail
        if self.is_agreed is None and (head := head_of(spool, tail.total)):
            end = audio.end_of(head, tail.content, tail.total)
            self.is_agreed = audio.signature(head) == "FLAC" and audio.is_counted(head, end)
        if self.is_same is None and spool.filled.covers(tail.start, tail.total):
            self.is_same = spool.read(tail.start, tail.total - tail.start) == tail.content


def head_of(spool: Spool, size: int | None) -> bytes:
    """The beginning of a result, once it is here; b"" before."""
    length = HEAD_BYTES if size is None else min(size, HEAD_BYTES)
    return spool.read(0, length) if spool.filled.covers(0, length) else b""
