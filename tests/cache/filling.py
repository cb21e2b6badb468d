"""What a run does with a cache, from the first byte to the last use."""

from __future__ import annotations

from collections.abc import Callable

from cambfs.cache.cache import Cache, Taken
from cambfs.cache.spool import Spool
from cambfs.model import Facts
from cambfs.names import RunId
from tests.fakes import some_bytes

MakeCache = Callable[[int], Cache]


def content_of(run_id: int, size: int = 10) -> bytes:
    return some_bytes(size, seed=run_id)


def facts_of(size: int) -> Facts:
    return Facts(size, 1_700_000_000 * 10**9)


def fill(cache: Cache, run_id: int, content: bytes) -> Spool:
    spool = cache.new_spool(RunId(run_id))
    spool.write(0, content)
    spool.filled.add(0, len(content))
    return spool


def fetch(cache: Cache, run_id: int, size: int = 10) -> Spool:
    """As a run does that has come to its end; it is in use afterwards."""
    assert cache.take(RunId(run_id)) is None
    spool = fill(cache, run_id, content_of(run_id, size))
    cache.commit(RunId(run_id), spool, facts_of(size), "audio/flac", "frames")
    return spool


def give(cache: Cache, run_id: int, spool: Spool, size: int = 10) -> None:
    cache.give(RunId(run_id), spool, whole=True, facts=facts_of(size))


def keep(cache: Cache, run_id: int, size: int = 10) -> None:
    give(cache, run_id, fetch(cache, run_id, size), size)


def take(cache: Cache, run_id: int) -> Taken:
    taken = cache.take(RunId(run_id))
    assert taken is not None
    return taken


def use(cache: Cache, run_id: int) -> bytes:
    taken = take(cache, run_id)
    assert not taken.must_be_checked
    content = taken.spool.read(0, taken.spool.filled.total)
    cache.give(RunId(run_id), taken.spool, whole=taken.whole, facts=taken.facts)
    return content
