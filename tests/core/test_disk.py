"""`cambfs.disk`: what is in the cache directory, and what is believed of it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cambfs.disk import Disk
from cambfs.errors import CacheDamaged, ConfigError
from cambfs.facts import Facts
from cambfs.names import RunId
from cambfs.spool import Spool

RUN = RunId(7)
CONTENT = b"fLaC and the rest"
FACTS = Facts(len(CONTENT), 1_700_000_000 * 10**9)


def _no_relief() -> bool:
    return False


def _spool(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> Spool:
    spool = disk.new_spool(run_id, _no_relief)
    spool.write(0, memoryview(content))
    spool.filled.add(0, len(content))
    return spool


def _commit(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> None:
    spool = _spool(disk, content, run_id)
    disk.commit(run_id, spool, Facts(len(content), FACTS.mtime_ns), "audio/flac")
    spool.close()


def _read(disk: Disk, *, verify: bool = True) -> bytes | None:
    spool = disk.open(RUN, verify=verify)
    if spool is None:
        return None
    try:
        return spool.read(0, spool.filled.total)
    finally:
        spool.close()


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
    disk.commit(RUN, spool, FACTS, "audio/flac")

    assert disk.facts(RUN) == FACTS
    assert audio.read_bytes() == CONTENT
    assert json.loads(sidecar.read_text())["content_type"] == "audio/flac"
    assert [stored.run_id for stored in disk.scan()] == [RUN]
    assert list((disk.directory / "part").iterdir()) == []
    assert spool.read(0, 4) == b"fLaC"
    spool.close()
    assert _read(disk) == CONTENT


def test_bytes_beyond_the_end_are_not_part_of_the_result(disk: Disk, audio: Path) -> None:
    spool = _spool(disk, CONTENT + b"more")
    disk.commit(RUN, spool, FACTS, "audio/flac")
    spool.close()

    assert audio.read_bytes() == CONTENT
    assert _read(disk) == CONTENT


def test_a_spool_without_a_name_cannot_be_committed(disk: Disk) -> None:
    spool = _spool(disk)
    spool.discard_name()

    with pytest.raises(OSError, match="left the disk"):
        disk.commit(RUN, spool, FACTS, "audio/flac")
    assert disk.facts(RUN) is None
    spool.close()


def test_what_is_not_there_is_none(disk: Disk) -> None:
    assert disk.facts(RUN) is None
    assert disk.open(RUN, verify=True) is None
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
        _read(disk, verify=False)


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
    spool = disk.open(RUN, verify=True)
    assert spool is not None
    disk.remove(RUN)

    assert not audio.exists()
    assert not sidecar.exists()
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()


def test_the_least_recently_used_comes_first(disk: Disk) -> None:
    for number in (1, 2, 3):
        _commit(disk, run_id=RunId(number))
        os.utime(disk.directory / f"{number}.flac", ns=(number * 10**9, FACTS.mtime_ns))
    assert [stored.run_id for stored in disk.scan()] == [1, 2, 3]
    disk.touch(RunId(1))

    assert [stored.run_id for stored in disk.scan()] == [2, 3, 1]
    assert (disk.directory / "1.flac").stat().st_mtime_ns == FACTS.mtime_ns


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
    disk.commit(RUN, spool, FACTS, "audio/flac")
    spool.close()
    assert _read(disk) == CONTENT


def test_a_sidecar_without_its_result_is_swept(disk: Disk, audio: Path, sidecar: Path) -> None:
    _commit(disk)
    audio.unlink()
    Disk(disk.directory)

    assert not sidecar.exists()


def test_a_crash_between_the_two_names_is_noticed(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    _commit(disk, b"the old result")
    spool = _spool(disk)
    monkeypatch.setattr(Path, "rename", _fails_for_audio(Path.rename))
    with pytest.raises(OSError, match="power"):
        disk.commit(RUN, spool, FACTS, "audio/flac")
    monkeypatch.undo()
    spool.close()

    with pytest.raises(CacheDamaged):
        _read(Disk(disk.directory))


def _fails_for_audio(rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    def renamed(path: Path, target: Path) -> Path:
        if target.suffix == ".flac":
            raise OSError("the power is gone")
        return rename(path, target)

    return renamed


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
