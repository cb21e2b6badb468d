"""Leftovers of a crash, a full disk and earlier versions in the cache directory."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from cambfs.disk.directory import Directory
from cambfs.disk.disk import Disk
from cambfs.errors import CacheDamaged
from cambfs.model import RunInfo
from tests.disk.on_disk import (
    CONTENT,
    FACTS,
    PIPED,
    RUN,
    SPEECH,
    commit,
    is_vouched_for,
    names_in,
    new_spool,
    put,
    read,
)

# Leftovers of a crash.


def test_stale_temporary_files_are_swept(disk: Disk) -> None:
    stale = disk.directory / "part" / "7.0123456789abcdef"
    stale.write_bytes(b"half a result")
    stale_sidecar = disk.directory / "part" / "7.json.0123456789abcdef"
    stale_sidecar.write_text("{}")
    Disk(disk.directory)

    assert not stale.exists()
    assert not stale_sidecar.exists()


def test_the_temporary_file_of_a_mount_that_lives_is_not_swept(disk: Disk) -> None:
    spool = new_spool(disk)
    Disk(disk.directory)

    assert spool.name is not None
    assert (disk.directory / "part" / spool.name.text).exists()
    put(disk, spool)
    spool.close()
    assert read(disk) == CONTENT


@pytest.mark.parametrize("lost", ["7.flac", "7.json"])
def test_half_a_result_is_none_and_swept(disk: Disk, lost: str) -> None:
    commit(disk)
    (disk.directory / lost).unlink()
    assert disk.info(RUN) is None
    assert disk.open(RUN) is None
    Disk(disk.directory)

    assert names_in(disk.directory) == {"part"}


class _PowerFailure(BaseException):
    pass


# The steps of a commit, in order: which call of which function it is.
STEPS = {
    "remove the old sidecar": (Directory, "clear", 1),
    "remove the old audio": (Directory, "clear", 2),
    "name the audio": (Directory, "rename", 1),
    "write the sidecar": (Directory, "write", 1),
    "name the sidecar": (Directory, "rename", 2),
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
        commit(disk, before)
    spool = new_spool(disk)
    with _failing_to(monkeypatch, step, _PowerFailure()), pytest.raises(_PowerFailure):
        put(disk, spool)
    spool.close()

    is_as_before = step == "remove the old sidecar" and before is not None
    again = Disk(disk.directory)
    assert read(again) == (before if is_as_before else None)
    assert names_in(disk.directory) == {"part"} | ({"7.flac", "7.json"} if is_as_before else set())
    assert names_in(disk.directory / "part") == set()


@pytest.mark.parametrize("step", STEPS)
def test_a_result_that_cannot_be_kept_leaves_nothing_and_can_be_read(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spool = new_spool(disk)
    with _failing_to(monkeypatch, step, OSError(errno.EIO, "broken")), pytest.raises(OSError, match="broken"):
        put(disk, spool)

    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()
    assert names_in(disk.directory) == {"part"}
    assert names_in(disk.directory / "part") == set()


def test_half_a_sidecar_is_not_left_on_a_full_disk(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, write = new_spool(disk), os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:20]))
    with pytest.raises(OSError, match="No space"):
        put(disk, spool)
    spool.close()

    assert disk.open(RUN) is None
    assert names_in(disk.directory / "part") == set()


def test_the_audio_is_on_the_disk_before_it_has_its_name(
    disk: Disk, audio: Path, sidecar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, fdatasync = list[bool](), os.fdatasync

    def note(fd: int) -> None:
        seen.append(audio.exists() or sidecar.exists())
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", note)
    commit(disk)
    assert seen == [False]


def test_what_the_disk_fails_to_take_is_read_from_memory(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", Mock(side_effect=OSError(errno.EIO, "broken")))
    spool = new_spool(disk)
    with pytest.raises(OSError, match="broken"):
        put(disk, spool)

    assert "memfd" in str(Path(f"/proc/self/fd/{spool.fileno()}").readlink())
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()
    assert names_in(disk.directory / "part") == set()


@pytest.mark.parametrize("name", ["7.json", "7.flac"])
def test_a_directory_in_the_place_of_a_file_gives_way(disk: Disk, name: str) -> None:
    (disk.directory / name).mkdir()
    commit(disk)
    assert read(disk) == CONTENT
    assert names_in(disk.directory) == {"part", "7.flac", "7.json"}


@pytest.mark.parametrize("name", ["7.json", "7.flac"])
def test_a_directory_with_something_in_it_is_moved_aside(disk: Disk, name: str) -> None:
    (disk.directory / name).mkdir()
    (disk.directory / name / "something").touch()
    commit(disk)
    assert read(disk) == CONTENT
    (aside,) = disk.directory.glob("*/something")
    assert aside.parent.name.startswith(f"{name}.")


# Results of earlier versions.


def _age(sidecar: Path, *, voucher: str = "") -> None:
    """As an earlier version wrote it."""
    told = json.loads(sidecar.read_text())
    del told["proof"], told["identity"]
    sidecar.write_text(json.dumps(told) + "\n" + voucher)


@pytest.mark.parametrize("voucher", ["", '["3f2b8a52", 1, 2, 3, 4]\n', "[", "\0"])
def test_an_older_result_is_checked_once(disk: Disk, sidecar: Path, voucher: str) -> None:
    commit(disk, SPEECH)
    _age(sidecar, voucher=voucher)

    assert disk.info(RUN) == RunInfo(len(SPEECH), FACTS.mtime_ns)
    assert not is_vouched_for(disk)
    assert read(disk) == SPEECH
    assert is_vouched_for(Disk(disk.directory))
    assert json.loads(sidecar.read_text())["proof"] == "frames"


@pytest.mark.parametrize(
    "content",
    [SPEECH[: len(SPEECH) * 4 // 10], b"upstream connect error", PIPED, SPEECH + b"more"],
    ids=["short", "text", "piped", "more"],
)
def test_an_older_result_that_nothing_proves_is_damage(disk: Disk, sidecar: Path, content: bytes) -> None:
    commit(disk, content)
    _age(sidecar)

    with pytest.raises(CacheDamaged):
        disk.info(RUN)
    with pytest.raises(CacheDamaged):
        read(disk)


def test_a_file_that_is_as_it_was_proves_nothing(disk: Disk, sidecar: Path) -> None:
    commit(disk, SPEECH[:-100])
    told = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(told | {"proof": ""}))

    assert not is_vouched_for(disk)
    with pytest.raises(CacheDamaged, match="nothing proves"):
        read(disk)


def test_an_older_result_of_other_bytes_is_damage(disk: Disk, sidecar: Path) -> None:
    commit(disk, SPEECH)
    _age(sidecar)
    with (disk.directory / "7.flac").open("r+b") as file:
        file.seek(5000)
        file.write(b"another frame")

    with pytest.raises(CacheDamaged, match="damaged"):
        read(disk)
