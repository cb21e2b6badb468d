"""Caches with a disk and without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from tests.cache.filling import MakeCache


@pytest.fixture(params=["disk", "memory"])
def make_cache(request: pytest.FixtureRequest, tmp_path: Path) -> MakeCache:
    def make(limit_bytes: int) -> Cache:
        return Cache(Disk(tmp_path / "cache") if request.param == "disk" else None, limit_bytes)

    return make
