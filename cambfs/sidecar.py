"""What is written beside a cached result: its size, its checksum, and what the file looked like when it was right.

To read all of a result before it is opened takes long, so a sidecar vouches for the file: for its inode, size and
times, ctime among them, which nobody can set. It does so until the machine starts again: after a power failure a file
may have its size and times, and not its bytes.

Not where it is (`disk`). Values and pure functions; no threads.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TYPES = (("size", int), ("mtime_ns", int), ("sha256", str))


@dataclass(frozen=True)
class Sidecar:
    """`size` in bytes, `mtime_ns` since the epoch, `voucher` as `voucher_for` gives it. On the disk that has a line of
    its own, which is added to the rest: what a file looks like is known only when it has its name, and the rest is
    there before. Half a line says nothing."""

    size: int
    mtime_ns: int
    sha256: str
    content_type: str = ""
    voucher: list[str | int] | None = None

    def text(self) -> bytes:
        """The whole file."""
        told = asdict(self)
        voucher = told.pop("voucher")
        return _line(told) + (voucher_text(voucher) if voucher else b"")


def parse(content: bytes) -> Sidecar | None:
    """None when it is no sidecar."""
    with suppress(ValueError, TypeError, KeyError):
        first, _, rest = content.partition(b"\n")
        found = json.loads(first)
        if all(type(found[name]) is kind for name, kind in _TYPES):
            size, mtime_ns, sha256 = found["size"], found["mtime_ns"], found["sha256"]
            return Sidecar(size, mtime_ns, sha256, found.get("content_type", ""), _voucher(rest))
    return None


def _voucher(line: bytes) -> Any:
    with suppress(ValueError):
        return json.loads(line)
    return None


def voucher_text(voucher: list[str | int]) -> bytes:
    """What is to be added to a sidecar that has none."""
    return _line(voucher)


def _line(value: Any) -> bytes:
    return (json.dumps(value) + "\n").encode()


def voucher_for(identity: tuple[int, ...]) -> list[str | int] | None:
    """What the file looks like that has this `Spool.identity`, and since which start of the machine; None where that
    cannot be told, and then nothing can be vouched for."""
    return [_boot_id(), *identity] if _boot_id() else None


@cache
def _boot_id() -> str:
    with suppress(OSError):
        return _BOOT_ID.read_text().strip()
    return ""
