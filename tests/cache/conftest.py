"""Caches with a disk and without one, and the files of one result."""

from __future__ import annotations

from pathlib import Path

import pytest

from cambfs.cache.cache import Cache
from cambfs.cache.disk import Disk
from tests.cache.filling import MakeCache
from tests.cache.on_disk import RUN


@pytest.fixture(params=["disk", "memory"])
def make_cache(request: pytest.FixtureRequest, tmp_path: Path) -> MakeCache:
    def make(limit_bytes: int) -> Cache:
        return Cache(Disk(tmp_path / "cache") if request.param == "disk" else None, limit_bytes)

    return make


@pytest.fixture
def audio(disk: Disk) -> Path:
    return disk.directory / f"{RUN}.flac"


@pytest.fixture
def sidecar(disk: Disk) -> Path:
    return disk.directory / f"{RUN}.json"
