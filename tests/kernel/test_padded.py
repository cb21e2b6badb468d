"""A stored object with a zero behind the audio, which may belong to it as far as a checksum shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cambfs.demo import audio as demo_audio
from cambfs.demo import samples
from cambfs.demo.profile import Profile
from cambfs.demo.store import Store
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount

RESULT = samples()[105]
# The stream takes a second, so storage tells of its end first.
_RATE = 3_000_000


@pytest.fixture(autouse=True)
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage pads run 105."""
    stored = Store.stored

    def longer(store: Store, run_id: int) -> demo_audio.Audio:
        found = stored(store, run_id)
        return replace(found, data=found.data + bytes(run_id == 105))

    monkeypatch.setattr(Store, "stored", longer)


@pytest.fixture
def mount(server: Server, mounted: Mounted, audio: Audio) -> Iterator[Mount]:
    """It trusts storage, because that has another result as the API has it."""
    server.results[105] = RESULT
    with mounted() as mount:
        assert mount.run(f"cmp 101.flac {audio.sentence}").status == 0
        server.profile = Profile(rate=_RATE)
        yield mount


def test_a_stat_shows_the_size_of_the_stream(server: Server, mount: Mount) -> None:
    assert (mount.path / "105.flac").stat().st_size == RESULT.stat().st_size
    assert mount.run(f"cmp 105.flac {RESULT}").status == 0
    assert server.count("stream", 105) == 1


def test_a_seek_to_the_end_finds_that_of_the_stream(mount: Mount) -> None:
    size = RESULT.stat().st_size
    file = os.open(mount.path / "105.flac", os.O_RDONLY)
    try:
        assert os.pread(file, 4096, size - 100) == RESULT.read_bytes()[-100:]
        assert os.fstat(file).st_size == size
    finally:
        os.close(file)
    assert mount.run(f"cmp 105.flac {RESULT}").status == 0
