"""`cambfs.disk.disk`: what is in the cache directory, and what of it is vouched for."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from cambfs.disk.disk import Disk
from cambfs.errors import CacheDamaged, Closing
from cambfs.model import RunInfo
from cambfs.names import RunId
from tests.disk.on_disk import (
    CONTENT,
    FACTS,
    PIPED,
    RUN,
    SHA256,
    SPEECH,
    WAV,
    commit,
    is_vouched_for,
    new_spool,
    put,
    read,
)
from tests.waiting import raises

# Contents.


def test_what_was_committed_is_there_under_its_name(disk: Disk, audio: Path, sidecar: Path) -> None:
    spool = new_spool(disk)
    assert disk.info(RUN) is None
    assert not audio.exists()
    put(disk, spool)

    assert disk.info(RUN) == FACTS
    assert audio.read_bytes() == CONTENT
    assert json.loads(sidecar.read_text())["content_type"] == "audio/flac"
    assert json.loads(sidecar.read_text())["proof"] == "frames"
    assert [stored.run_id for stored in disk.scan()] == [RUN]
    assert list((disk.directory / "part").iterdir()) == []
    assert spool.read(0, 4) == b"fLaC"
    spool.close()
    assert read(disk) == CONTENT


def test_bytes_beyond_the_end_are_not_part_of_the_result(disk: Disk, audio: Path) -> None:
    spool = new_spool(disk, CONTENT + b"more")
    put(disk, spool)
    spool.close()

    assert audio.read_bytes() == CONTENT
    assert read(disk) == CONTENT


def test_a_spool_without_a_name_cannot_be_committed(disk: Disk) -> None:
    spool = new_spool(disk)
    spool.discard_name()

    with pytest.raises(OSError, match="left the disk"):
        put(disk, spool)
    assert disk.info(RUN) is None
    spool.close()


def test_what_is_not_there_is_none(disk: Disk) -> None:
    assert disk.info(RUN) is None
    assert disk.open(RUN) is None
    disk.remove(RUN)
    disk.touch(RUN)


def test_a_flipped_byte_is_noticed(disk: Disk, audio: Path) -> None:
    commit(disk)
    audio.write_bytes(b"x" + CONTENT[1:])

    with pytest.raises(CacheDamaged, match="run 7"):
        read(disk)


@pytest.mark.parametrize("content", [b"", CONTENT[:-1], CONTENT + b"x"])
def test_another_length_is_noticed_without_reading(disk: Disk, audio: Path, content: bytes) -> None:
    commit(disk)
    audio.write_bytes(content)

    with pytest.raises(CacheDamaged):
        disk.info(RUN)
    with pytest.raises(CacheDamaged):
        read(disk, checked=False)


def _told(**values: object) -> str:
    return json.dumps({"size": 17, "mtime_ns": 1, "sha256": SHA256, "proof": "frames"} | values)


NO_SIDECARS = [
    "", "{", "[]", "null", "7", "{}", '{"size": 17}', "\udc80", "\0" * 300, "[" * 4000, '{"size":' * 500, "9" * 4096,
    _told(size="17"), _told(size=True), _told(size=17.0), _told(size=-17), _told(size=float("nan")), _told(size=10**30),
    _told(mtime_ns=1.5), _told(mtime_ns=10**30), _told(mtime_ns=None), _told(sha256="x"), _told(sha256=7),
    _told(proof=7), _told(proof=[]), _told(content_type={}), _told(content_type="x" * 4096),
]  # fmt: skip


@pytest.mark.parametrize("text", NO_SIDECARS, ids=range(len(NO_SIDECARS)))
def test_a_sidecar_that_is_none_is_damage(disk: Disk, sidecar: Path, text: str) -> None:
    commit(disk)
    sidecar.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(CacheDamaged, match="sidecar"):
        disk.info(RUN)


def test_a_link_in_the_place_of_a_result_is_not_followed(disk: Disk, audio: Path, tmp_path: Path) -> None:
    commit(disk)
    audio.rename(tmp_path / "elsewhere")
    audio.symlink_to(tmp_path / "elsewhere")

    assert disk.scan() == []
    with pytest.raises(CacheDamaged):
        read(disk)
    disk.remove(RUN)
    assert not audio.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == CONTENT


def test_a_link_in_the_place_of_a_sidecar_is_not_followed(disk: Disk, sidecar: Path, tmp_path: Path) -> None:
    commit(disk)
    sidecar.rename(tmp_path / "elsewhere")
    sidecar.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CacheDamaged):
        disk.info(RUN)


@pytest.mark.parametrize("name", ["notes.txt", "07.flac", "x.flac", "0.flac", "7.wav", "9" * 30 + ".flac"])
def test_foreign_files_are_left_alone(disk: Disk, name: str) -> None:
    (disk.directory / name).write_bytes(b"not ours")
    commit(disk)

    assert [stored.run_id for stored in Disk(disk.directory).scan()] == [RUN]
    assert (disk.directory / name).read_bytes() == b"not ours"


def test_removing_leaves_it_to_those_who_have_it_open(disk: Disk, audio: Path, sidecar: Path) -> None:
    commit(disk)
    found = disk.open(RUN)
    assert found is not None
    spool = found.spool
    assert found.info == FACTS
    disk.remove(RUN)

    assert not audio.exists()
    assert not sidecar.exists()
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()


def test_the_least_recently_used_comes_first(disk: Disk) -> None:
    for number in (1, 2, 3):
        commit(disk, run_id=RunId(number))
        os.utime(disk.directory / f"{number}.json", ns=(number * 10**9, number * 10**9))
    assert [stored.run_id for stored in disk.scan()] == [1, 2, 3]
    disk.touch(RunId(1))

    assert [stored.run_id for stored in disk.scan()] == [2, 3, 1]
    assert (disk.directory / "1.flac").stat().st_mtime_ns == FACTS.mtime_ns


# Trust.


def test_a_result_is_vouched_for_from_the_beginning_and_after_its_use(disk: Disk) -> None:
    commit(disk)
    assert is_vouched_for(disk)
    disk.touch(RUN)
    assert read(disk) == CONTENT

    assert is_vouched_for(Disk(disk.directory))


def test_what_was_written_to_is_not_vouched_for_whatever_its_times_say(disk: Disk, audio: Path) -> None:
    commit(disk)
    before = audio.stat()
    with audio.open("r+b") as file:
        file.write(b"x")
    os.utime(audio, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert not is_vouched_for(disk)
    with pytest.raises(CacheDamaged, match="damaged"):
        read(disk)


def test_another_file_in_its_place_is_not_vouched_for(disk: Disk, audio: Path, tmp_path: Path) -> None:
    commit(disk)
    shutil.copy2(audio, tmp_path / "copy")
    (tmp_path / "copy").rename(audio)

    assert not is_vouched_for(disk)
    assert read(disk) == CONTENT
    assert is_vouched_for(disk), "it was checked"


def test_a_check_can_be_given_up(disk: Disk) -> None:
    commit(disk)
    found = disk.open(RUN)
    assert found is not None
    with closing(found[0]) as spool, pytest.raises(Closing):
        disk.check(RUN, spool, lambda: True)
    assert read(disk) == CONTENT


def test_the_stamp_changes_when_results_come_and_go(disk: Disk) -> None:
    stamps = [disk.stamp_ns()]
    commit(disk)
    stamps.append(disk.stamp_ns())
    os.utime(disk.directory, ns=(0, 0))
    disk.remove(RUN)
    stamps.append(disk.stamp_ns())

    assert stamps[0] < stamps[1]
    assert stamps[2] != 0


# Verification without the API.


@pytest.mark.parametrize(
    ("content", "proof", "is_right"),
    [
        (SPEECH, "framing+frames", True),
        (PIPED, "framing+twice", True),
        (SPEECH[:-1], "framing+storage", True),
        (SPEECH[:-1], "framing+twice", False),
        (SPEECH[:-1], "frames", False),
        (WAV, "frames", True),
        (WAV + b"1234", "frames", False),
        (b"upstream connect error", "framing+storage", False),
    ],
    ids=["flac", "piped", "storage", "short", "shorter", "wav", "longer wav", "text"],
)
def test_verifying_looks_at_the_structure(disk: Disk, content: bytes, proof: str, is_right: bool) -> None:
    spool = new_spool(disk, content)
    put(disk, spool, RunInfo(len(content), 0), proof=proof)
    spool.close()

    if is_right:
        disk.verify(RUN)
    else:
        with pytest.raises(CacheDamaged, match="run 7"):
            disk.verify(RUN)


def test_verifying_looks_at_bytes_that_are_vouched_for(disk: Disk, sidecar: Path) -> None:
    commit(disk, SPEECH)
    told = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(told | {"sha256": SHA256}))
    assert is_vouched_for(disk)

    with pytest.raises(CacheDamaged):
        disk.verify(RUN)


def test_verifying_what_is_gone_is_no_damage(disk: Disk) -> None:
    assert not raises(CacheDamaged, lambda: disk.verify(RUN))
