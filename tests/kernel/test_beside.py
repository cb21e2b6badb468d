"""Large results: connections beside a stream that does not fill the link."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount, wait_until

# Of each stream, not of storage. Slow enough that much is missing when the first lane could have brought it.
_RATE = 15_000_000
_PIECE = 1 << 17
_FAR = 120 << 20
# More than a probe or a single read far ahead asks for, less than any range beside a stream.
_BEYOND_A_SPAN = 600_000


@pytest.fixture
def mount(server: Server, mounted: Mounted, audio: Audio) -> Iterator[Mount]:
    server.profile = Profile(rate=_RATE)
    server.results[1] = audio.long
    with mounted() as mount:
        yield mount


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


def test_ranges_that_stall_cost_nothing_and_a_seek_gives_them_up(server: Server, mount: Mount, audio: Audio) -> None:
    with audio.long.open("rb") as wanted:
        file = os.open(mount.path / "1.flac", os.O_RDONLY)
        try:
            assert os.fstat(file).st_size == audio.long.stat().st_size, "storage has been asked"
            server.fail(Fault("stall", target="stored", after_bytes=_BEYOND_A_SPAN, times=None))
            offset = 0
            while not server.stalled:
                assert offset < _FAR, "no range beside the stream"
                assert os.pread(file, _PIECE, offset) == os.pread(wanted.fileno(), _PIECE, offset)
                offset += _PIECE
            server.faults.clear()
            assert os.pread(file, 4096, _FAR) == os.pread(wanted.fileno(), 4096, _FAR)
            wait_until(lambda: not server.stalled, "the ranges are given up")
            assert server.count("stream", 1) == 1, "the stream goes on"
        finally:
            os.close(file)


def test_a_busy_storage_is_left_alone(server: Server, mount: Mount, audio: Audio) -> None:
    server.profile = Profile(rate=4 * _RATE)
    file = os.open(mount.path / "1.flac", os.O_RDONLY)
    try:
        assert os.fstat(file).st_size == audio.long.stat().st_size, "storage has been asked"
        server.fail(Fault("status", target="stored", run_id=1, status=503, times=None))
        asked = server.count("stored", 1)
        assert mount.run(f"cmp 1.flac {audio.long}").status == 0
        assert 1 <= server.count("stored", 1) - asked <= 2
    finally:
        os.close(file)
