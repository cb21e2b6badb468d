"""Bytes that can be served in pieces from any position, and the part of them that a Range header asks for.

Not how they are sent (`answer`). Used by the server's thread only.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from types import TracebackType

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)", re.ASCII)
_MD5_AT = 26  # "fLaC", a block header of 4 bytes, 18 bytes of STREAMINFO, then the MD5 of the audio


@dataclass(frozen=True)
class Content:
    """`head`, then the file from byte `skip` to `stop`, then `tail`; without a file only the head."""

    head: bytes = b""
    path: Path | None = None
    skip: int = 0
    stop: int = 0
    tail: bytes = b""
    content_type: str = "application/json"
    etag: str = ""
    modified: str = ""

    @property
    def length(self) -> int:
        return len(self.head) + self.stop - self.skip + len(self.tail)


def same(path: Path) -> Content:
    """The file as it is. Raises OSError."""
    found = path.stat()
    return Content(
        path=path,
        stop=found.st_size,
        content_type="audio/flac",
        etag=f'"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"',
        modified=formatdate(found.st_mtime, usegmt=True),
    )


def as_wav(path: Path) -> Content:
    """A WAV that is longer than the file. What it holds is noise, but every header is right."""
    flac = same(path)
    pad = flac.stop % 2
    size = flac.stop + pad
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, 22050, 44100, 2, 16, b"data", size
    )
    return Content(header, path, 0, flac.stop, bytes(pad), "audio/wav", flac.etag[:-1] + '-wav"', flac.modified)


def as_other(path: Path) -> Content:
    """A FLAC that differs from the file within its first 27 bytes, and is longer: a tag of 128 bytes follows it."""
    flac = same(path)
    with path.open("rb") as file:
        head = bytearray(file.read(_MD5_AT + 1))
    head[-1] ^= 0xFF
    tag = struct.pack("3s30s30s30s4s30sB", b"TAG", b"Another result", b"", b"", b"", b"", 255)
    etag = flac.etag[:-1] + '-other"'
    return Content(bytes(head), path, len(head), flac.stop, tag, flac.content_type, etag, flac.modified)


class Reader:
    """Reads a Content while the `with` lasts. Raises OSError when the file is gone."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._fd = os.open(content.path, os.O_RDONLY | os.O_CLOEXEC) if content.path else -1

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read(self, position: int, count: int) -> bytes:
        """At most `count` bytes, at least one before the end."""
        content = self._content
        if position < len(content.head):
            return content.head[position : position + count]
        offset = position - len(content.head) + content.skip
        if offset < content.stop:
            return self._read_file(offset, min(count, content.stop - offset))
        return content.tail[offset - content.stop :][:count]

    def _read_file(self, offset: int, count: int) -> bytes:
        data = os.pread(self._fd, count, offset)
        if not data:
            raise OSError(f"{self._content.path} has shrunk")
        return data


class Unsatisfiable(Exception):
    """The range starts at the end or behind it."""


def asked_range(headers: Mapping[str, str], content: Content) -> tuple[int, int] | None:
    """start and stop of the one byte range asked for; None when the whole is to be sent. Raises Unsatisfiable."""
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or not any(match.groups()):
        return None
    if headers.get("if-range", content.etag) not in (content.etag, content.modified):
        return None
    return _limit(match[1], match[2], content.length)


def _limit(first: str, last: str, length: int) -> tuple[int, int] | None:
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else length - min(length, int(last))
    stop = min(length, int(last) + 1) if first and last else length
    if start >= length:
        raise Unsatisfiable
    return start, stop
