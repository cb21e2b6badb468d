"""Shared by the tests with real mounts: audio, an embedded API, and mounts of it that clean up after themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from tests.api.server import Server
from tests.kernel import audio as making
from tests.kernel.audio import Audio
from tests.kernel.harness import KEY, Mount, detach, mounts_below


class Mounted(Protocol):
    def __call__(self, *options: str, expected: Sequence[str] = (), home: str = "", key: str = KEY) -> Mount:
        """A mount of the test's server, to be used with `with`. Those with the same `home` share a cache."""


@pytest.fixture(scope="session")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audio]:
    directory = tmp_path_factory.mktemp("audio")
    yield making.make(directory)
    shutil.rmtree(directory)


@pytest.fixture
def server(audio: Audio) -> Iterator[Server]:
    """101: a sentence, 105: three minutes."""
    with Server({101: audio.sentence, 105: audio.minutes}, key=KEY) as server:
        yield server
        server.heal()


@pytest.fixture
def mounted(server: Server, tmp_path: Path) -> Iterator[Mounted]:
    def mounted(*options: str, expected: Sequence[str] = (), home: str = "home", key: str = KEY) -> Mount:
        return Mount(server, tmp_path / home, *options, expected=expected, key=key)

    yield mounted
    for directory in mounts_below(tmp_path):
        detach(directory)
    shutil.rmtree(tmp_path)
