"""`cambfs.cache.disk`: what is in the cache directory, and what is believed of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from cambfs.cache import disk as disk_module
from cambfs.cache import sidecar as sidecar_module
from cambfs.cache.disk import Disk
from cambfs.cache.spool import Spool
from cambfs.errors import CacheDamaged, Closing, ConfigError
from cambfs.model import Facts
from cambfs.names import RunId
from tests.fakes import LIMIT_S, Gate
from tests.waiting import in_thread

RUN = RunId(7)
CONTENT = b"fLaC and the rest"
FACTS = Facts(len(CONTENT), 1_700_000_000 * 10**9)


def _no_relief() -> bool:
    return False


def _spool(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> Spool:
    spool = disk.new_spool(run_id, _no_relief)
    spool.write(0, content)
    spool.filled.add(0, len(content))
    return spool


def _commit(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> None:
    spool = _spool(disk, content, run_id)
    disk.commit(run_id, spool, Facts(len(content), FACTS.mtime_ns), "audio/flac", "frames")
    spool.close()


def _read(disk: Disk, *, checked: bool = True) -> bytes | None:
    found = disk.open(RUN)
    if found is None:
        return None
    with closing(found[0]) as spool:
        if checked:
            disk.check(RUN, spool)
        return spool.read(0, spool.filled.total)


def _is_vouched_for(disk: Disk) -> bool:
    found = disk.open(RUN)
    assert found is not None
    with closing(found[0]) as spool:
        return disk.is_vouched_for(RUN, spool)


@pytest.fixture
def audio(disk: Disk) -> Path:
    return disk.directory / "7.flac"


@pytest.fixture
def sidecar(disk: Disk) -> Path:
    return disk.directory / "7.json"


def test_what_was_committed_is_there_under_its_name(disk: Disk, audio: Path, sidecar: Path) -> None:
    spool = _spool(disk)
    assert disk.facts(RUN) is None
    assert not audio.exists()
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")

    assert disk.facts(RUN) == FACTS
    assert audio.read_bytes() == CONTENT
    assert json.loads(sidecar.read_text().splitlines()[0])["content_type"] == "audio/flac"
    assert [stored.run_id for stored in disk.scan()] == [RUN]
    assert list((disk.directory / "part").iterdir()) == []
    assert spool.read(0, 4) == b"fLaC"
    spool.close()
    assert _read(disk) == CONTENT


def test_bytes_beyond_the_end_are_not_part_of_the_result(disk: Disk, audio: Path) -> None:
    spool = _spool(disk, CONTENT + b"more")
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()

    assert audio.read_bytes() == CONTENT
    assert _read(disk) == CONTENT


def test_a_spool_without_a_name_cannot_be_committed(disk: Disk) -> None:
    spool = _spool(disk)
    spool.discard_name()

    with pytest.raises(OSError, match="left the disk"):
        disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    assert disk.facts(RUN) is None
    spool.close()


def test_what_is_not_there_is_none(disk: Disk) -> None:
    assert disk.facts(RUN) is None
    assert disk.open(RUN) is None
    disk.remove(RUN)
    disk.touch(RUN)


def test_a_flipped_byte_is_noticed(disk: Disk, audio: Path) -> None:
    _commit(disk)
    audio.write_bytes(b"x" + CONTENT[1:])

    with pytest.raises(CacheDamaged, match="run 7"):
        _read(disk)


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_another_length_is_noticed_without_reading(disk: Disk, audio: Path, content: bytes) -> None:
    _commit(disk)
    audio.write_bytes(content)

    with pytest.raises(CacheDamaged):
        disk.facts(RUN)
    with pytest.raises(CacheDamaged):
        _read(disk, checked=False)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "7", "{}", '{"size": 17}', '{"size": "17", "mtime_ns": 1, "sha256": "x"}',
        '{"size": true, "mtime_ns": 1, "sha256": "x"}', '{"size": 17, "mtime_ns": 1.5, "sha256": "x"}', "\udc80",
    ],
)  # fmt: skip
def test_a_sidecar_that_is_none_is_damage(disk: Disk, sidecar: Path, text: str) -> None:
    _commit(disk)
    sidecar.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(CacheDamaged, match="sidecar"):
        disk.facts(RUN)


def test_a_sidecar_that_is_missing_is_damage(disk: Disk, sidecar: Path) -> None:
    _commit(disk)
    sidecar.unlink()

    with pytest.raises(CacheDamaged):
        disk.facts(RUN)


def test_a_link_in_the_place_of_a_result_is_not_followed(disk: Disk, audio: Path, tmp_path: Path) -> None:
    _commit(disk)
    audio.rename(tmp_path / "elsewhere")
    audio.symlink_to(tmp_path / "elsewhere")

    assert disk.scan() == []
    with pytest.raises(CacheDamaged):
        _read(disk)
    disk.remove(RUN)
    assert not audio.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == CONTENT


def test_a_link_in_the_place_of_a_sidecar_is_not_followed(disk: Disk, sidecar: Path, tmp_path: Path) -> None:
    _commit(disk)
    sidecar.rename(tmp_path / "elsewhere")
    sidecar.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CacheDamaged):
        disk.facts(RUN)


def test_a_link_in_the_place_of_the_lock_is_not_followed(disk: Disk, tmp_path: Path) -> None:
    (disk.directory / ".lock").unlink()
    (disk.directory / ".lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigError):
        Disk(disk.directory)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["notes.txt", "07.flac", "x.flac", "0.flac", "7.wav", "9" * 30 + ".flac"])
def test_foreign_files_are_left_alone(disk: Disk, name: str) -> None:
    (disk.directory / name).write_bytes(b"not ours")
    _commit(disk)

    assert [stored.run_id for stored in Disk(disk.directory).scan()] == [RUN]
    assert (disk.directory / name).read_bytes() == b"not ours"


def test_removing_leaves_it_to_those_who_have_it_open(disk: Disk, audio: Path, sidecar: Path) -> None:
    _commit(disk)
    found = disk.open(RUN)
    assert found is not None
    spool, facts = found
    assert facts == FACTS
    disk.remove(RUN)

    assert not audio.exists()
    assert not sidecar.exists()
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()


def test_the_least_recently_used_comes_first(disk: Disk) -> None:
    for number in (1, 2, 3):
        _commit(disk, run_id=RunId(number))
        os.utime(disk.directory / f"{number}.json", ns=(number * 10**9, number * 10**9))
    assert [stored.run_id for stored in disk.scan()] == [1, 2, 3]
    disk.touch(RunId(1))

    assert [stored.run_id for stored in disk.scan()] == [2, 3, 1]
    assert (disk.directory / "1.flac").stat().st_mtime_ns == FACTS.mtime_ns


# What is vouched for.


def test_a_result_is_vouched_for_from_the_beginning_and_after_its_use(disk: Disk) -> None:
    _commit(disk)
    assert _is_vouched_for(disk)
    disk.touch(RUN)
    assert _read(disk) == CONTENT

    assert _is_vouched_for(Disk(disk.directory))


def test_what_was_written_to_is_not_vouched_for_whatever_its_times_say(disk: Disk, audio: Path) -> None:
    _commit(disk)
    before = audio.stat()
    with audio.open("r+b") as file:
        file.write(b"x")
    os.utime(audio, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert not _is_vouched_for(disk)
    with pytest.raises(CacheDamaged, match="damaged"):
        _read(disk)


def test_another_file_in_its_place_is_not_vouched_for(disk: Disk, audio: Path, tmp_path: Path) -> None:
    _commit(disk)
    shutil.copy2(audio, tmp_path / "copy")
    (tmp_path / "copy").rename(audio)

    assert not _is_vouched_for(disk)
    assert _read(disk) == CONTENT
    assert _is_vouched_for(disk), "it was checked"


def test_after_another_start_of_the_machine_all_is_checked_once(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    _commit(disk)
    monkeypatch.setattr(sidecar_module, "_boot_id", lambda: "another")

    assert not _is_vouched_for(disk)
    assert _read(disk) == CONTENT
    assert _is_vouched_for(disk)


def test_where_the_start_of_the_machine_is_not_known_nothing_is_vouched_for(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sidecar_module, "_boot_id", lambda: "")
    _commit(disk)

    assert not _is_vouched_for(disk)
    assert _read(disk) == CONTENT
    assert not _is_vouched_for(disk)


def test_a_sidecar_that_vouches_for_nothing_is_one(disk: Disk, sidecar: Path) -> None:
    _commit(disk)
    told, _, voucher = sidecar.read_text().partition("\n")
    for other in ["", "null\n", '"x"\n', "[]\n", "7\n", voucher[:10], voucher[:-2], "x" + voucher, "\x00\xff\n"]:
        sidecar.write_text(f"{told}\n{other}")
        assert not _is_vouched_for(disk)
        assert _read(disk) == CONTENT


def test_a_check_can_be_given_up(disk: Disk) -> None:
    _commit(disk)
    found = disk.open(RUN)
    assert found is not None
    with closing(found[0]) as spool, pytest.raises(Closing):
        disk.check(RUN, spool, lambda: True)
    assert _read(disk) == CONTENT


def test_the_stamp_changes_when_results_come_and_go(disk: Disk) -> None:
    stamps = [disk.stamp_ns()]
    _commit(disk)
    stamps.append(disk.stamp_ns())
    os.utime(disk.directory, ns=(0, 0))
    disk.remove(RUN)
    stamps.append(disk.stamp_ns())

    assert stamps[0] < stamps[1]
    assert stamps[2] != 0


# What a crash leaves behind.


def test_stale_temporary_files_are_swept(disk: Disk) -> None:
    stale = disk.directory / "part" / "7.0123456789abcdef"
    stale.write_bytes(b"half a result")
    stale_sidecar = disk.directory / "part" / "7.json.0123456789abcdef"
    stale_sidecar.write_text("{}")
    Disk(disk.directory)

    assert not stale.exists()
    assert not stale_sidecar.exists()


def test_the_temporary_file_of_a_mount_that_lives_is_not_swept(disk: Disk) -> None:
    spool = _spool(disk)
    Disk(disk.directory)

    assert spool.path is not None
    assert spool.path.exists()
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()
    assert _read(disk) == CONTENT


def test_a_sidecar_without_its_result_is_swept(disk: Disk, audio: Path, sidecar: Path) -> None:
    _commit(disk)
    audio.unlink()
    Disk(disk.directory)

    assert not sidecar.exists()


class _PowerFailure(BaseException):
    pass


# What a commit does, one after the other: which call of what it is.
STEPS = {
    "begin": (Disk, "_write_sidecar", 1),
    "name the sidecar": (Path, "rename", 1),
    "name the audio": (Path, "rename", 2),
    "vouch": (Disk, "_vouch", 1),
}


@contextmanager
def _failing_to(monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException) -> Iterator[None]:
    where, name, at_call = STEPS[step]
    does, calls = getattr(where, name), count(1)

    def does_or_fails(*arguments: Any) -> Any:
        if next(calls) == at_call:
            raise error
        return does(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, does_or_fails)
        yield


@pytest.mark.parametrize("before", [None, b"the old result", b"x" * len(CONTENT)], ids=["none", "other", "same size"])
@pytest.mark.parametrize("step", STEPS)
def test_a_crash_anywhere_while_a_result_gets_its_name_leaves_nothing_wrong(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str, before: bytes | None
) -> None:
    if before is not None:
        _commit(disk, before)
    spool = _spool(disk)
    with _failing_to(monkeypatch, step, _PowerFailure()), pytest.raises(_PowerFailure):
        disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()

    again = Disk(disk.directory)
    for stored in again.scan():
        assert (disk.directory / f"{stored.run_id}.json").exists()
    if step == "name the audio" and before is not None:
        assert len(before) != len(CONTENT) or not _is_vouched_for(again)
        with pytest.raises(CacheDamaged):
            _read(again)
    else:
        assert _read(again) == (CONTENT if step == "vouch" else before)


def test_a_result_that_nothing_vouches_for_is_kept_and_checked(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    with _failing_to(monkeypatch, "vouch", OSError(errno.ENOSPC, "full")):
        _commit(disk)

    assert not _is_vouched_for(disk)
    assert _read(disk) == CONTENT
    assert _is_vouched_for(disk)


def test_a_result_that_cannot_get_its_name_leaves_no_sidecar(
    disk: Disk, sidecar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = _spool(disk)
    with monkeypatch.context() as patch:
        patch.setattr(Disk, "_audio", lambda disk, run_id: f"{disk.directory}/missing/{run_id}.flac")
        with pytest.raises(FileNotFoundError):
            disk.commit(RUN, spool, FACTS, "audio/flac", "frames")

    assert not sidecar.exists()
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()


def test_a_sidecar_that_cannot_be_written_leaves_no_result(
    disk: Disk, audio: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = _spool(disk)
    with monkeypatch.context() as patch:
        patch.setattr(Disk, "_write_sidecar", Mock(side_effect=OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            disk.commit(RUN, spool, FACTS, "audio/flac", "frames")

    assert not audio.exists()
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()


# With other mounts.


def test_a_result_that_another_mount_is_just_putting_there_is_no_damage(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, spool = Gate(), _spool(disk)
    write = Disk._write_sidecar

    def slowly(*arguments: Any) -> None:
        gate.go_through()
        write(*arguments)

    monkeypatch.setattr(Disk, "_write_sidecar", slowly)
    putting = in_thread(lambda: disk.commit(RUN, spool, FACTS, "audio/flac", "frames"))
    gate.wait_for_arrivals()
    looking = in_thread(lambda: Disk(disk.directory).facts(RUN))
    gate.open()

    putting.result(LIMIT_S)
    assert looking.result(LIMIT_S) == FACTS
    spool.close()


def test_a_lock_that_is_held_for_ever_costs_the_cache_only(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_module, "_LOCK_PATIENCE_S", 0.02)
    spool = _spool(disk)
    with disk._locked():
        with pytest.raises(OSError, match="lock"):
            disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
        disk.remove(RUN)
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()


def test_a_spool_that_another_mount_swept_before_it_was_locked_is_made_anew(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, swept = disk_module._create, list[str]()

    def create_and_sweep(path: str) -> int:
        fd = create(path)
        if not swept:
            swept.append(path)
            Disk(disk.directory)
        return fd

    monkeypatch.setattr(disk_module, "_create", create_and_sweep)
    spool = _spool(disk)

    assert not Path(swept[0]).exists()
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()
    assert _read(disk) == CONTENT


# Who may see it.


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
    _commit(disk)
    spool = _spool(disk, run_id=RunId(8))
    assert spool.path is not None

    assert _modes(disk.directory) == {
        "cache": 0o700,
        "part": 0o700,
        ".lock": 0o600,
        "7.flac": 0o600,
        "7.json": 0o600,
        spool.path.name: 0o600,
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

    with pytest.raises(ConfigError, match="not yours"):
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
    _commit(disk)

    assert _read(disk) == CONTENT
