"""`cambfs.disk.spool`: one descriptor's bytes, on a disk that fills up, and in memory."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cambfs.disk import spool as spool_module
from cambfs.disk.directory import Directory, Name
from cambfs.disk.spool import Spool, memory_spool
from cambfs.errors import CacheDamaged, NoSpace, TooManyOpenFiles


def _write(spool: Spool, offset: int, data: bytes) -> None:
    spool.write(offset, data)
    spool.filled.add(offset, offset + len(data))


def _on_disk(path: Path, relieve: Callable[[], bool] = lambda: False) -> Spool:
    directory = Directory(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY))
    return Spool(directory.create(path.name), name=Name(directory, path.name), relieve=relieve)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Writing to a file fails as long as the list, whose first is an errno, is not empty. Memory has room."""
    errnos: list[int] = []
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if errnos and "memfd" not in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errnos[0], os.strerror(errnos[0]))
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    return errnos


def test_reads_what_was_written() -> None:
    spool = memory_spool()
    _write(spool, 4, b"wxyz")
    _write(spool, 0, b"abcd")

    assert spool.read(2, 4) == b"cdwx"
    assert spool.read(8, 0) == b""
    spool.close()


def test_a_short_write_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:3], offset))
    spool = memory_spool()
    _write(spool, 0, b"abcdefgh")

    assert spool.read(0, 8) == b"abcdefgh"
    spool.close()


def test_no_two_spools_have_the_same_serial() -> None:
    one, other = memory_spool(), memory_spool()

    assert one.generation != other.generation
    one.close()
    other.close()


def test_bytes_that_the_file_has_lost_are_noticed(tmp_path: Path) -> None:
    spool = _on_disk(tmp_path / "1")
    _write(spool, 0, b"abcdefgh")
    os.truncate(tmp_path / "1", 5)

    assert spool.read(0, 5) == b"abcde"
    with pytest.raises(CacheDamaged, match="ends at 5"):
        spool.read(2, 6)
    spool.close()


def test_closing_removes_the_temporary_name(tmp_path: Path) -> None:
    spool = _on_disk(tmp_path / "1")
    spool.close()
    spool.close()

    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_relieved(tmp_path: Path, full_disk: list[int], number: int) -> None:
    def relieve() -> bool:
        if full_disk:
            full_disk.clear()
            return True
        return False

    spool = _on_disk(tmp_path / "1", relieve)
    full_disk.append(number)
    _write(spool, 0, b"abcd")

    assert spool.name is not None
    assert (tmp_path / "1").read_bytes() == b"abcd"
    spool.close()


def test_a_full_disk_that_cannot_be_relieved_costs_the_name_not_the_bytes(tmp_path: Path, full_disk: list[int]) -> None:
    spool = _on_disk(tmp_path / "1")
    _write(spool, 0, b"abcd")
    full_disk.append(errno.ENOSPC)
    _write(spool, 6, b"gh")
    _write(spool, 4, b"ef")

    assert spool.read(0, 8) == b"abcdefgh"
    assert spool.name is None
    assert not (tmp_path / "1").exists()
    spool.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE, errno.EFBIG, errno.EDQUOT, errno.ENOSPC])
def test_a_disk_that_fails_costs_the_name_not_the_bytes(tmp_path: Path, full_disk: list[int], number: int) -> None:
    spool = _on_disk(tmp_path / "1")
    _write(spool, 0, b"abcd")
    full_disk.append(number)
    _write(spool, 4, b"efgh")

    assert spool.read(0, 8) == b"abcdefgh"
    assert spool.name is None
    assert spool.trouble is not None
    assert spool.trouble.errno == number
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_a_disk_that_fails_to_give_back_what_it_took_is_damage(
    tmp_path: Path, full_disk: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = _on_disk(tmp_path / "1")
    _write(spool, 0, b"abcd")
    full_disk.append(errno.EIO)
    monkeypatch.setattr(os, "pread", _no_more)

    with pytest.raises(CacheDamaged, match="cannot be read"):
        _write(spool, 4, b"efgh")
    spool.close()


def _no_more(_fd: int, _length: int, _offset: int) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_where_no_descriptor_is_left_for_memory_the_error_says_so(
    tmp_path: Path, full_disk: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = _on_disk(tmp_path / "1")
    full_disk.append(errno.EIO)
    monkeypatch.setattr(os, "memfd_create", _none_left)

    with pytest.raises(TooManyOpenFiles):
        _write(spool, 0, b"abcd")
    spool.close()


def _none_left(_name: str, _flags: int) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_full_memory_is_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    spool = memory_spool()
    monkeypatch.setattr(os, "pwrite", _no_space)

    with pytest.raises(NoSpace, match="on the disk or in memory"):
        _write(spool, 0, b"abcd")
    spool.close()


def test_full_disk_and_full_memory_are_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = _on_disk(tmp_path / "1")
    _write(spool, 0, b"abcd")
    monkeypatch.setattr(os, "pwrite", _no_space)

    with pytest.raises(NoSpace, match="on the disk or in memory"):
        _write(spool, 4, b"efgh")
    assert spool.read(0, 4) == b"abcd"
    spool.close()


def _no_space(_fd: int, _data: bytes, _offset: int) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_large_goes_from_memory_to_an_unlinked_file() -> None:
    spool = memory_spool(spill_bytes=6)
    _write(spool, 0, b"abcdef")
    assert "memfd" in _descriptor_of(spool)
    _write(spool, 6, b"gh")

    assert "memfd" not in _descriptor_of(spool)
    assert _descriptor_of(spool).endswith("(deleted)")
    assert spool.read(0, 8) == b"abcdefgh"
    _write(spool, 8, b"ij")
    assert spool.read(0, 10) == b"abcdefghij"
    spool.close()


def _descriptor_of(spool: Spool) -> str:
    return str(Path(f"/proc/self/fd/{spool.fileno()}").readlink())


def test_what_is_large_stays_in_memory_where_no_file_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    spool = memory_spool(spill_bytes=6)
    _write(spool, 0, b"abcdefgh")
    _write(spool, 8, b"ij")

    assert "memfd" in _descriptor_of(spool)
    assert spool.read(0, 10) == b"abcdefghij"
    spool.close()


def test_an_unlinked_file_that_fails_goes_back_to_memory(full_disk: list[int]) -> None:
    spool = memory_spool(spill_bytes=6)
    _write(spool, 0, b"abcdefgh")
    full_disk.append(errno.ENOSPC)
    _write(spool, 8, b"ij")

    assert "memfd" in _descriptor_of(spool)
    assert spool.read(0, 10) == b"abcdefghij"
    spool.close()


# A file in the cache that is right.


@pytest.fixture
def verified_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """Looked at with every read."""
    monkeypatch.setattr(spool_module, "_LOOK_EVERY_S", 0.0)
    spool = _on_disk(tmp_path / "1")
    _write(spool, 0, b"abcdefgh")
    spool.verified_identity = spool.identity()
    yield spool
    spool.close()


def test_a_change_of_a_file_in_use_is_noticed(verified_identity: Spool, tmp_path: Path) -> None:
    assert verified_identity.read(0, 8) == b"abcdefgh"
    with (tmp_path / "1").open("r+b") as file:
        file.write(b"x")

    with pytest.raises(CacheDamaged, match="changed"):
        verified_identity.read(4, 4)
    with pytest.raises(CacheDamaged, match="changed"):
        verified_identity.check_unchanged()


def test_a_change_that_hides_its_time_is_noticed(verified_identity: Spool, tmp_path: Path) -> None:
    before = (tmp_path / "1").stat()
    with (tmp_path / "1").open("r+b") as file:
        file.write(b"x")
    os.utime(tmp_path / "1", ns=(before.st_atime_ns, before.st_mtime_ns))

    with pytest.raises(CacheDamaged, match="changed"):
        verified_identity.read(4, 4)


def test_to_be_removed_is_no_change(verified_identity: Spool, tmp_path: Path) -> None:
    (tmp_path / "1").unlink()

    assert verified_identity.read(0, 8) == b"abcdefgh"
    assert verified_identity.read(0, 8) == b"abcdefgh"


def test_a_change_and_a_removal_is_one(verified_identity: Spool, tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"abcdefgx")
    (tmp_path / "1").unlink()

    with pytest.raises(CacheDamaged, match="changed"):
        verified_identity.read(0, 8)


def test_reads_look_once_a_second(verified_identity: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "_LOOK_EVERY_S", 1.0)
    now, looks, fstat = [100.0], list[int](), os.fstat
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fstat", lambda fd: looks.append(fd) or fstat(fd))  # type: ignore[func-returns-value]
    for now[0] in (100.0, 100.5, 100.9, 101.0, 101.5):
        verified_identity.read(0, 4)

    assert len(looks) == 2


def test_a_file_that_cannot_be_looked_at_any_more_is_damage(
    verified_identity: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> os.stat_result:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        with pytest.raises(CacheDamaged, match="examined"):
            verified_identity.read(0, 8)
