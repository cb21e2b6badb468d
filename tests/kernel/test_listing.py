"""The contents and the cost of a listing of the tree."""

from __future__ import annotations

import os
from pathlib import Path

from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.harness import CAMBFS, Mount, environment, run, wait_until


def _listed(mount: Mount) -> set[str]:
    return set(os.listdir(mount.path))  # noqa: PTH208


def _files(*run_ids: int) -> set[str]:
    return {f"{run_id}.{kind}" for run_id in run_ids for kind in ("flac", "url")}


def _status(mount: Mount) -> str:
    return run([CAMBFS, "status", str(mount.path)]).out.decode()


def test_declared_runs_are_listed_without_a_request(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101-103,105,9223372036854775807") as mount:
        server.forget()
        assert _listed(mount) == _files(101, 102, 103, 105, 2**63 - 1)
        assert server.requests == ()


def test_nothing_is_listed_at_first_and_what_is_opened_later(server: Server, mounted: Mounted) -> None:
    server.results.update(dict.fromkeys((1, 2), server.results[101]))
    with mounted() as mount:
        assert _listed(mount) == set()
        assert mount.run("head -c 4 1.flac").out == b"fLaC"
        assert _listed(mount) == _files(1)
        assert mount.run("stat -c %s 2.flac").status == 0
        assert _listed(mount) == _files(1, 2)
        assert mount.run("cat 7.flac 8.url").status == 1
        assert _listed(mount) == _files(1, 2)


def test_cached_results_are_listed_after_a_remount(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101-103") as mount:
        assert mount.run("sha256sum 101.flac 105.flac").status == 0
    with mounted() as mount:
        assert _listed(mount) == _files(101, 105)
    assert server.count("stream") == 2


def test_a_declared_run_that_does_not_exist_disappears_once_that_is_known(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101,404") as mount:
        assert _listed(mount) == _files(101, 404)
        done = mount.run("ls -l")
        assert "'404.flac': No such file or directory" in done.err
        assert b"101.flac" in done.out
        assert _listed(mount) == _files(101)
        assert server.count("stream", 404) + server.count("sign", 404) <= 4


def test_the_runs_file_is_noticed_while_mounted(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.write_text("# spoken\n101\n\n103-104 # two\n")
    with mounted("--runs", "7", "--runs-file", str(runs), expected=[r"runs:2: '-5'.*skipped", "No such file"]) as mount:
        server.forget()
        assert _listed(mount) == _files(7, 101, 103, 104)
        runs.write_text("105\n")
        wait_until(lambda: _listed(mount) == _files(7, 105), "the changed file is listed")
        runs.write_text("106\n-5\n108\n")
        wait_until(lambda: _listed(mount) == _files(7, 106, 108), "all but the bad line is listed")
        assert f"{runs}:2: '-5' is not a run id" in _status(mount)
        runs.unlink()
        assert _listed(mount) == _files(7, 106, 108)
        assert f"{runs}: No such file or directory" in _status(mount)
        runs.write_text("109\n")
        wait_until(lambda: _listed(mount) == _files(7, 109), "the new file is listed")
        assert "runs file" not in _status(mount)
        assert server.requests == ()
        assert mount.run("head -c 4 101.flac").out == b"fLaC", "what is not listed opens all the same"


def test_a_bad_line_is_refused_at_mount(server: Server, tmp_path: Path) -> None:
    runs, directory = tmp_path / "runs", tmp_path / "mnt"
    runs.write_text("101\n102-\n")
    directory.mkdir()
    done = run(
        [CAMBFS, "mount", "-f", "--runs-file", str(runs), str(directory)], env=environment(server, tmp_path), limit_s=20
    )
    assert done.status == 2
    assert done.err.startswith(f"cambfs: {runs}:2: '102-'"), done
    assert done.err.count("\n") == 1
    assert server.requests == ()
