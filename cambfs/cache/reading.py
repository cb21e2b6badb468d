"""What lies in the cache directory under the two names of one result, and whether both belong together.

Nothing is locked: another mount may just be putting a result there, or removing one. Functions, no threads. All of them
raise OSError where there are no descriptors left (SHORTAGES), for that says nothing of what was to be opened.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple, TypeVar

from cambfs.cache.checks import check_fits, check_structure, is_own_file
from cambfs.cache.descriptors import SHORTAGES
from cambfs.cache.directory import Directory
from cambfs.cache.ranges import RangeSet
from cambfs.cache.sidecar import LIMIT_BYTES, Sidecar, parse
from cambfs.cache.spool import Spool
from cambfs.errors import CacheDamaged
from cambfs.model import RunInfo
from cambfs.names import RunId

T = TypeVar("T")


class Opened(NamedTuple):
    """One result; none of its bytes may be used before they were checked unless it `is_right`."""

    spool: Spool
    info: RunInfo
    is_right: bool


def audio_name(run_id: RunId) -> str:
    return f"{run_id}.flac"


def sidecar_name(run_id: RunId) -> str:
    return f"{run_id}.json"


def read_sidecar(directory: Directory, run_id: RunId) -> Sidecar | None:
    """None when there is none. Raises CacheDamaged when it is no proper one."""
    try:
        sidecar = parse(_content(directory, sidecar_name(run_id)))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        sidecar = None
    if sidecar is None:
        raise CacheDamaged(f"run {run_id}: the sidecar of the cached file is invalid")
    return sidecar


def _content(directory: Directory, name: str) -> bytes:
    """Nothing of what is no file of the user's own."""
    fd = directory.open(name)
    try:
        return os.read(fd, LIMIT_BYTES) if is_own_file(os.fstat(fd)) else b""
    finally:
        os.close(fd)


def info(directory: Directory, run_id: RunId) -> RunInfo | None:
    """What the sidecar says, if a file of just that size is there; None when there is no such result. Raises
    CacheDamaged when the two do not fit, or nothing proves the size."""
    return _look_twice(lambda: _info(directory, run_id))


def _info(directory: Directory, run_id: RunId) -> RunInfo | None:
    sidecar = read_sidecar(directory, run_id)
    if sidecar is None:
        return None
    if not sidecar.proof:
        return _proven_facts(directory, run_id, sidecar)
    try:
        status = directory.status(audio_name(run_id))
    except OSError:
        return None
    check_fits(run_id, sidecar, status)
    return RunInfo(sidecar.size, sidecar.mtime_ns)


def _proven_facts(directory: Directory, run_id: RunId, sidecar: Sidecar) -> RunInfo | None:
    """A size is told before all bytes are checked, so the structure has to prove it first."""
    spool = _open_audio(directory, run_id, sidecar)
    if spool is None:
        return None
    with closing(spool):
        check_structure(run_id, sidecar, spool.fileno())
    return RunInfo(sidecar.size, sidecar.mtime_ns)


def open_(directory: Directory, run_id: RunId) -> Opened | None:
    """The result's bytes, and what the sidecar says; None when it is not there. Raises CacheDamaged when the two do not
    fit."""
    return _look_twice(lambda: _open(directory, run_id))


def _open(directory: Directory, run_id: RunId) -> Opened | None:
    sidecar = read_sidecar(directory, run_id)
    spool = None if sidecar is None else _open_audio(directory, run_id, sidecar)
    if sidecar is None or spool is None:
        return None
    is_right = bool(sidecar.proof) and sidecar.identity == spool.identity()
    spool.verified_identity, spool.sha256 = sidecar.identity if is_right else None, sidecar.sha256
    return Opened(spool, RunInfo(sidecar.size, sidecar.mtime_ns), is_right)


def _open_audio(directory: Directory, run_id: RunId, sidecar: Sidecar) -> Spool | None:
    try:
        spool = Spool(directory.open(audio_name(run_id)), RangeSet((0, sidecar.size)))
        status = os.fstat(spool.fileno())
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        raise CacheDamaged(f"run {run_id}: the cached file cannot be read: {error.strerror}") from error
    try:
        check_fits(run_id, sidecar, status)
    except CacheDamaged:
        spool.close()
        raise
    return spool


def _look_twice(look: Callable[[], T | None]) -> T | None:
    """Two files that do not fit may be one from before and one from after another mount has put a result there."""
    try:
        return look()
    except CacheDamaged:
        return look()
