"""A server with two small results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from cambfs.demo.server import Server
from tests.demo.asking import FLAC


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "result"
    path.write_bytes(FLAC)
    with Server({1: path, 2: path}, Profile(chunk_bytes=1000)) as running:
        yield running
