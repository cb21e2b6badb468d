"""The file beside a cached result: size, checksum, proof, and the identity of the file whose bytes were right.

Reading a whole result before each open would take long. A file with the same inode, size, mtime and ctime (which no
program can set) is the file that the checksum was made of. Any other file is read through first.

Not where the files are (`disk`). Values and pure functions; no threads.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, NamedTuple

Identity = tuple[int, int, int, int]
"""Inode, size, mtime and ctime (ns). It changes when a file is replaced, written to, renamed or removed."""

# Longer than any sidecar.
LIMIT_BYTES = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Sidecar(NamedTuple):
    """`size` in bytes, `mtime_ns` since the epoch. `proof` is how the result was proven complete; "" in sidecars of
    earlier versions, which proved less. `identity` is None when it is unknown."""

    size: int
    mtime_ns: int
    sha256: str
    content_type: str = ""
    proof: str = ""
    identity: Identity | None = None

    def text(self) -> bytes:
        """One line of JSON."""
        return (json.dumps(self._asdict()) + "\n").encode()


def identity_of(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def parse(content: bytes) -> Sidecar | None:
    """None when it is not a sidecar. Older ones have a second line, which is ignored."""
    try:
        found = json.loads(content.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    sidecar = Sidecar(*(found.get(name, "") for name in ("size", "mtime_ns", "sha256", "content_type", "proof")))
    return sidecar._replace(identity=_identity(found.get("identity"))) if _is_sane(sidecar) else None


def _is_sane(sidecar: Sidecar) -> bool:
    texts = (sidecar.sha256, sidecar.content_type, sidecar.proof)
    return (
        _is_number(sidecar.size)
        and sidecar.size >= 0
        and _is_number(sidecar.mtime_ns)
        and all(isinstance(text, str) for text in texts)
        and _SHA256.fullmatch(sidecar.sha256) is not None
    )


def _identity(found: Any) -> Identity | None:
    if isinstance(found, list) and len(found) == 4 and all(type(number) is int for number in found):
        inode, size, mtime_ns, ctime_ns = found
        return inode, size, mtime_ns, ctime_ns
    return None


def _is_number(value: object) -> bool:
    """Whether it is an integer that a file system could report."""
    return type(value) is int and -(2**63) <= value < 2**63
