"""`cambfs.cache.cache`: which results are kept and evicted; the same behaviours with a disk and without one."""

from __future__ import annotations

from cambfs.names import RunId
from tests.cache.filling import MakeCache, acquire, content_of, facts_of, fetch, fill, keep, release, use


def test_what_was_given_is_there(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    keep(cache, 1)

    assert cache.info(RunId(1)) == facts_of(10)
    assert cache.runs() == [1]
    acquired = acquire(cache, 1)
    assert acquired.whole
    assert acquired.info == facts_of(10)
    assert acquired.spool.read(0, 10) == content_of(1)
    cache.release(RunId(1), acquired.spool, whole=True, info=acquired.info)


def test_what_was_never_given_is_not_there(make_cache: MakeCache) -> None:
    cache = make_cache(100)

    assert cache.acquire(RunId(1)) is None
    assert cache.info(RunId(1)) is None
    assert cache.runs() == []


def test_the_least_recently_used_goes_first(make_cache: MakeCache) -> None:
    cache = make_cache(30)
    for run_id in (1, 2, 3):
        keep(cache, run_id)
    use(cache, 1)
    keep(cache, 4)

    assert set(cache.runs()) == {1, 3, 4}
    keep(cache, 5, size=20)
    assert set(cache.runs()) == {4, 5}


def test_looking_is_no_use(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    keep(cache, 1)
    keep(cache, 2)
    cache.info(RunId(1))
    keep(cache, 3)

    assert set(cache.runs()) == {2, 3}


def test_the_limit_is_in_bytes(make_cache: MakeCache) -> None:
    cache = make_cache(30)
    for run_id in range(1, 7):
        keep(cache, run_id, size=5)
    assert len(cache.runs()) == 6
    keep(cache, 7, size=30)

    assert cache.runs() == [7]


def test_what_is_in_use_is_not_evicted(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    keep(cache, 1)
    acquired = acquire(cache, 1)
    for run_id in (2, 3, 4):
        keep(cache, run_id)

    assert set(cache.runs()) == {1, 4}
    assert acquired.spool.read(0, 10) == content_of(1)
    release(cache, 1, acquired.spool)
    assert use(cache, 1) == content_of(1)


def test_what_is_in_use_counts(make_cache: MakeCache) -> None:
    cache = make_cache(30)
    keep(cache, 1, size=5)
    spools = [fetch(cache, run_id) for run_id in (2, 3, 4)]

    assert set(cache.runs()) == {2, 3, 4}
    for run_id, spool in zip((2, 3, 4), spools, strict=True):
        release(cache, run_id, spool)


def test_one_larger_than_the_cache_is_not_kept_and_costs_nothing_else(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    keep(cache, 1)
    keep(cache, 2, size=21)

    assert cache.runs() == [1]
    assert use(cache, 1) == content_of(1)
    assert cache.acquire(RunId(2)) is None


def test_a_part_is_kept_and_is_no_result(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    spool = fill(cache, 1, b"abcd")
    cache.release(RunId(1), spool, whole=False, info=facts_of(10))

    assert cache.runs() == []
    assert cache.info(RunId(1)) is None
    acquired = acquire(cache, 1)
    assert not acquired.whole
    assert acquired.spool is spool
    assert list(acquired.spool.filled) == [(0, 4)]
    cache.commit(RunId(1), acquired.spool, facts_of(4), "audio/flac", "frames")
    release(cache, 1, acquired.spool, 4)
    assert use(cache, 1) == b"abcd"


def test_parts_are_evicted_as_well(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    cache.release(RunId(1), fill(cache, 1, content_of(1)), whole=False, info=None)
    keep(cache, 2, size=15)

    assert cache.acquire(RunId(1)) is None


def test_nothing_is_not_kept(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    cache.release(RunId(1), cache.new_spool(RunId(1)), whole=False, info=None)

    assert cache.acquire(RunId(1)) is None


def test_what_was_discarded_is_gone(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    keep(cache, 1)
    acquired = acquire(cache, 1)
    cache.discard(RunId(1))

    assert cache.runs() == []
    assert cache.info(RunId(1)) is None
    assert cache.acquire(RunId(1)) is None
    assert acquired.spool.read(0, 10) == content_of(1)
    acquired.spool.close()
    keep(cache, 1)
    assert use(cache, 1) == content_of(1)


def test_the_same_bytes_have_the_same_serial(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    spool = fetch(cache, 1)
    generation = spool.generation
    release(cache, 1, spool)
    for _ in range(2):
        acquired = acquire(cache, 1)
        assert acquired.spool.generation == generation
        release(cache, 1, acquired.spool)
    keep(cache, 2, size=20)
    again = fetch(cache, 1)

    assert again.generation != generation
    release(cache, 1, again)


def test_a_cache_that_is_closed_keeps_nothing_in_memory(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    part = fill(cache, 1, b"abcd")
    late = fill(cache, 2, b"abcd")
    cache.release(RunId(1), part, whole=False, info=None)
    cache.close()
    cache.release(RunId(2), late, whole=False, info=None)

    assert part.fileno() == late.fileno() == -1


def test_the_limit_can_change_while_it_is_in_force(make_cache: MakeCache) -> None:
    cache = make_cache(1000)
    for run_id in (1, 2, 3):
        keep(cache, run_id, 100)
    cache.set_limit(200)
    assert sorted(cache.runs()) == [2, 3]
    cache.set_limit(300)
    keep(cache, 4, 100)
    assert sorted(cache.runs()) == [2, 3, 4]
    cache.set_limit(200)
    assert cache.usage().evictions == 2, "counted since the mount began"
