"""A cache on disk, and a library with it."""

from __future__ import annotations

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.runs.library import Library
from tests.runs.results import SIZE
from tests.waiting import (
    MakeLibrary,
)


@pytest.fixture
def cache(disk: Disk) -> Cache:
    return Cache(disk, 10 * SIZE)


@pytest.fixture
def library(make_library: MakeLibrary, cache: Cache) -> Library:
    return make_library(cache)
