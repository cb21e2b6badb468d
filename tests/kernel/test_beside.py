"""Large results: connections beside a stream that does not fill the link."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import pytest

from cambfs.demo import audio as demo_audio
from cambfs.demo.profile import Profile
from cambfs.demo.store import Store
from cambfs.spans.lanes import MOST_LANES
from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount, wait_until

# Of each stream, not of storage. Slow enough that much is missing when the first lane could have brought it.
_RATE = 15_000_000
# At this rate the stream takes far longer than any test waits.
_ENDLESS = 3_000_000
# Nothing ends by itself while a test waits.
_LONG_S = "100"
_PIECE = 1 << 17
_FAR = 120 << 20
# More than a probe or a single read far ahead asks for, less than any range beside a stream.
_BEYOND_A_SPAN = 600_000


@pytest.fixture
def mount(server: Server, mounted: Mounted, audio: Audio) -> Iterator[Mount]:
    server.profile = Profile(rate=_RATE)
    server.results[1] = audio.long
    with mounted("--timeout", _LONG_S) as mount:
        yield mount


class Reader:
    """Reads the result from its begin on, piece by piece, and compares each."""

    def __init__(self, file: int, wanted: int) -> None:
        self._file, self._wanted = file, wanted
        self._offset = 0

    def read_at(self, offset: int, count: int) -> None:
        assert os.pread(self._file, count, offset) == os.pread(self._wanted, count, offset)

    def read_on(self, count: int) -> None:
        for _ in range(0, count, _PIECE):
            self.read_at(self._offset, _PIECE)
            self._offset += _PIECE

    def read_until(self, is_so: Callable[[], object], what: str) -> None:
        while not is_so():
            assert self._offset < _FAR, f"not {what}"
            self.read_on(_PIECE)


@contextmanager
def reading(mount: Mount, audio: Audio) -> Iterator[Reader]:
    """Of run 1, when storage has been asked about it."""
    file = os.open(mount.path / "1.flac", os.O_RDONLY)
    try:
        with audio.long.open("rb") as wanted:
            assert os.fstat(file).st_size == os.fstat(wanted.fileno()).st_size
            yield Reader(file, wanted.fileno())
    finally:
        os.close(file)


def test_a_stream_that_does_not_fill_the_link_gets_ranges_beside_it(server: Server, mount: Mount, audio: Audio) -> None:
    assert mount.run(f"cmp 1.flac {audio.long}").status == 0
    streamed = sum(one.sent for one in server.requests if one.kind == "stream")
    total = sum(one.sent for one in server.requests)
    size = audio.long.stat().st_size

    assert server.count("stream", 1) == 1
    assert streamed < size * 0.8
    assert total < size * 1.1, "next to nothing comes twice"
    assert mount.run(f"cmp 1.flac {audio.long}").status == 0
    assert sum(one.sent for one in server.requests) == total, "the result is complete, and kept"


def test_a_place_of_the_limit_stays_free(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.profile = Profile(rate=2 * _RATE)
    server.results[1] = audio.long
    with mounted("--max-transfers", "2") as mount, reading(mount, audio) as reader:
        before = server.count("stored", 1)
        reader.read_on(160 * _PIECE)
        assert server.count("stored", 1) == before


def test_ranges_that_stall_cost_nothing_and_a_seek_gives_them_up(server: Server, mount: Mount, audio: Audio) -> None:
    server.profile = Profile(rate=_ENDLESS)
    with reading(mount, audio) as reader:
        server.fail(Fault("stall", target="stored", after_bytes=_BEYOND_A_SPAN, times=None))
        reader.read_until(lambda: server.stalled, "a range beside the stream")
        server.faults.clear()
        reader.read_on(_PIECE)
        reader.read_at(_FAR, 4096)
        wait_until(lambda: not server.stalled, "the ranges are given up")
        assert server.count("stream", 1) == 1, "the stream goes on"


def test_a_range_that_stalls_ends_with_the_last_close(server: Server, mount: Mount, audio: Audio) -> None:
    server.profile = Profile(rate=_ENDLESS)
    with reading(mount, audio) as reader:
        server.fail(Fault("stall", target="stored", run_id=1, after_bytes=2 * _PIECE + 4096, times=None))
        reader.read_on(_PIECE)
        before = server.count("stored", 1)
        reader.read_at(_FAR, 4096)
        assert server.count("stored", 1) > before
        wait_until(lambda: server.stalled, "the rest of the range hangs")
    wait_until(lambda: not server.stalled, "its connection is closed")


@pytest.mark.parametrize("status", [500, 503])
def test_after_a_failure_storage_is_left_alone(status: int, server: Server, mount: Mount, audio: Audio) -> None:
    with reading(mount, audio) as reader:
        before = server.count("stored", 1)
        server.fail(Fault("status", target="stored", run_id=1, status=status, times=None))
        reader.read_until(lambda: server.count("stored", 1) > before, "a range beside the stream")
        reader.read_on(40 * _PIECE)
        assert server.count("stored", 1) <= before + MOST_LANES, "not once more for each read"


def test_a_range_that_breaks_off_is_not_asked_for_again(server: Server, mount: Mount, audio: Audio) -> None:
    server.profile = Profile(rate=_ENDLESS)
    with reading(mount, audio) as reader:
        before = server.count("stored", 1)
        server.fail(Fault("reset", target="stored", run_id=1, after_bytes=_PIECE, times=None))
        reader.read_until(lambda: server.faults.taken, "a range beside the stream")
        reader.read_on(50 * _PIECE)
        assert server.count("stored", 1) <= before + MOST_LANES, "not piece by piece"


def test_a_range_without_a_response_is_no_loss_of_storage(server: Server, mount: Mount, audio: Audio) -> None:
    server.profile = Profile(rate=_ENDLESS)
    with reading(mount, audio) as reader:
        server.fail(Fault("reset", target="stored", run_id=1, after_bytes=BEFORE_HEADERS, times=None))
        reader.read_until(lambda: server.faults.taken, "a range beside the stream")
        reader.read_on(_PIECE)
        server.faults.clear()
        before = server.count("stored", 1)
        reader.read_at(_FAR, 4096)
        assert server.count("stored", 1) > before, "a seek still asks it"
        assert (mount.path / "101.flac").stat().st_size == audio.sentence.stat().st_size
        assert server.count("stored", 101) > 0, "and so does another result"


@pytest.mark.parametrize("length", ["content-length", "chunked"])
def test_storage_that_has_more_than_the_stream_sets_no_end(
    length: Literal["content-length", "chunked"],
    server: Server,
    mounted: Mounted,
    audio: Audio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A zero behind the audio, which may belong to it as far as its structure shows."""
    server.profile = Profile(rate=6 * _RATE, length=length)
    server.results[1] = audio.long
    stored = Store.stored

    def longer(store: Store, run_id: int) -> demo_audio.Audio:
        found = stored(store, run_id)
        return replace(found, data=found.data + bytes(1))

    monkeypatch.setattr(Store, "stored", longer)
    with mounted(expected=["?run 1: "]) as mount:
        mount.run("cat 1.flac > /dev/null")  # an error if storage has told the size before
        assert (mount.path / "1.flac").stat().st_size == audio.long.stat().st_size
