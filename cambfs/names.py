"""The names in the tree, and the run and kind that each stands for.

`tree` has the files themselves. Pure functions, no threads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterable, Iterator
from enum import Enum
from typing import NewType

RunId = NewType("RunId", int)
TaskId = NewType("TaskId", str)  # in lower case

MAX_RUN_ID = 2**63 - 1
_NAME = re.compile(r"([1-9][0-9]{0,18})\.(flac|url)", re.ASCII)
_RUN_ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
_TASK_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


class Kind(Enum):
    """The two files of a run; the value is the ending of the name."""

    FLAC = "flac"
    URL = "url"


def parse_run_id(text: str) -> RunId | None:
    """The run that `text` numbers: decimal, no sign, no leading zero, 1 … 2^63-1; None for anything else."""
    if _RUN_ID.fullmatch(text) and int(text) <= MAX_RUN_ID:
        return RunId(int(text))
    return None


def parse_task_id(text: str) -> TaskId | None:
    """The task that `text` names: a UUID as the API writes it, in lower case; None for anything else. As a part of a
    path it is harmless."""
    return TaskId(text) if _TASK_ID.fullmatch(text) else None


def parse_name(name: str) -> tuple[RunId, Kind] | None:
    """The run and kind that a file name stands for; None when no result can have this name."""
    match = _NAME.fullmatch(name)
    if match is None or int(match[1]) > MAX_RUN_ID:
        return None
    return RunId(int(match[1])), Kind(match[2])


def file_name(run_id: RunId, kind: Kind) -> str:
    return f"{run_id}.{kind.value}"


def names_and_inodes(run_ids: Iterable[RunId], with_url: Container[RunId]) -> Iterator[tuple[str, int]]:
    """Names and inodes of all files of the runs, as `file_name` and `inode` return them one by one; a listing may have
    100,000. The `.url` only of the runs in `with_url`."""
    for run_id in run_ids:
        yield f"{run_id}.flac", run_id << 1
        if run_id in with_url:
            yield f"{run_id}.url", run_id << 1 | 1


def inode(run_id: RunId, kind: Kind) -> int:
    """A number that is the same in every mount and differs between any two files. Run ids are below 2^63, so it is at
    least 2 and fits 64 bits; 1 is the root's."""
    return run_id << 1 | (kind is Kind.URL)


def inode_of_path(path: str) -> int:
    """The inode of any node but the `.flac` and `.url` of a run: the same in every mount. It has the highest bit, which
    otherwise only runs beyond 2^62 have."""
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") | 1 << 63
