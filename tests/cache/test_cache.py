"""`cambfs.cache.cache`: what is kept and what is evicted; the same behaviours with a disk and without one."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from cambfs.cache.cache import Acquired, Cache
from cambfs.cache.disk import Disk, Stored
from cambfs.cache.sidecar import Sidecar
from cambfs.cache.spool import Spool
from cambfs.errors import CacheDamaged, Closing, TooManyOpenFiles
from cambfs.model import RunInfo
from cambfs.names import RunId
from tests.fakes import LIMIT_S, some_bytes
from tests.waiting import in_thread

MakeCache = Callable[[int], Cache]


def _content(run_id: int, size: int = 10) -> bytes:
    return some_bytes(size, seed=run_id)


def _info(size: int) -> RunInfo:
    return RunInfo(size, 1_700_000_000 * 10**9)


def _fill(cache: Cache, run_id: int, content: bytes) -> Spool:
    spool = cache.new_spool(RunId(run_id))
    spool.write(0, content)
    spool.filled.add(0, len(content))
    return spool


def _fetch(cache: Cache, run_id: int, size: int = 10) -> Spool:
    """As a run does that has come to its end; it is in use afterwards."""
    assert cache.acquire(RunId(run_id)) is None
    spool = _fill(cache, run_id, _content(run_id, size))
    cache.commit(RunId(run_id), spool, _info(size), "audio/flac", "frames")
    return spool


def _give(cache: Cache, run_id: int, spool: Spool, size: int = 10) -> None:
    cache.release(RunId(run_id), spool, whole=True, info=_info(size))


def _keep(cache: Cache, run_id: int, size: int = 10) -> None:
    _give(cache, run_id, _fetch(cache, run_id, size), size)


def _acquire(cache: Cache, run_id: int) -> Acquired:
    acquired = cache.acquire(RunId(run_id))
    assert acquired is not None
    return acquired


def _use(cache: Cache, run_id: int) -> bytes:
    acquired = _acquire(cache, run_id)
    assert not acquired.must_be_checked
    content = acquired.spool.read(0, acquired.spool.filled.total)
    cache.release(RunId(run_id), acquired.spool, whole=acquired.whole, info=acquired.info)
    return content


@pytest.fixture(params=["disk", "memory"])
def make_cache(request: pytest.FixtureRequest, tmp_path: Path) -> MakeCache:
    def make(limit_bytes: int) -> Cache:
        return Cache(Disk(tmp_path / "cache") if request.param == "disk" else None, limit_bytes)

    return make


# With a disk and without.


def test_what_was_given_is_there(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    _keep(cache, 1)

    assert cache.info(RunId(1)) == _info(10)
    assert cache.runs() == [1]
    acquired = _acquire(cache, 1)
    assert acquired.whole
    assert acquired.info == _info(10)
    assert acquired.spool.read(0, 10) == _content(1)
    cache.release(RunId(1), acquired.spool, whole=True, info=acquired.info)


def test_what_was_never_given_is_not_there(make_cache: MakeCache) -> None:
    cache = make_cache(100)

    assert cache.acquire(RunId(1)) is None
    assert cache.info(RunId(1)) is None
    assert cache.runs() == []


def test_the_least_recently_used_goes_first(make_cache: MakeCache) -> None:
    cache = make_cache(30)
    for run_id in (1, 2, 3):
        _keep(cache, run_id)
    _use(cache, 1)
    _keep(cache, 4)

    assert set(cache.runs()) == {1, 3, 4}
    _keep(cache, 5, size=20)
    assert set(cache.runs()) == {4, 5}


def test_looking_is_no_use(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    _keep(cache, 1)
    _keep(cache, 2)
    cache.info(RunId(1))
    _keep(cache, 3)

    assert set(cache.runs()) == {2, 3}


def test_the_limit_is_in_bytes(make_cache: MakeCache) -> None:
    cache = make_cache(30)
    for run_id in range(1, 7):
        _keep(cache, run_id, size=5)
    assert len(cache.runs()) == 6
    _keep(cache, 7, size=30)

    assert cache.runs() == [7]


def test_what_is_in_use_is_not_evicted(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    _keep(cache, 1)
    acquired = _acquire(cache, 1)
    for run_id in (2, 3, 4):
        _keep(cache, run_id)

    assert set(cache.runs()) == {1, 4}
    assert acquired.spool.read(0, 10) == _content(1)
    _give(cache, 1, acquired.spool)
    assert _use(cache, 1) == _content(1)


def test_what_is_in_use_counts(make_cache: MakeCache) -> None:
    cache = make_cache(30)
    _keep(cache, 1, size=5)
    spools = [_fetch(cache, run_id) for run_id in (2, 3, 4)]

    assert set(cache.runs()) == {2, 3, 4}
    for run_id, spool in zip((2, 3, 4), spools, strict=True):
        _give(cache, run_id, spool)


def test_one_larger_than_the_cache_is_not_kept_and_costs_nothing_else(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    _keep(cache, 1)
    _keep(cache, 2, size=21)

    assert cache.runs() == [1]
    assert _use(cache, 1) == _content(1)
    assert cache.acquire(RunId(2)) is None


def test_a_part_is_kept_and_is_no_result(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    spool = _fill(cache, 1, b"abcd")
    cache.release(RunId(1), spool, whole=False, info=_info(10))

    assert cache.runs() == []
    assert cache.info(RunId(1)) is None
    acquired = _acquire(cache, 1)
    assert not acquired.whole
    assert acquired.spool is spool
    assert list(acquired.spool.filled) == [(0, 4)]
    cache.commit(RunId(1), acquired.spool, _info(4), "audio/flac", "frames")
    _give(cache, 1, acquired.spool, 4)
    assert _use(cache, 1) == b"abcd"


def test_parts_are_evicted_as_well(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    cache.release(RunId(1), _fill(cache, 1, _content(1)), whole=False, info=None)
    _keep(cache, 2, size=15)

    assert cache.acquire(RunId(1)) is None


def test_nothing_is_not_kept(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    cache.release(RunId(1), cache.new_spool(RunId(1)), whole=False, info=None)

    assert cache.acquire(RunId(1)) is None


def test_what_was_discarded_is_gone(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    _keep(cache, 1)
    acquired = _acquire(cache, 1)
    cache.discard(RunId(1))

    assert cache.runs() == []
    assert cache.info(RunId(1)) is None
    assert cache.acquire(RunId(1)) is None
    assert acquired.spool.read(0, 10) == _content(1)
    acquired.spool.close()
    _keep(cache, 1)
    assert _use(cache, 1) == _content(1)


def test_the_same_bytes_have_the_same_serial(make_cache: MakeCache) -> None:
    cache = make_cache(20)
    spool = _fetch(cache, 1)
    generation = spool.generation
    _give(cache, 1, spool)
    for _ in range(2):
        acquired = _acquire(cache, 1)
        assert acquired.spool.generation == generation
        _give(cache, 1, acquired.spool)
    _keep(cache, 2, size=20)
    again = _fetch(cache, 1)

    assert again.generation != generation
    _give(cache, 1, again)


def test_a_cache_that_is_closed_keeps_nothing_in_memory(make_cache: MakeCache) -> None:
    cache = make_cache(100)
    part = _fill(cache, 1, b"abcd")
    late = _fill(cache, 2, b"abcd")
    cache.release(RunId(1), part, whole=False, info=None)
    cache.close()
    cache.release(RunId(2), late, whole=False, info=None)

    assert part.fileno() == late.fileno() == -1


# With a disk.


def test_results_outlive_the_mount(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    cache.close()
    cache = Cache(Disk(tmp_path), 100)

    assert cache.runs() == [1]
    assert cache.info(RunId(1)) == _info(10)
    assert _use(cache, 1) == _content(1)


def test_parts_do_not_outlive_the_mount(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    cache.release(RunId(1), _fill(cache, 1, b"abcd"), whole=False, info=None)
    cache.close()

    assert Cache(Disk(tmp_path), 100).acquire(RunId(1)) is None
    assert list((tmp_path / "part").iterdir()) == []


def test_the_order_of_use_outlives_the_mount(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 30)
    for run_id in (1, 2, 3):
        _keep(cache, run_id)
    _use(cache, 1)
    cache.close()
    cache = Cache(Disk(tmp_path), 30)
    _keep(cache, 4)

    assert set(cache.runs()) == {1, 3, 4}


def test_a_smaller_limit_is_applied_at_the_start(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    for run_id, size in ((1, 10), (2, 40), (3, 10)):
        _keep(cache, run_id, size)
    cache.close()
    cache = Cache(Disk(tmp_path), 20)
    cache.trim()

    assert set(cache.runs()) == {1, 3}
    assert not (tmp_path / "2.flac").exists()


def test_what_was_used_before_the_directory_was_looked_at_is_the_newest(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 40)
    for run_id in (1, 2, 3):
        _keep(cache, run_id)
        os.utime(tmp_path / f"{run_id}.json", (run_id, run_id))
    cache.close()
    cache = Cache(Disk(tmp_path), 40)
    _use(cache, 1)
    _keep(cache, 4)
    _keep(cache, 5)

    assert set(cache.runs()) == {1, 3, 4, 5}


def test_looking_at_results_that_are_there_takes_no_index(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    cache.close()
    cache = Cache(Disk(tmp_path), 100)
    cache.trim()

    assert cache.info(RunId(1)) == _info(10)
    assert not cache._entries


def test_a_damaged_file_is_dropped_at_its_first_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    cache.close()
    (tmp_path / "1.flac").write_bytes(b"x" * 10)
    cache = Cache(Disk(tmp_path), 100)

    acquired = _acquire(cache, 1)
    assert acquired.must_be_checked
    with caplog.at_level(logging.WARNING), pytest.raises(CacheDamaged):
        cache.check(RunId(1), acquired.spool, lambda: False)
    acquired.spool.close()
    assert "run 1" in caplog.text
    assert cache.runs() == []
    assert not (tmp_path / "1.flac").exists()
    _keep(cache, 1)
    assert _use(cache, 1) == _content(1)


def test_a_file_that_was_moved_is_checked_once(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    cache.close()
    shutil.copy2(tmp_path / "1.flac", tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / "1.flac")
    cache = Cache(Disk(tmp_path), 100)
    acquired = _acquire(cache, 1)
    assert acquired.must_be_checked
    with pytest.raises(Closing):
        cache.check(RunId(1), acquired.spool, lambda: True)
    _give(cache, 1, acquired.spool)
    acquired = _acquire(cache, 1)
    assert acquired.must_be_checked, "it was given up"
    cache.check(RunId(1), acquired.spool, lambda: False)
    assert acquired.spool.read(0, 10) == _content(1)
    _give(cache, 1, acquired.spool)

    assert _use(cache, 1) == _content(1)
    assert _use(Cache(Disk(tmp_path), 100), 1) == _content(1)


def test_a_file_of_another_size_is_never_a_size(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    cache.close()
    (tmp_path / "1.flac").write_bytes(_content(1)[:5])
    cache = Cache(Disk(tmp_path), 100)

    assert cache.info(RunId(1)) is None
    assert cache.runs() == []


def test_what_is_evicted_in_use_can_be_read_on(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 10) for _ in range(2))
    _keep(cache, 1)
    acquired = _acquire(cache, 1)
    _keep(other, 2)

    assert not (tmp_path / "1.flac").exists()
    assert acquired.spool.read(0, 10) == _content(1)
    _give(cache, 1, acquired.spool)
    assert cache.acquire(RunId(1)) is None


def test_a_disk_that_refuses_costs_only_the_caching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    cache = Cache(disk, 100)
    monkeypatch.setattr(disk, "new_spool", _refuse)
    spool = _fetch(cache, 1)

    assert spool.read(0, 10) == _content(1)
    _give(cache, 1, spool)
    assert cache.runs() == []


def _refuse(*_arguments: object, **_more: object) -> Spool:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_full_disk_evicts_what_is_not_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    _keep(cache, 2)
    in_use = _acquire(cache, 2)
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if (tmp_path / "1.flac").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    _keep(cache, 3)

    assert set(cache.runs()) == {2, 3}
    assert in_use.spool.read(0, 10) == _content(2)
    _give(cache, 2, in_use.spool)


def test_a_full_disk_costs_the_name_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if "memfd" not in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    with caplog.at_level(logging.WARNING):
        spool = _fetch(cache, 1)

    assert spool.read(0, 10) == _content(1)
    assert "cannot be cached: No space left" in caplog.text
    _give(cache, 1, spool)
    assert cache.runs() == []


# Two mounts with one directory.


def test_what_another_mount_fetched_serves_this_one(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    _keep(other, 1)

    assert cache.info(RunId(1)) == _info(10)
    assert _use(cache, 1) == _content(1)


def test_what_another_mount_fetched_counts(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 30) for _ in range(2))
    _keep(cache, 1)
    _keep(cache, 2)
    os.utime(tmp_path, ns=(0, 0))
    _keep(other, 3)
    _keep(cache, 4)

    assert sum(path.stat().st_size for path in tmp_path.glob("*.flac")) <= 30


def test_what_another_mount_removed_is_fetched_again(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    _keep(cache, 1)
    other.discard(RunId(1))

    _keep(cache, 1)
    assert _use(cache, 1) == _content(1)


def test_a_result_that_another_mount_finished_first_is_not_lost_to_a_part(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    part = _fill(cache, 1, _content(1)[:4])
    _keep(other, 1)
    os.utime(tmp_path, ns=(0, 0))
    _keep(cache, 2)
    assert set(cache.runs()) == {1, 2}
    cache.release(RunId(1), part, whole=False, info=None)

    assert set(cache.runs()) == {1, 2}
    assert _use(cache, 1) == _content(1)


def test_a_part_that_fills_the_cache_beside_another_mounts_result(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 20) for _ in range(2))
    part = _fill(cache, 1, _content(1, 18))
    _keep(other, 1, size=5)
    os.utime(tmp_path, ns=(0, 0))
    _keep(cache, 2, size=5)
    cache.release(RunId(1), part, whole=False, info=None)
    os.utime(tmp_path, ns=(0, 0))
    _keep(cache, 3)

    assert sum(entry.size for entry in cache._entries.values()) <= 20
    assert _use(cache, 3) == _content(3)


def test_results_that_are_kept_at_the_same_time_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, scan = list[int](), Disk.scan

    def counted(disk: Disk) -> list[Stored]:
        scans.append(1)
        return scan(disk)

    monkeypatch.setattr(Disk, "scan", counted)
    cache, together = Cache(Disk(tmp_path), 10_000), Barrier(8)
    cache._apply_limit()

    def keep(number: int) -> None:
        together.wait(LIMIT_S)
        for run_id in range(100 * number + 1, 100 * number + 21):
            _keep(cache, run_id)

    for future in [in_thread(partial(keep, number)) for number in range(8)]:
        future.result(LIMIT_S)
    assert len(cache.runs()) == 160
    assert len(scans) == 1


def test_its_own_results_are_not_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scan = Disk.scan
    monkeypatch.setattr(Disk, "scan", lambda disk: scans.append(1) or scan(disk))  # type: ignore[func-returns-value]
    cache = Cache(Disk(tmp_path), 25)
    for run_id in range(1, 6):
        _keep(cache, run_id, 10)
    assert set(cache.runs()) == {4, 5}
    assert len(scans) == 1


def test_what_is_found_wrong_while_it_is_being_kept_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    spool = _fill(cache, 1, _content(1))
    describe = Disk.describe

    def find_it_wrong(disk: Disk, *arguments: Any) -> Sidecar:
        spool.is_invalid = True
        cache.discard(RunId(1))
        return describe(disk, *arguments)

    monkeypatch.setattr(Disk, "describe", find_it_wrong)
    cache.commit(RunId(1), spool, _info(10), "audio/flac", "frames")
    assert cache.runs() == []
    assert cache.acquire(RunId(1)) is None
    spool.close()


def test_what_another_mount_put_in_a_results_place_is_another_result(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    _keep(cache, 1)
    before = _acquire(cache, 1)
    cache.release(RunId(1), before.spool, whole=True, info=before.info)
    other.discard(RunId(1))
    spool = _fill(other, 1, _content(9, 20))
    other.commit(RunId(1), spool, _info(20), "audio/flac", "frames")
    _give(other, 1, spool, 20)

    after = _acquire(cache, 1)
    assert after.spool.read(0, 20) == _content(9, 20)
    assert after.info == _info(20)
    assert after.spool.generation != before.spool.generation
    cache.release(RunId(1), after.spool, whole=True, info=after.info)


# When there are no descriptors left.


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], bool]], None]:
    """From here on nothing can be opened as long as it is so."""

    def begin(is_so: Callable[[], bool]) -> None:
        def refusing(opens: Callable[..., int]) -> Callable[..., int]:
            def open_(*arguments: Any, **more: Any) -> int:
                if is_so():
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                return opens(*arguments, **more)

            return open_

        for name in ("open", "memfd_create"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name)))

    return begin


LOOKS: dict[str, Callable[[Cache], object]] = {
    "take": lambda cache: cache.acquire(RunId(1)),
    "facts": lambda cache: cache.info(RunId(1)),
    "runs": Cache.runs,
    "new spool": lambda cache: cache.new_spool(RunId(3)),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_part_that_is_only_kept_gives_its_descriptor_up(
    tmp_path: Path, short: Callable[[Callable[[], bool]], None], look: Callable[[Cache], object]
) -> None:
    _keep(Cache(Disk(tmp_path), 100), 1)
    cache = Cache(Disk(tmp_path), 100)
    part = _fill(cache, 2, _content(2))
    cache.release(RunId(2), part, whole=False, info=None)
    short(lambda: part.fileno() >= 0)

    assert look(cache) is not None
    assert part.fileno() == -1


def test_no_result_is_evicted_for_a_descriptor_that_it_does_not_have(
    tmp_path: Path, short: Callable[[Callable[[], bool]], None]
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    part = _fill(cache, 2, _content(2))
    cache.release(RunId(2), part, whole=False, info=None)
    short(lambda: part.fileno() >= 0)
    cache.new_spool(RunId(3)).close()

    assert cache.runs() == [1]


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_where_none_is_left_the_error_says_so_and_nothing_is_dropped(
    tmp_path: Path, short: Callable[[Callable[[], bool]], None], look: Callable[[Cache], object]
) -> None:
    _keep(Cache(Disk(tmp_path), 100), 1)
    cache, is_short = Cache(Disk(tmp_path), 100), [True]
    short(lambda: bool(is_short))
    with pytest.raises(TooManyOpenFiles):
        look(cache)
    is_short.clear()

    assert _use(cache, 1) == _content(1)


# A disk that fails.


def test_one_warning_says_that_nothing_can_be_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "fdatasync", _fail)
        for run_id in (1, 2):
            spool = _fetch(cache, run_id)
            assert spool.read(0, 10) == _content(run_id)
            _give(cache, run_id, spool)
    assert [record.getMessage() for record in caplog.records] == ["run 1: cannot be cached: Input/output error"]
    assert cache.runs() == []

    _keep(cache, 3)
    assert cache.runs() == [3]
    monkeypatch.setattr(os, "fdatasync", _fail)
    with caplog.at_level(logging.WARNING):
        _give(cache, 4, _fetch(cache, 4))
    assert "run 4" in caplog.text, "it was well in between"


def _fail(_fd: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE, errno.EFBIG, errno.ENOSPC])
@pytest.mark.parametrize("call", ["pwrite", "truncate", "rename", "fdatasync", "utime"])
def test_whatever_the_disk_fails_with_the_bytes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    cache, real = Cache(Disk(tmp_path), 100), getattr(os, call)

    def fail(*arguments: Any, **more: Any) -> Any:
        is_memory = call == "pwrite" and "memfd" in str(Path(f"/proc/self/fd/{arguments[0]}").readlink())
        if is_memory:
            return real(*arguments, **more)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    spool = _fetch(cache, 1)
    assert spool.read(0, 10) == _content(1)
    _give(cache, 1, spool)
    monkeypatch.undo()

    assert cache.runs() == []
    assert list((tmp_path / "part").iterdir()) == []
    _keep(cache, 1)
    assert _use(cache, 1) == _content(1)


@pytest.mark.parametrize("call", ["stat", "fstat"])
def test_a_result_that_cannot_be_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    _keep(cache, 1)
    cache = Cache(Disk(tmp_path), 100)

    def fail(*_arguments: Any, **_more: Any) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        info, acquired = cache.info(RunId(1)), cache.acquire(RunId(1))
    assert info is None
    assert acquired is None


def test_what_neither_the_disk_nor_memory_takes_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    monkeypatch.setattr(os, "fdatasync", _fail)
    monkeypatch.setattr(os, "memfd_create", lambda *_: _fail(0))
    with caplog.at_level(logging.WARNING):
        spool = _fetch(cache, 1)
    assert "run 1: cannot be cached: no space on the disk or in memory" in caplog.text
    _give(cache, 1, spool)
    assert cache.runs() == []


def test_the_limit_can_change_while_it_is_in_force(make_cache: MakeCache) -> None:
    cache = make_cache(1000)
    for run_id in (1, 2, 3):
        _keep(cache, run_id, 100)
    cache.set_limit(200)
    assert sorted(cache.runs()) == [2, 3]
    cache.set_limit(300)
    _keep(cache, 4, 100)
    assert sorted(cache.runs()) == [2, 3, 4]
