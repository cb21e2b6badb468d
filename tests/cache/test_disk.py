"""`cambfs.cache.disk`: what is in the cache directory, and what is believed of it."""

from __future__ import annotations

import errno
import fcntl
import hashlib
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

import cambfs.demo
from cambfs.cache import reading
from cambfs.cache.cache import Cache
from cambfs.cache.directory import Directory
from cambfs.cache.disk import Disk
from cambfs.cache.spool import Spool
from cambfs.errors import CacheDamaged, Closing, ConfigError
from cambfs.model import RunInfo
from cambfs.names import RunId
from tests.fakes import LIMIT_S, Gate
from tests.waiting import in_thread

RUN = RunId(7)
CONTENT = b"fLaC and the rest"
SPEECH = (Path(cambfs.demo.__file__).parent / "samples" / "101.flac").read_bytes()
# As an encoder leaves it that writes to a pipe: without the number of samples.
PIPED = SPEECH[:21] + bytes([SPEECH[21] & 0xF0]) + bytes(4) + SPEECH[26:]
WAV = b"RIFF" + (40).to_bytes(4, "little") + b"WAVEfmt " + bytes(32)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FACTS = RunInfo(len(CONTENT), 1_700_000_000 * 10**9)


def _no_relief() -> bool:
    return False


def _spool(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> Spool:
    spool = disk.new_spool(run_id, _no_relief)
    spool.write(0, content)
    spool.filled.add(0, len(content))
    return spool


def _commit(disk: Disk, content: bytes = CONTENT, run_id: RunId = RUN) -> None:
    spool = _spool(disk, content, run_id)
    disk.commit(run_id, spool, RunInfo(len(content), FACTS.mtime_ns), "audio/flac", "frames")
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
    found.spool.close()
    return found.is_right


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.fixture
def audio(disk: Disk) -> Path:
    return disk.directory / "7.flac"


@pytest.fixture
def sidecar(disk: Disk) -> Path:
    return disk.directory / "7.json"


def test_what_was_committed_is_there_under_its_name(disk: Disk, audio: Path, sidecar: Path) -> None:
    spool = _spool(disk)
    assert disk.info(RUN) is None
    assert not audio.exists()
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")

    assert disk.info(RUN) == FACTS
    assert audio.read_bytes() == CONTENT
    assert json.loads(sidecar.read_text())["content_type"] == "audio/flac"
    assert json.loads(sidecar.read_text())["proof"] == "frames"
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
    assert disk.info(RUN) is None
    spool.close()


def test_what_is_not_there_is_none(disk: Disk) -> None:
    assert disk.info(RUN) is None
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
        disk.info(RUN)
    with pytest.raises(CacheDamaged):
        _read(disk, checked=False)


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
    _commit(disk)
    sidecar.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(CacheDamaged, match="sidecar"):
        disk.info(RUN)


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
        disk.info(RUN)


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
    spool = found.spool
    assert found.info == FACTS
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

    assert spool.name is not None
    assert (disk.directory / "part" / spool.name.text).exists()
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()
    assert _read(disk) == CONTENT


@pytest.mark.parametrize("lost", ["7.flac", "7.json"])
def test_half_a_result_is_none_and_swept(disk: Disk, lost: str) -> None:
    _commit(disk)
    (disk.directory / lost).unlink()
    assert disk.info(RUN) is None
    assert disk.open(RUN) is None
    Disk(disk.directory)

    assert _names(disk.directory) == {"part"}


class _PowerFailure(BaseException):
    pass


# What a commit does, one after the other: which call of what it is.
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
        _commit(disk, before)
    spool = _spool(disk)
    with _failing_to(monkeypatch, step, _PowerFailure()), pytest.raises(_PowerFailure):
        disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()

    is_as_before = step == "remove the old sidecar" and before is not None
    again = Disk(disk.directory)
    assert _read(again) == (before if is_as_before else None)
    assert _names(disk.directory) == {"part"} | ({"7.flac", "7.json"} if is_as_before else set())
    assert _names(disk.directory / "part") == set()


@pytest.mark.parametrize("step", STEPS)
def test_a_result_that_cannot_be_kept_leaves_nothing_and_can_be_read(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    spool = _spool(disk)
    with _failing_to(monkeypatch, step, OSError(errno.EIO, "broken")), pytest.raises(OSError, match="broken"):
        disk.commit(RUN, spool, FACTS, "audio/flac", "frames")

    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()
    assert _names(disk.directory) == {"part"}
    assert _names(disk.directory / "part") == set()


def test_half_a_sidecar_is_not_left_on_a_full_disk(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    spool, write = _spool(disk), os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:20]))
    with pytest.raises(OSError, match="No space"):
        disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()

    assert disk.open(RUN) is None
    assert _names(disk.directory / "part") == set()


def test_the_audio_is_on_the_disk_before_it_has_its_name(
    disk: Disk, audio: Path, sidecar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, fdatasync = list[bool](), os.fdatasync

    def note(fd: int) -> None:
        seen.append(audio.exists() or sidecar.exists())
        fdatasync(fd)

    monkeypatch.setattr(os, "fdatasync", note)
    _commit(disk)
    assert seen == [False]


def test_what_the_disk_fails_to_take_is_read_from_memory(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fdatasync", Mock(side_effect=OSError(errno.EIO, "broken")))
    spool = _spool(disk)
    with pytest.raises(OSError, match="broken"):
        disk.commit(RUN, spool, FACTS, "audio/flac", "frames")

    assert "memfd" in str(Path(f"/proc/self/fd/{spool.fileno()}").readlink())
    assert spool.read(0, len(CONTENT)) == CONTENT
    spool.close()
    assert _names(disk.directory / "part") == set()


@pytest.mark.parametrize("name", ["7.json", "7.flac"])
def test_a_directory_in_the_place_of_a_file_gives_way(disk: Disk, name: str) -> None:
    (disk.directory / name).mkdir()
    _commit(disk)
    assert _read(disk) == CONTENT
    assert _names(disk.directory) == {"part", "7.flac", "7.json"}


@pytest.mark.parametrize("name", ["7.json", "7.flac"])
def test_a_directory_with_something_in_it_is_moved_aside(disk: Disk, name: str) -> None:
    (disk.directory / name).mkdir()
    (disk.directory / name / "something").touch()
    _commit(disk)
    assert _read(disk) == CONTENT
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
    _commit(disk, SPEECH)
    _age(sidecar, voucher=voucher)

    assert disk.info(RUN) == RunInfo(len(SPEECH), FACTS.mtime_ns)
    assert not _is_vouched_for(disk)
    assert _read(disk) == SPEECH
    assert _is_vouched_for(Disk(disk.directory))
    assert json.loads(sidecar.read_text())["proof"] == "frames"


@pytest.mark.parametrize(
    "content",
    [SPEECH[: len(SPEECH) * 4 // 10], b"upstream connect error", PIPED, SPEECH + b"more"],
    ids=["short", "text", "piped", "more"],
)
def test_an_older_result_that_nothing_proves_is_damage(disk: Disk, sidecar: Path, content: bytes) -> None:
    _commit(disk, content)
    _age(sidecar)

    with pytest.raises(CacheDamaged):
        disk.info(RUN)
    with pytest.raises(CacheDamaged):
        _read(disk)


def test_a_file_that_is_as_it_was_proves_nothing(disk: Disk, sidecar: Path) -> None:
    _commit(disk, SPEECH[:-100])
    told = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(told | {"proof": ""}))

    assert not _is_vouched_for(disk)
    with pytest.raises(CacheDamaged, match="nothing proves"):
        _read(disk)


def test_an_older_result_of_other_bytes_is_damage(disk: Disk, sidecar: Path) -> None:
    _commit(disk, SPEECH)
    _age(sidecar)
    with (disk.directory / "7.flac").open("r+b") as file:
        file.seek(5000)
        file.write(b"another frame")

    with pytest.raises(CacheDamaged, match="damaged"):
        _read(disk)


# What can be verified without the API.


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
    spool = _spool(disk, content)
    disk.commit(RUN, spool, RunInfo(len(content), 0), "audio/flac", proof)
    spool.close()

    if is_right:
        disk.verify(RUN)
    else:
        with pytest.raises(CacheDamaged, match="run 7"):
            disk.verify(RUN)


def test_verifying_looks_at_bytes_that_are_vouched_for(disk: Disk, sidecar: Path) -> None:
    _commit(disk, SPEECH)
    told = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps(told | {"sha256": SHA256}))
    assert _is_vouched_for(disk)

    with pytest.raises(CacheDamaged):
        disk.verify(RUN)


def test_verifying_what_is_gone_is_no_damage(disk: Disk) -> None:
    disk.verify(RUN)


# With other mounts.


def test_nobody_waits_for_another_mount_that_is_just_putting_a_result_there(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, spool, write = Gate(), _spool(disk), Directory.write

    def slowly(*arguments: Any) -> None:
        gate.go_through()
        write(*arguments)

    monkeypatch.setattr(Directory, "write", slowly)
    putting = in_thread(lambda: disk.commit(RUN, spool, FACTS, "audio/flac", "frames"))
    gate.wait_for_arrivals()
    other = Disk(disk.directory)
    assert other.info(RUN) is None
    assert other.open(RUN) is None
    gate.open()

    putting.result(LIMIT_S)
    assert _read(other) == CONTENT, "its file was swept while it was put there"
    assert other.info(RUN) == FACTS
    spool.close()


def test_a_pair_that_was_seen_half_before_and_half_after_is_looked_at_again(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _commit(disk, b"fLaC, another")
    read = reading.read_sidecar

    def read_and_replace(*arguments: Any) -> Any:
        found = read(*arguments)
        monkeypatch.setattr(reading, "read_sidecar", read)
        _commit(disk)
        return found

    monkeypatch.setattr(reading, "read_sidecar", read_and_replace)
    assert disk.info(RUN) == FACTS


def test_two_mounts_that_put_the_same_result_there(disk: Disk) -> None:
    """The file of one, and the sidecar of the other, which does not know it."""
    _commit(disk)
    theirs = (disk.directory / "7.json").read_bytes()
    _commit(disk)
    (disk.directory / "7.json").write_bytes(theirs)

    assert not _is_vouched_for(disk)
    assert _read(disk) == CONTENT


def test_a_lock_that_another_program_holds_for_ever_holds_up_nobody(disk: Disk) -> None:
    with (disk.directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _commit(disk)
        assert _read(Disk(disk.directory)) == CONTENT
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
    spool = _spool(disk)

    assert not (disk.directory / "part" / swept[0]).exists()
    disk.commit(RUN, spool, FACTS, "audio/flac", "frames")
    spool.close()
    assert _read(disk) == CONTENT


# Where it is.


def test_another_directory_in_its_place_is_not_looked_at(disk: Disk) -> None:
    disk.directory.rename(disk.directory.with_name("ours"))
    planted = Disk(disk.directory)
    _commit(planted, b"fLaC, planted")

    assert disk.open(RUN) is None
    _commit(disk)
    assert _read(disk) == CONTENT
    assert (disk.directory.with_name("ours") / "7.flac").read_bytes() == CONTENT
    disk.remove(RUN)
    assert _read(planted) == b"fLaC, planted"


def test_where_only_a_part_of_it_was_removed_it_stays_where_it_is(disk: Disk) -> None:
    ours = disk.directory.rename(disk.directory.with_name("ours"))
    (ours / "part").rmdir()
    planted = Disk(disk.directory)
    _commit(disk)

    assert (ours / "7.flac").read_bytes() == CONTENT
    assert planted.run_ids() == []


def test_a_directory_that_was_removed_is_made_anew(disk: Disk) -> None:
    _commit(disk)
    shutil.rmtree(disk.directory)
    assert disk.info(RUN) is None
    assert disk.scan() == []
    _commit(disk)

    assert _read(Disk(disk.directory)) == CONTENT


def test_a_directory_that_was_removed_is_not_made_anew_where_others_could_exchange_it(disk: Disk) -> None:
    shutil.rmtree(disk.directory)
    disk.directory.parent.chmod(0o777)

    with pytest.raises(PermissionError, match="chmod o-w"):
        _spool(disk)


def test_two_can_go_through_it_at_the_same_time(disk: Disk) -> None:
    for number in range(1, 6):
        _commit(disk, run_id=RunId(number))
    files = disk._files()
    next(files)
    assert len(disk.run_ids()) == 5
    assert len(list(files)) == 4


@pytest.mark.parametrize("name", ["7.json", "7.flac", "part/7.left"])
def test_a_directory_that_lies_where_a_file_should_is_no_reason_to_refuse(disk: Disk, name: str) -> None:
    (disk.directory / name).mkdir()
    (disk.directory / name / "something").touch()
    cache = Cache(Disk(disk.directory), 100)

    assert cache.acquire(RUN) is None
    assert cache.info(RUN) is None
    assert cache.runs() == []


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
