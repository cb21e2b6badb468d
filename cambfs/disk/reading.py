"""Reads a result from the cache directory, and checks that its file and its sidecar belong together.

Takes no lock: another mount may be adding or removing the result. Functions, no threads. All of them raise OSError when
no descriptors are left (SHORTAGES).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple, TypeVar

from cambfs.disk.checks import FRAMES, check_fits, check_structure, is_own_file, sha256
from cambfs.disk.descriptors import SHORTAGES
from cambfs.disk.directory import Directory
from cambfs.disk.ranges import RangeSet
from cambfs.disk.sidecar import LIMIT_BYTES, Sidecar, parse
from cambfs.disk.spool import Spool
from cambfs.errors import CacheDamaged
from cambfs.model import RunInfo
from cambfs.names import RunId

T = TypeVar("T")


class Opened(NamedTuple):
    """One result. Unless `is_right`, check its bytes before any use."""

    spool: Spool
    info: RunInfo
    is_right: bool


def audio_name(run_id: RunId) -> str:
    return f"{run_id}.flac"


def sidecar_name(run_id: RunId) -> str:
    return f"{run_id}.json"


def read_sidecar(directory: Directory, run_id: RunId) -> Sidecar | None:
    """None when there is none. Raises CacheDamaged when it is malformed."""
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


def identify(directory: Directory, run_id: RunId) -> tuple[str, bytes]:
    """The SHA-256 in the sidecar and the first bytes, neither of them checked; empty where they cannot be had."""
    try:
        sidecar, head = read_sidecar(directory, run_id), _content(directory, audio_name(run_id))
    except (OSError, CacheDamaged):
        return "", b""
    return ("" if sidecar is None else sidecar.sha256), head


def _content(directory: Directory, name: str) -> bytes:
    """The first LIMIT_BYTES, only of a regular file of this user."""
    fd = directory.open(name)
    try:
        return os.read(fd, LIMIT_BYTES) if is_own_file(os.fstat(fd)) else b""
    finally:
        os.close(fd)


def info(directory: Directory, run_id: RunId) -> RunInfo | None:
    """The info in the sidecar; None without such a result. Raises CacheDamaged when file and sidecar do not
    match, or nothing proves the size."""
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
    """A size is reported before all bytes are checked, so the structure must prove it first."""
    spool = _open_audio(directory, run_id, sidecar)
    if spool is None:
        return None
    with closing(spool):
        check_structure(run_id, sidecar, spool.fileno())
    return RunInfo(sidecar.size, sidecar.mtime_ns)


def open_(directory: Directory, run_id: RunId) -> Opened | None:
    """The bytes and the sidecar; None without such a result. Raises CacheDamaged when the two do not match."""
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


def check(
    directory: Directory, run_id: RunId, spool: Spool, is_cancelled: Callable[[], bool]
) -> tuple[Sidecar, Sidecar]:
    """The sidecar of a file that has the checksum in it, and the sidecar that says that this file is right. Checks the
    structure when nothing else has proven it complete. Raises CacheDamaged, and Closing when `is_cancelled`."""
    sidecar, identity = read_sidecar(directory, run_id), spool.identity()
    if sidecar is None:
        raise CacheDamaged(f"run {run_id}: the cached file was removed before it was checked")
    try:
        checksum = sha256(spool.fileno(), is_cancelled)
    except OSError as error:
        raise CacheDamaged(f"run {run_id}: the cached file cannot be read: {error.strerror}") from error
    if checksum != sidecar.sha256 or spool.identity() != identity:
        raise CacheDamaged(f"run {run_id}: the cached file is damaged")
    if not sidecar.proof:
        check_structure(run_id, sidecar, spool.fileno())
    spool.verified_identity, spool.sha256 = identity, sidecar.sha256
    return sidecar, sidecar._replace(identity=identity, proof=sidecar.proof or FRAMES)


def _look_twice(look: Callable[[], T | None]) -> T | None:
    """A mismatch may only mean that another mount is just replacing the result."""
    try:
        return look()
    except CacheDamaged:
        return look()
