"""`cambfs.disk.directory`: where results lie, who may see them, and other mounts with the same directory."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk import reading
from cambfs.disk.directory import Directory
from cambfs.disk.disk import Disk
from cambfs.errors import ConfigError
from cambfs.names import RunId
from tests.disk.on_disk import (
    CONTENT,
    FACTS,
    RUN,
    commit,
    is_vouched_for,
    new_spool,
    put,
    read,
)
from tests.fakes import LIMIT_S, Gate
from tests.waiting import in_thread

# With other mounts.


def test_nobody_waits_for_another_mount_that_is_just_putting_a_result_there(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, spool, write = Gate(), new_spool(disk), Directory.write

    def slowly(*arguments: Any) -> None:
        gate.go_through()
        write(*arguments)

    monkeypatch.setattr(Directory, "write", slowly)
    putting = in_thread(lambda: put(disk, spool))
    gate.wait_for_arrivals()
    other = Disk(disk.directory)
    assert other.info(RUN) is None
    assert other.open(RUN) is None
    gate.open()

    putting.result(LIMIT_S)
    assert read(other) == CONTENT, "its file was swept while it was put there"
    assert other.info(RUN) == FACTS
    spool.close()


def test_a_pair_that_was_seen_half_before_and_half_after_is_looked_at_again(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(disk, b"fLaC, another")
    read = reading.read_sidecar

    def read_and_replace(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.setattr(reading, "read_sidecar", read)
        commit(disk)
        return found

    monkeypatch.setattr(reading, "read_sidecar", read_and_replace)
    assert disk.info(RUN) == FACTS


def test_two_mounts_that_put_the_same_result_there(disk: Disk) -> None:
    """The file of one, and the sidecar of the other, which does not know it."""
    commit(disk)
    theirs = (disk.directory / "7.json").read_bytes()
    commit(disk)
    (disk.directory / "7.json").write_bytes(theirs)

    assert not is_vouched_for(disk)
    assert read(disk) == CONTENT


def test_a_lock_that_another_program_holds_for_ever_holds_up_nobody(disk: Disk) -> None:
    with (disk.directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        commit(disk)
        assert read(Disk(disk.directory)) == CONTENT
        disk.remove(RUN)
        assert disk.open(RUN) is None


def test_a_spool_that_another_mount_swept_before_it_was_locked_is_made_anew(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, swept = Directory.create, list[str]()

    def create_and_sweep(directory: Directory, name: str) -> int:
        fd = create(directory, name)
        if not swept:
            swept.append(name)
            Disk(disk.directory)
        return fd

    monkeypatch.setattr(Directory, "create", create_and_sweep)
    spool = new_spool(disk)

    assert not (disk.directory / "part" / swept[0]).exists()
    put(disk, spool)
    spool.close()
    assert read(disk) == CONTENT


# Where it is.


def test_another_directory_in_its_place_is_not_looked_at(disk: Disk) -> None:
    disk.directory.rename(disk.directory.with_name("ours"))
    planted = Disk(disk.directory)
    commit(planted, b"fLaC, planted")

    assert disk.open(RUN) is None
    commit(disk)
    assert read(disk) == CONTENT
    assert (disk.directory.with_name("ours") / "7.flac").read_bytes() == CONTENT
    disk.remove(RUN)
    assert read(planted) == b"fLaC, planted"


def test_where_only_a_part_of_it_was_removed_it_stays_where_it_is(disk: Disk) -> None:
    ours = disk.directory.rename(disk.directory.with_name("ours"))
    (ours / "part").rmdir()
    planted = Disk(disk.directory)
    commit(disk)

    assert (ours / "7.flac").read_bytes() == CONTENT
    assert planted.run_ids() == []


def test_a_directory_that_was_removed_is_made_anew(disk: Disk) -> None:
    commit(disk)
    shutil.rmtree(disk.directory)
    assert disk.info(RUN) is None
    assert disk.scan() == []
    commit(disk)

    assert read(Disk(disk.directory)) == CONTENT


def test_a_directory_that_was_removed_is_not_made_anew_where_others_could_exchange_it(disk: Disk) -> None:
    shutil.rmtree(disk.directory)
    disk.directory.parent.chmod(0o777)

    with pytest.raises(PermissionError, match="chmod o-w"):
        new_spool(disk)


def test_two_can_go_through_it_at_the_same_time(disk: Disk) -> None:
    for number in range(1, 6):
        commit(disk, run_id=RunId(number))
    directory = Directory(os.open(disk.directory, os.O_RDONLY | os.O_DIRECTORY))
    with directory.entries() as entries:
        first = next(entries).name
        names = directory.names()
        assert sorted([first, *(entry.name for entry in entries)]) == sorted(names)
    assert len(names) >= 10


@pytest.mark.parametrize("name", ["7.json", "7.flac", "part/7.left"])
def test_a_directory_that_lies_where_a_file_should_is_no_reason_to_refuse(disk: Disk, name: str) -> None:
    (disk.directory / name).mkdir()
    (disk.directory / name / "something").touch()
    cache = Cache(Disk(disk.directory), 100)

    assert cache.acquire(RUN) is None
    assert cache.info(RUN) is None
    assert cache.runs() == []


# Access.


@pytest.fixture
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _modes(directory: Path) -> dict[str, int]:
    found = [directory, *directory.rglob("*")]
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in found}


@pytest.mark.usefixtures("careless_umask")
def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "cache")
    commit(disk)
    spool = new_spool(disk, run_id=RunId(8))
    assert spool.name is not None

    assert _modes(disk.directory) == {
        "cache": 0o700,
        "part": 0o700,
        "7.flac": 0o600,
        "7.json": 0o600,
        spool.name.text: 0o600,
    }
    spool.close()


def test_a_directory_that_was_open_to_all_is_closed(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    Disk(tmp_path / "cache")

    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_another_users_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    somebody_else = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: somebody_else)

    with pytest.raises(ConfigError, match=r"not yours|another user's"):
        Disk(tmp_path / "cache")


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError):
        Disk(tmp_path / "cache")


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")

    with pytest.raises(ConfigError, match="cannot use the cache directory"):
        Disk(tmp_path / "cache")


def test_a_cache_that_is_cleared_while_it_is_used_is_made_anew(disk: Disk) -> None:
    (disk.directory / "part").rmdir()
    commit(disk)

    assert read(disk) == CONTENT
