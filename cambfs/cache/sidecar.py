"""What is written beside a cached result: its size, its checksum, and what the file looked like when it was right.

To read all of a result before it is opened takes long, so a sidecar vouches for the file: for its inode, size and
times, ctime among them, which nobody can set. It does so until the machine starts again: after a power failure a file
may have its size and times, and not its bytes.

Not where it is (`disk`). Values and pure functions; no threads.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TYPES = (("size", int), ("mtime_ns", int), ("sha256", str))


class Sidecar(NamedTuple):
    """`size` in bytes, `mtime_ns` since the epoch, `voucher` as `voucher_for` gives it.

    On the disk the voucher is a second line, which is added: what a file looks like is known only when it has its name,
    and the first line is there before. Half a line vouches for nothing.
    """

    size: int
    mtime_ns: int
    sha256: str
    content_type: str = ""
    voucher: bytes = b""

    def text(self) -> bytes:
        """The whole file."""
        told = self._asdict()
        del told["voucher"]
        return _line(told) + self.voucher


def parse(content: bytes) -> Sidecar | None:
    """None when it is no sidecar."""
    first, _, voucher = content.partition(b"\n")
    with suppress(ValueError, TypeError, KeyError):
        found = json.loads(first)
        if all(type(found[name]) is kind for name, kind in _TYPES):
            return Sidecar(found["size"], found["mtime_ns"], found["sha256"], found.get("content_type", ""), voucher)
    return None


def voucher_for(identity: tuple[int, ...]) -> bytes:
    """What the file looks like that has this `Spool.identity`, and since which start of the machine; nothing where that
    cannot be told, and then nothing can be vouched for."""
    return _line([_boot_id(), *identity]) if _boot_id() else b""


def _line(value: object) -> bytes:
    return (json.dumps(value) + "\n").encode()


@cache
def _boot_id() -> str:
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""
