"""Starting and stopping the demo's API, from Python and alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cambfs.demo import samples
from cambfs.demo.profile import Profile
from cambfs.demo.server import Server
from tests.demo.asking import (
    FLAC,
    LIMIT_S,
    get,
    stream,
)


def test_the_package_is_imported_without_the_extra() -> None:
    code = "import sys, cambfs.demo, cambfs.demo.profile; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"starlette", "uvicorn"} & set(loaded.stdout.split())


def test_the_server_without_the_extra_is_an_import_error() -> None:
    code = "import sys; sys.modules['uvicorn'] = None\ntry: import cambfs.demo.server\nexcept ImportError: print('so')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "so\n"


def test_many_servers_at_a_time_and_again(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(FLAC)
    first = Server({1: path})
    with first, Server({1: path}) as second:
        assert first.base_url != second.base_url
        assert stream(first).content == stream(second).content == FLAC
        old = first.base_url
    with first:
        assert stream(first).content == FLAC
        with pytest.raises(OSError, match="in use"):
            Server({}, port=urlsplit(first.base_url).port or 0).start()
        with pytest.raises(OSError, match="in use"):
            Server({}, storage_port=urlsplit(first.base_url).port or 0).start()
    port = urlsplit(old).port or 0
    with Server({1: path}, port=port) as third:
        assert third.base_url == old


def test_results_and_profile_change_while_it_runs(server: Server, tmp_path: Path) -> None:
    assert stream(server, 3).status_code == 400
    server.results[3] = tmp_path / "third"
    server.results[3].write_bytes(b"fLaC3")
    assert stream(server, 3).content == b"fLaC3"
    server.profile = Profile(unknown_status=404)
    assert stream(server, 4).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"chunk_bytes": 0}, {"url_life_s": 0}, {"latency_s": -1}, {"busy": -1}, {"task_s": -1}],
)
def test_a_profile_that_makes_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        Profile(**wrong)


def test_it_runs_alone() -> None:
    command = [sys.executable, "-W", "error", "-m", "cambfs.demo", "--length", "close", "--forbidden", "101,102"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            settings = dict(part.split("=", 1) for part in process.stdout.readline().split())
            url = settings["CAMB_BASE_URL"] + "/tts-result/"
            assert settings["CAMB_API_KEY"] == "demo-key"
            assert get(url + "102").status_code == 403
            assert get(url + "103").content == samples()[103].read_bytes()
        finally:
            process.terminate()
        assert process.communicate(timeout=LIMIT_S)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("options", [["--rate", "0"], ["--result", "x"], ["--forbidden", "a"], ["--storage", "tape"]])
def test_bad_options_are_named(options: list[str]) -> None:
    command = [sys.executable, "-m", "cambfs.demo", *options]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert options[0].strip("-") in told.stderr.splitlines()[-1]
