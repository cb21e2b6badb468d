"""`cambfs.open_run`: a file as Python's own ones, and one library for all files with the same settings."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import cambfs
from cambfs.demo import samples
from cambfs.python import run_file
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.harness import KEY, environment
from tests.waiting import eventually, in_thread

_CONTENT = samples()[101].read_bytes()
_LIMIT_S = 60.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Its settings are in the environment. The libraries of the test are closed at its end."""
    closing = ExitStack()
    monkeypatch.setattr(run_file, "_libraries", {})
    monkeypatch.setattr(run_file, "_closing", closing)
    with Server({101: samples()[101], 102: samples()[102]}, key=KEY) as server, closing:
        for name, value in environment(server, tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        yield server


@pytest.mark.usefixtures("server")
def test_the_file_is_as_one_of_python() -> None:
    with cambfs.open_run(101) as file, io.BytesIO(_CONTENT) as wanted:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        for offset, whence, length in ((0, 0, 10), (5, 1, 100_000), (-7, 2, 100), (3, 2, 5), (1000, 0, 1), (-1, 1, 4)):
            assert file.seek(offset, whence) == wanted.seek(offset, whence)
            assert file.read(length) == wanted.read(length)
            assert file.tell() == wanted.tell()
        file.seek(0)
        assert file.read() == _CONTENT
        with pytest.raises(ValueError, match="negative"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, os.SEEK_DATA)
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    file.close()


def test_all_files_share_one_download_and_the_cache(server: Server) -> None:
    files = [in_thread(lambda: cambfs.open_run(101).read()) for _ in range(4)]
    assert [file.result(_LIMIT_S) for file in files] == [_CONTENT] * 4
    assert cambfs.open_run(101, format="wav").read(4) == b"RIFF"
    assert server.count("stream") == 1


def test_files_with_the_same_settings_share_what_is_under_way(server: Server) -> None:
    server.fail(Fault("stall", run_id=102, after_bytes=100_000))
    with cambfs.open_run(102) as one, cambfs.open_run(102, no_disk_cache=False, log_file=None) as other:
        assert one.read(1000) == other.read(1000)
        assert (server.count("stream"), server.stalled) == (1, 1)
        server.release()


@pytest.mark.usefixtures("server")
def test_a_closed_file_gives_its_result_back() -> None:
    for kind in ("flac", "wav"):
        cambfs.open_run(101, format=kind).close()
    (opened,) = run_file._libraries.values()

    eventually(lambda: not opened.library.in_use)


def test_another_program_needs_no_request(server: Server, tmp_path: Path) -> None:
    program = "import cambfs; print(len(cambfs.open_run(101).read()))"
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env=environment(server, tmp_path / "home"),
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        assert (done.stdout, done.stderr) == (f"{len(_CONTENT)}\n", "")
    assert server.count("stream") == 1


def test_a_process_of_multiprocessing_has_a_library_of_its_own(server: Server, tmp_path: Path) -> None:
    """A fork has none of its parent's threads, so nothing of what they fetch."""
    server.fail(Fault("stall", run_id=102, after_bytes=50_000))
    program = """
import multiprocessing, cambfs
def length(run_id):
    return len(cambfs.open_run(run_id, timeout=5).read())
file = cambfs.open_run(102, timeout=5)
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply(length, [102]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(server, tmp_path / "home"),
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
    )
    assert done.stdout == f"{samples()[102].stat().st_size}\n", done.stderr


def test_errors_are_those_of_files(server: Server) -> None:
    with pytest.raises(FileNotFoundError, match="run 8"):
        cambfs.open_run(8)
    with pytest.raises(FileNotFoundError, match="run 8"):
        cambfs.open_run(8, format="wav")
    with pytest.raises(PermissionError):
        cambfs.open_run(102, api_key="another")
    with pytest.raises(ConnectionRefusedError):
        cambfs.open_run(102, base_url="http://127.0.0.1:1/apis")
    assert server.count("stream", 102) == 1


@pytest.mark.usefixtures("server")
def test_wrong_settings_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ({"cache_sise": 1}, {"cache_size": "many"}, {"url_style": "json"}, {"api_key": "two words"}):
        with pytest.raises(cambfs.ConfigError, match=next(iter(wrong))[:9].replace("_", "[-_]")):
            cambfs.open_run(101, **wrong)
    for number in (0, -1, 2**63, "101.flac"):
        with pytest.raises(ValueError, match="run id"):
            cambfs.open_run(number)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it is a task id, and cambfs wait"):
        cambfs.open_run("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="format"):
        cambfs.open_run(101, format="mp3")  # type: ignore[arg-type]
    monkeypatch.delenv("CAMB_API_KEY")
    with pytest.raises(cambfs.ConfigError, match="CAMB_API_KEY"):
        cambfs.open_run(101)


def test_importing_cambfs_imports_nothing_more() -> None:
    program = "import cambfs, sys; print([name for name in sys.modules if name.startswith(('cambfs.', 'click'))])"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=_LIMIT_S)
    assert done.stdout == "[]\n"
    assert not hasattr(cambfs, "nothing")
