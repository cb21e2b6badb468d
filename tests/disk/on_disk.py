"""One result in a cache directory."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import cambfs.demo
from cambfs.disk.disk import Disk
from cambfs.disk.spool import Spool
from cambfs.model import RunInfo
from cambfs.names import RunId

RUN = RunId(7)
CONTENT = b"fLaC and the rest"
SPEECH = (Path(cambfs.demo.__file__).parent / "samples" / "101.flac").read_bytes()
# As an encoder leaves it that writes to a pipe: without the number of samples.
PIPED = SPEECH[:21] + bytes([SPEECH[21] & 0xF0]) + bytes(4) + SPEECH[26:]
WAV = b"RIFF" + (40).to_bytes(4, "little") + b"WAVEfmt " + bytes(32)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FACTS = RunInfo(len(CONTENT), 1_700_000_000 * 10**9)


def no_relief() -> bool:
    return False


def new_spool(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> Spool:
    spool = disk.new_spool(run_id, no_relief)
    spool.write(0, content)
    spool.filled.add(0, len(content))
    return spool


def put(disk: Disk, spool: Spool, info: RunInfo = FACTS, run_id: RunId = RUN, proof: str = "frames") -> None:
    """As a cache does with a complete spool."""
    disk.publish(run_id, spool, disk.describe(spool, info, "audio/flac", proof))


def commit(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> None:
    spool = new_spool(disk, content, run_id)
    put(disk, spool, RunInfo(len(content), FACTS.mtime_ns), run_id)
    spool.close()


def read(disk: Disk, *, checked: bool = True) -> bytes | None:
    found = disk.open(RUN)
    if found is None:
        return None
    with closing(found[0]) as spool:
        if checked:
            disk.check(RUN, spool)
        return spool.read(0, spool.filled.total)


def is_vouched_for(disk: Disk) -> bool:
    found = disk.open(RUN)
    assert found is not None
    found.spool.close()
    return found.is_right


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
