"""Uses a cache as a run does, from the first byte to the last use."""

from __future__ import annotations

from collections.abc import Callable

from cambfs.cache.cache import Acquired, Cache
from cambfs.disk.spool import Spool
from cambfs.model import RunInfo
from cambfs.names import RunId
from tests.fakes import some_bytes

MakeCache = Callable[[int], Cache]


def content_of(run_id: int, size: int = 10) -> bytes:
    return some_bytes(size, seed=run_id)


def facts_of(size: int) -> RunInfo:
    return RunInfo(size, 1_700_000_000 * 10**9)


def fill(cache: Cache, run_id: int, content: bytes) -> Spool:
    spool = cache.new_spool(RunId(run_id))
    spool.write(0, content)
    spool.filled.add(0, len(content))
    return spool


def fetch(cache: Cache, run_id: int, size: int = 10) -> Spool:
    """As a run does that has come to its end; it is in use afterwards."""
    assert cache.acquire(RunId(run_id)) is None
    spool = fill(cache, run_id, content_of(run_id, size))
    cache.commit(RunId(run_id), spool, facts_of(size), "audio/flac", "frames")
    return spool


def release(cache: Cache, run_id: int, spool: Spool, size: int = 10) -> None:
    cache.release(RunId(run_id), spool, whole=True, info=facts_of(size))


def keep(cache: Cache, run_id: int, size: int = 10) -> None:
    release(cache, run_id, fetch(cache, run_id, size), size)


def acquire(cache: Cache, run_id: int) -> Acquired:
    acquired = cache.acquire(RunId(run_id))
    assert acquired is not None
    return acquired


def use(cache: Cache, run_id: int) -> bytes:
    acquired = acquire(cache, run_id)
    assert not acquired.must_be_checked
    content = acquired.spool.read(0, acquired.spool.filled.total)
    cache.release(RunId(run_id), acquired.spool, whole=acquired.whole, info=acquired.info)
    return content
