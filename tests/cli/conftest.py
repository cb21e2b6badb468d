"""Shared by the tests of the commands: an embedded API and a shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.cli.shell import Shell


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("results")
    results = {}
    for run_id in (1, 2, 3):
        results[run_id] = directory / f"{run_id}"
        results[run_id].write_bytes(b"fLaC" + bytes([run_id]) * 300_000)
    with Server(results) as server:
        yield server


@pytest.fixture(autouse=True)
def _unchanged_api(api: Server) -> Iterator[None]:
    yield
    api.profile = Profile()
    api.heal()
    api.forget()


@pytest.fixture
def shell(tmp_path: Path, api: Server) -> Iterator[Shell]:
    made = Shell(tmp_path, api)
    yield made
    made.clean()
