"""A cache without descriptors, and on a disk that fails."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import TooManyOpenFiles
from cambfs.names import RunId
from tests.cache.filling import content_of, facts_of, fetch, fill, keep, release, use

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
    keep(Cache(Disk(tmp_path), 100), 1)
    cache = Cache(Disk(tmp_path), 100)
    part = fill(cache, 2, content_of(2))
    cache.release(RunId(2), part, whole=False, info=None)
    short(lambda: part.fileno() >= 0)

    assert look(cache) is not None
    assert part.fileno() == -1


def test_no_result_is_evicted_for_a_descriptor_that_it_does_not_have(
    tmp_path: Path, short: Callable[[Callable[[], bool]], None]
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
    part = fill(cache, 2, content_of(2))
    cache.release(RunId(2), part, whole=False, info=None)
    short(lambda: part.fileno() >= 0)
    cache.new_spool(RunId(3)).close()

    assert cache.runs() == [1]


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_where_none_is_left_the_error_says_so_and_nothing_is_dropped(
    tmp_path: Path, short: Callable[[Callable[[], bool]], None], look: Callable[[Cache], object]
) -> None:
    keep(Cache(Disk(tmp_path), 100), 1)
    cache, is_short = Cache(Disk(tmp_path), 100), [True]
    short(lambda: bool(is_short))
    with pytest.raises(TooManyOpenFiles):
        look(cache)
    is_short.clear()

    assert use(cache, 1) == content_of(1)


# A disk that fails.


def test_one_warning_says_that_nothing_can_be_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "fdatasync", _fail)
        for run_id in (1, 2):
            spool = fetch(cache, run_id)
            assert spool.read(0, 10) == content_of(run_id)
            release(cache, run_id, spool)
    assert [record.getMessage() for record in caplog.records] == ["run 1: cannot be cached: Input/output error"]
    assert cache.runs() == []
    assert cache.usage().trouble == "Input/output error"

    keep(cache, 3)
    assert cache.runs() == [3]
    assert cache.usage().trouble == "", "it is well again"
    monkeypatch.setattr(os, "fdatasync", _fail)
    with caplog.at_level(logging.WARNING):
        release(cache, 4, fetch(cache, 4))
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
    spool = fetch(cache, 1)
    assert spool.read(0, 10) == content_of(1)
    release(cache, 1, spool)
    monkeypatch.undo()

    assert cache.runs() == []
    assert list((tmp_path / "part").iterdir()) == []
    keep(cache, 1)
    assert use(cache, 1) == content_of(1)


@pytest.mark.parametrize("call", ["stat", "fstat"])
def test_a_result_that_cannot_be_looked_at_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    keep(cache, 1)
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
        spool = fetch(cache, 1)
    assert "run 1: cannot be cached: no space on the disk or in memory" in caplog.text
    release(cache, 1, spool)
    assert cache.runs() == []


def test_a_mount_that_ends_before_a_result_is_kept_warns_of_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(Disk(tmp_path), 100)
    spool = fill(cache, 1, content_of(1))
    spool.discard_name()
    with caplog.at_level(logging.WARNING):
        cache.commit(RunId(1), spool, facts_of(10), "audio/flac", "frames")
    assert not caplog.records
    assert cache.runs() == []
    release(cache, 1, spool)
