"""Bytes that turn out to be others: results that change, and cached files that are damaged or unproven."""

from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from cambfs.deadline import Deadline
from cambfs.disk import checks, reading
from cambfs.disk import spool as spool_module
from cambfs.disk.disk import Disk
from cambfs.errors import (
    CacheDamaged,
    Cancelled,
    Closing,
    ResultChanged,
)
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.runs.library import Library
from tests import waiting
from tests.disk.on_disk import put
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result
from tests.runs.results import (
    CONTENT,
    OTHER,
    RUN,
    SIZE,
    breaks_when_told,
    open_run,
    read_at,
    stalls_at,
)
from tests.waiting import (
    MakeLibrary,
    deadline,
    eventually,
    in_thread,
    no_threads,
    raises,
    read_all,
    size_of,
)

# Results that change.


@pytest.mark.parametrize("etags", [('"a"', '"b"'), (None, None)], ids=["etags", "no etags"])
def test_another_result_is_never_mixed_with_the_first(
    source: FakeSource, library: Library, etags: tuple[str | None, str | None]
) -> None:
    source.add(1, Result(CONTENT, etag=etags[0], ranges=True))
    gate = breaks_when_told(source)
    old = open_run(library)
    assert read_at(old, 0, 1000) == CONTENT[:1000]
    read = in_thread(lambda: read_at(old, SIZE - 1000, 1000))
    gate.wait_for_arrivals()
    source.add(1, Result(OTHER, etag=etags[1], ranges=True))
    gate.open()

    with pytest.raises(ResultChanged):
        read.result(LIMIT_S)
    with pytest.raises(ResultChanged):
        read_at(old, 0, 1000)
    assert read_all(library, 1) == OTHER
    old.close()
    assert read_all(library, 1) == OTHER
    assert size_of(library, 1) == SIZE


@pytest.mark.parametrize("ranges", [True, False])
def test_another_validator_is_another_result_though_it_begins_alike(
    source: FakeSource, library: Library, ranges: bool
) -> None:
    other = CONTENT[:60_000] + OTHER[60_000:]
    source.add(1, Result(CONTENT, etag='"a"', ranges=ranges))
    gate = breaks_when_told(source)
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    source.add(1, Result(other, etag='"b"', ranges=ranges))
    gate.open()

    with pytest.raises(ResultChanged):
        read.result(LIMIT_S)
    assert read_all(library, 1) == other


@pytest.mark.parametrize("new_size", [SIZE - 10_000, SIZE + 10_000])
def test_another_length_is_another_result(source: FakeSource, library: Library, new_size: int) -> None:
    new = CONTENT[:new_size] if new_size < SIZE else CONTENT + OTHER[: new_size - SIZE]
    source.add(1, Result(CONTENT))
    gate = breaks_when_told(source)
    read = in_thread(lambda: read_all(library, 1))
    gate.wait_for_arrivals()
    source.add(1, Result(new))
    gate.open()

    with pytest.raises(ResultChanged):
        read.result(LIMIT_S)
    assert read_all(library, 1) == new
    assert size_of(library, 1) == new_size


def test_another_validator_before_any_byte_came_is_no_change(source: FakeSource, make_library: MakeLibrary) -> None:
    result = Result(CONTENT, etag='"a"')
    source.add(1, result)
    gate = Gate()
    source.plan("stream", 1, Plan(break_after=0, stall_at=0, stall_gate=gate), Plan())
    library = make_library()
    handle = library.open(RunId(1), deadline())
    result.etag = '"b"'
    gate.open()

    assert handle.read(0, 4096, deadline()) == CONTENT[:4096]
    handle.close()


# Cached files that are damaged.


def test_a_cached_file_that_is_cut_off_under_a_reader(
    source: FakeSource, library: Library, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1, Result(CONTENT))
    read_all(library, 1)
    eventually(no_threads)
    handle = open_run(library)
    (disk.directory / "1.flac").write_bytes(CONTENT[:1000])

    with pytest.raises(CacheDamaged):
        read_at(handle, 500, 1000)
    assert read_all(library, 1) == CONTENT
    handle.close()
    assert "fetched anew" in caplog.text
    assert source.count("stream") == 2


def test_a_cached_file_that_is_changed_under_a_reader_is_fetched_anew_at_the_next_open(
    source: FakeSource, library: Library, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1, Result(CONTENT))
    read_all(library, 1)
    eventually(no_threads)
    handle = open_run(library)
    assert read_at(handle, 0, 10) == CONTENT[:10]
    with (disk.directory / "1.flac").open("r+b") as file:
        file.write(b"x")

    assert read_all(library, 1) == CONTENT
    with pytest.raises(CacheDamaged):
        read_at(handle, 500, 1000)
    handle.close()
    assert "changed while it was open" in caplog.text
    eventually(no_threads)
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 2


def test_a_cached_file_that_is_changed_under_a_reader_is_noticed_by_it(
    source: FakeSource, library: Library, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_LOOK_EVERY_S", 0.0)
    source.add(1, Result(CONTENT))
    read_all(library, 1)
    eventually(no_threads)
    handle = open_run(library)
    (disk.directory / "1.flac").write_bytes(CONTENT[:-1] + b"x")

    with pytest.raises(CacheDamaged):
        read_at(handle, 500, 1000)
    handle.close()
    assert read_all(library, 1) == CONTENT


def test_wrong_bytes_end_also_a_stream_that_has_brought_all_of_them(
    source: FakeSource, library: Library, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = stalls_at(source, SIZE)
    handle = open_run(library)
    assert read_at(handle, 0, SIZE) == CONTENT
    gate.wait_for_arrivals()
    next((disk.directory / "part").iterdir()).write_bytes(CONTENT[:1000])

    with pytest.raises(CacheDamaged):
        read_at(handle, 500, 1000)
    monkeypatch.setattr(waiting, "LIMIT_S", LIMIT_S / 2)  # long before the gate lets it go
    eventually(no_threads)
    handle.close()


@pytest.mark.parametrize("looker", ["probe", "caller"])
def test_whoever_finds_that_bytes_are_gone_ends_it(
    looker: str, source: FakeSource, library: Library, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    stream, probe = Gate(), Gate()
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=stream))
    source.plan("stored", 1, Plan(gate=probe))
    handle = open_run(library)
    assert read_at(handle, 0, 5000) == CONTENT[:5000]
    probe.wait_for_arrivals()
    next((disk.directory / "part").iterdir()).write_bytes(CONTENT[:1000])
    if looker == "caller":
        with pytest.raises(CacheDamaged):
            read_at(handle, 500, 1000)
    probe.open()
    eventually(lambda: raises(CacheDamaged, lambda: read_at(handle, 0, 100)), "nothing has ended it")

    for _ in range(3):
        with pytest.raises(CacheDamaged):
            read_at(handle, 0, 100)
    eventually(no_threads)
    handle.close()
    assert read_all(library, 1) == CONTENT
    assert caplog.text.count("fetched anew") == 1


# A cached file that nothing vouches for.


@pytest.fixture
def check(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """The result is there, and to read it through takes until the gate opens."""
    spool = disk.new_spool(RUN, lambda: False)
    spool.write(0, CONTENT)
    put(disk, spool, RunInfo(SIZE, 0), RUN)
    spool.close()
    (disk.directory / "1.flac").touch()
    gate, sha256 = Gate(), checks.sha256

    def slowly(*arguments: Any) -> str:
        gate.go_through()
        return sha256(*arguments)

    monkeypatch.setattr(reading, "sha256", slowly)
    return gate


def test_it_is_read_through_once_for_all_before_anything_is_used(
    source: FakeSource, library: Library, check: Gate
) -> None:
    reads = [in_thread(lambda: read_all(library, 1)) for _ in range(4)]
    check.wait_for_arrivals()
    assert not any(read.done() for read in reads)
    check.open()

    assert [read.result(LIMIT_S) for read in reads] == [CONTENT] * 4
    assert check.arrivals == 1
    assert read_all(library, 1) == CONTENT
    assert check.arrivals == 1
    assert source.count("stream") == 0


def test_nothing_is_requested_ahead_of_it(source: FakeSource, library: Library, check: Gate) -> None:
    with library.use(RUN) as run:
        run.expect_open()
        run.fetch_ahead(2 * SIZE)
        assert run.progress() is None
    check.open()
    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 0


def test_who_waits_for_it_can_be_killed(library: Library, check: Gate) -> None:
    is_killed = Event()
    open_ = in_thread(lambda: library.open(RUN, Deadline(LIMIT_S, is_killed.is_set)))
    check.wait_for_arrivals()
    is_killed.set()

    with pytest.raises(Cancelled):
        open_.result(LIMIT_S)
    check.open()


def test_the_end_of_the_mount_ends_it(library: Library, check: Gate, disk: Disk) -> None:
    open_ = in_thread(lambda: library.open(RUN, deadline()))
    check.wait_for_arrivals()
    closing = in_thread(library.close)
    with pytest.raises(Closing):
        open_.result(LIMIT_S)
    check.open()
    closing.result(LIMIT_S)
    eventually(no_threads)

    assert disk.run_ids() == [1]
    found = disk.open(RUN)
    assert found is not None
    assert not found.is_right, "it was not read to its end"
    found.spool.close()


def test_one_that_is_damaged_is_fetched_again(source: FakeSource, library: Library, check: Gate, disk: Disk) -> None:
    (disk.directory / "1.flac").write_bytes(b"x" + CONTENT[1:])
    source.add(1, Result(CONTENT))
    check.open()

    assert read_all(library, 1) == CONTENT
    assert source.count("stream") == 1
    eventually(lambda: disk.run_ids() == [1])
