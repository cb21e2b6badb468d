"""The files of one result."""

from __future__ import annotations

from pathlib import Path

import pytest

from cambfs.disk.disk import Disk
from tests.disk.on_disk import RUN


@pytest.fixture
def audio(disk: Disk) -> Path:
    return disk.directory / f"{RUN}.flac"


@pytest.fixture
def sidecar(disk: Disk) -> Path:
    return disk.directory / f"{RUN}.json"
