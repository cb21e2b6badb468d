"""A cache on disk: contents that outlive a mount, and two mounts with one directory."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk, Stored
from cambfs.disk.sidecar import Sidecar
from cambfs.disk.spool import Spool
from cambfs.errors import CacheDamaged, Closing
from cambfs.names import RunId
from tests.cache.filling import acquire, content_of, facts_of, fetch, fill, keep, release, use
from tests.fakes import LIMIT_S
from tests.waiting import in_thread

# With a disk.


def test_results_outlive_the_mount(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    cache.close()
    cache = Cache(Disk(tmp_path), 100)

    assert cache.runs() == [1]
    assert cache.info(RunId(1)) == facts_of(10)
    assert use(cache, 1) == content_of(1)


def test_parts_do_not_outlive_the_mount(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    cache.release(RunId(1), fill(cache, 1, b"abcd"), whole=False, info=None)
    cache.close()

    assert Cache(Disk(tmp_path), 100).acquire(RunId(1)) is None
    assert list((tmp_path / "part").iterdir()) == []


def test_the_order_of_use_outlives_the_mount(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 30)
    for run_id in (1, 2, 3):
        keep(cache, run_id)
    use(cache, 1)
    cache.close()
    cache = Cache(Disk(tmp_path), 30)
    keep(cache, 4)

    assert set(cache.runs()) == {1, 3, 4}


def test_a_smaller_limit_is_applied_at_the_start(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    for run_id, size in ((1, 10), (2, 40), (3, 10)):
        keep(cache, run_id, size)
    cache.close()
    cache = Cache(Disk(tmp_path), 20)
    cache.trim()

    assert set(cache.runs()) == {1, 3}
    assert not (tmp_path / "2.flac").exists()


def test_what_was_used_before_the_directory_was_looked_at_is_the_newest(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 40)
    for run_id in (1, 2, 3):
        keep(cache, run_id)
        os.utime(tmp_path / f"{run_id}.json", (run_id, run_id))
    cache.close()
    cache = Cache(Disk(tmp_path), 40)
    use(cache, 1)
    keep(cache, 4)
    keep(cache, 5)

    assert set(cache.runs()) == {1, 3, 4, 5}


def test_looking_at_results_that_are_there_takes_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    cache.close()
    cache = Cache(Disk(tmp_path), 100)
    monkeypatch.setattr(Disk, "scan", lambda _: pytest.fail("an index was made"))
    cache.trim()

    assert cache.info(RunId(1)) == facts_of(10)


def test_a_damaged_file_is_dropped_at_its_first_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    cache.close()
    (tmp_path / "1.flac").write_bytes(b"x" * 10)
    cache = Cache(Disk(tmp_path), 100)

    acquired = acquire(cache, 1)
    assert acquired.must_be_checked
    with caplog.at_level(logging.WARNING), pytest.raises(CacheDamaged):
        cache.check(RunId(1), acquired.spool, lambda: False)
    acquired.spool.close()
    assert "run 1" in caplog.text
    assert cache.runs() == []
    assert not (tmp_path / "1.flac").exists()
    keep(cache, 1)
    assert use(cache, 1) == content_of(1)


def test_a_file_that_was_moved_is_checked_once(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    cache.close()
    shutil.copy2(tmp_path / "1.flac", tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / "1.flac")
    cache = Cache(Disk(tmp_path), 100)
    acquired = acquire(cache, 1)
    assert acquired.must_be_checked
    with pytest.raises(Closing):
        cache.check(RunId(1), acquired.spool, lambda: True)
    release(cache, 1, acquired.spool)
    acquired = acquire(cache, 1)
    assert acquired.must_be_checked, "it was given up"
    cache.check(RunId(1), acquired.spool, lambda: False)
    assert acquired.spool.read(0, 10) == content_of(1)
    release(cache, 1, acquired.spool)

    assert use(cache, 1) == content_of(1)
    assert use(Cache(Disk(tmp_path), 100), 1) == content_of(1)


def test_a_file_of_another_size_is_never_a_size(tmp_path: Path) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    cache.close()
    (tmp_path / "1.flac").write_bytes(content_of(1)[:5])
    cache = Cache(Disk(tmp_path), 100)

    assert cache.info(RunId(1)) is None
    assert cache.runs() == []


def test_what_is_evicted_in_use_can_be_read_on(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 10) for _ in range(2))
    keep(cache, 1)
    acquired = acquire(cache, 1)
    keep(other, 2)

    assert not (tmp_path / "1.flac").exists()
    assert acquired.spool.read(0, 10) == content_of(1)
    release(cache, 1, acquired.spool)
    assert cache.acquire(RunId(1)) is None


def test_a_disk_that_refuses_costs_only_the_caching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path)
    cache = Cache(disk, 100)
    monkeypatch.setattr(disk, "new_spool", _refuse)
    spool = fetch(cache, 1)

    assert spool.read(0, 10) == content_of(1)
    release(cache, 1, spool)
    assert cache.runs() == []


def _refuse(*_arguments: object, **_more: object) -> Spool:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_a_full_disk_evicts_what_is_not_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    keep(cache, 2)
    in_use = acquire(cache, 2)
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if (tmp_path / "1.flac").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    keep(cache, 3)

    assert set(cache.runs()) == {2, 3}
    assert in_use.spool.read(0, 10) == content_of(2)
    release(cache, 2, in_use.spool)


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
        spool = fetch(cache, 1)

    assert spool.read(0, 10) == content_of(1)
    assert "cannot be cached: No space left" in caplog.text
    release(cache, 1, spool)
    assert cache.runs() == []


# Two mounts with one directory.


def test_what_another_mount_fetched_serves_this_one(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    keep(other, 1)

    assert cache.info(RunId(1)) == facts_of(10)
    assert use(cache, 1) == content_of(1)


def test_what_another_mount_fetched_counts(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 30) for _ in range(2))
    keep(cache, 1)
    keep(cache, 2)
    os.utime(tmp_path, ns=(0, 0))
    keep(other, 3)
    keep(cache, 4)

    assert sum(path.stat().st_size for path in tmp_path.glob("*.flac")) <= 30


def test_what_another_mount_removed_is_fetched_again(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    keep(cache, 1)
    other.discard(RunId(1))

    keep(cache, 1)
    assert use(cache, 1) == content_of(1)


def test_a_result_that_another_mount_finished_first_is_not_lost_to_a_part(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    part = fill(cache, 1, content_of(1)[:4])
    keep(other, 1)
    os.utime(tmp_path, ns=(0, 0))
    keep(cache, 2)
    assert set(cache.runs()) == {1, 2}
    cache.release(RunId(1), part, whole=False, info=None)

    assert set(cache.runs()) == {1, 2}
    assert use(cache, 1) == content_of(1)


def test_a_part_that_fills_the_cache_beside_another_mounts_result(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 20) for _ in range(2))
    part = fill(cache, 1, content_of(1, 18))
    keep(other, 1, size=5)
    os.utime(tmp_path, ns=(0, 0))
    keep(cache, 2, size=5)
    cache.release(RunId(1), part, whole=False, info=None)
    os.utime(tmp_path, ns=(0, 0))
    keep(cache, 3)

    assert use(cache, 3) == content_of(3)
    kept = [acquired for number in (1, 2, 3) if (acquired := cache.acquire(RunId(number))) is not None]
    assert sum(acquired.spool.filled.total for acquired in kept) <= 20
    for acquired in kept:
        acquired.spool.close()


def test_results_that_are_kept_at_the_same_time_are_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, scan = list[int](), Disk.scan

    def counted(disk: Disk) -> list[Stored]:
        scans.append(1)
        return scan(disk)

    monkeypatch.setattr(Disk, "scan", counted)
    cache, together = Cache(Disk(tmp_path), 10_000), Barrier(8)
    keep(cache, 1000)

    def keep_twenty(number: int) -> None:
        together.wait(LIMIT_S)
        for run_id in range(100 * number + 1, 100 * number + 21):
            keep(cache, run_id)

    for future in [in_thread(partial(keep_twenty, number)) for number in range(8)]:
        future.result(LIMIT_S)
    assert len(cache.runs()) == 161
    assert len(scans) == 1


def test_its_own_results_are_not_looked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = []
    scan = Disk.scan
    monkeypatch.setattr(Disk, "scan", lambda disk: scans.append(1) or scan(disk))  # type: ignore[func-returns-value]
    cache = Cache(Disk(tmp_path), 25)
    for run_id in range(1, 6):
        keep(cache, run_id, 10)
    assert set(cache.runs()) == {4, 5}
    assert len(scans) == 1


def test_what_is_found_wrong_while_it_is_being_kept_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    spool = fill(cache, 1, content_of(1))
    describe = Disk.describe

    def find_it_wrong(disk: Disk, *arguments: Any) -> Sidecar:
        spool.is_invalid = True
        cache.discard(RunId(1))
        return describe(disk, *arguments)

    monkeypatch.setattr(Disk, "describe", find_it_wrong)
    cache.commit(RunId(1), spool, facts_of(10), "audio/flac", "frames")
    assert cache.runs() == []
    assert cache.acquire(RunId(1)) is None
    spool.close()


def test_what_another_mount_put_in_a_results_place_is_another_result(tmp_path: Path) -> None:
    cache, other = (Cache(Disk(tmp_path), 100) for _ in range(2))
    keep(cache, 1)
    before = acquire(cache, 1)
    cache.release(RunId(1), before.spool, whole=True, info=before.info)
    other.discard(RunId(1))
    spool = fill(other, 1, content_of(9, 20))
    other.commit(RunId(1), spool, facts_of(20), "audio/flac", "frames")
    release(other, 1, spool, 20)

    after = acquire(cache, 1)
    assert after.spool.read(0, 20) == content_of(9, 20)
    assert after.info == facts_of(20)
    assert after.spool.generation != before.spool.generation
    cache.release(RunId(1), after.spool, whole=True, info=after.info)
