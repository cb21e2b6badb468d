"""`cambfs.mount`: mounts in a process of its own, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import cambfs
from cambfs.demo import samples
from tests.api.server import Server
from tests.kernel.harness import KEY, detach, environment, is_mounted, mounts_below, run


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server({101: samples()[101]}, key=KEY) as server:
        for name, value in environment(server, tmp_path / "home", TMPDIR=str(tmp_path)).items():
            monkeypatch.setenv(name, value)
        yield server
    for left in mounts_below(tmp_path):
        detach(left)


@pytest.mark.usefixtures("server")
def test_a_mount_at_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with cambfs.mount("camb", runs="101", no_url_files=True) as path:
        assert path == tmp_path / "camb"
        done = run(f"ls {path}; cmp {path}/101.flac {samples()[101]}")
        assert (done.status, done.out) == (0, b"101.flac\n"), done
    assert not is_mounted(path)


@pytest.mark.usefixtures("server")
def test_an_error_inside_unmounts_too(tmp_path: Path) -> None:
    def fail() -> None:
        with cambfs.mount(tmp_path / "camb") as path:
            assert is_mounted(path)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not is_mounted(tmp_path / "camb")


@pytest.mark.usefixtures("server")
def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(cambfs.ConfigError, match="not empty"), cambfs.mount(tmp_path / "full"):
        pass
    with pytest.raises(cambfs.ConfigError, match="url-style"), cambfs.mount(url_style="pretty"):
        pass
    with pytest.raises(cambfs.ConfigError, match="key"), cambfs.mount(api_key="another"):
        pass
    assert not mounts_below(tmp_path)
