"""`cambfs fetch`, against the embedded API."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from dataclasses import replace

from cambfs.demo.profile import Profile
from tests.api.faults import Fault
from tests.api.server import Server
from tests.cli.shell import LIMIT_S, Shell, complaint, names, until


def test_fetch_fills_the_cache_and_says_each_run(shell: Shell, api: Server) -> None:
    done = shell("fetch", "1-2,3")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [f"{run_id}.flac: 300004 bytes" for run_id in (1, 2, 3)]
    api.forget()
    assert shell("fetch", "1", "2-3").returncode == 0
    assert api.count("stream") == 0


def test_fetch_copies_out(shell: Shell, api: Server) -> None:
    out = shell.directory / "new/out"
    out.mkdir(parents=True)
    (out / "1.flac").write_bytes(b"old")
    before = os.umask(0o022)
    try:
        assert shell("fetch", "1-2", "-o", out).returncode == 0
    finally:
        os.umask(before)
    assert names(out) == ["1.flac", "2.flac"]
    for run_id in (1, 2):
        assert (out / f"{run_id}.flac").read_bytes() == api.results[run_id].read_bytes()
        assert (out / f"{run_id}.flac").stat().st_mode & 0o777 == 0o644


def test_runs_that_are_unknown_are_counted_and_the_others_are_fetched(shell: Shell) -> None:
    done = shell("fetch", "1,70-76,2", "-o", "out")
    assert (done.returncode, done.stderr) == (1, "cambfs: 2 fetched, 7 unknown; -v shows why\n")
    assert names(shell.directory / "out") == ["1.flac", "2.flac"]
    lines = shell("fetch", "1,70-76,2", "-v").stderr.splitlines()
    assert sum(line.startswith("cambfs: run 7") for line in lines) == 7
    assert lines[-1] == "cambfs: 0 fetched, 2 already there, 7 unknown"


def test_the_first_failures_are_shown(shell: Shell, api: Server) -> None:
    api.profile = replace(Profile(), forbidden=frozenset(range(70, 80)))
    lines = shell("fetch", "70-79").stderr.splitlines()
    assert all(re.match(r"cambfs: run 7\d: the API says 403", line) for line in lines[:-1])
    assert len(lines) == 6
    assert lines[-1] == "cambfs: 0 fetched, 10 failed; -v shows why"


def test_runs_come_from_a_file_and_from_standard_input(shell: Shell) -> None:
    (shell.directory / "runs.txt").write_text("1\n# more\n2-3  # the last\n")
    assert shell("fetch", "--runs-file", "runs.txt").stderr == "cambfs: 3 fetched\n"
    done = shell("fetch", "-", given="1, 2 # first\n\n3\n")
    assert (done.returncode, done.stderr) == (0, "cambfs: 0 fetched, 3 already there\n")
    assert "'x' is not a run id" in complaint(shell("fetch", "-", given="1\nx\n"), 2)
    assert "runs.txt:4: 'x'" in complaint(shell("fetch", "--runs-file", _with_line(shell, "x")), 2)


def test_no_runs_in_a_file_or_on_standard_input_is_one_line(shell: Shell) -> None:
    (shell.directory / "runs.txt").write_text("# none yet\n")
    advice = "it should have one run or range per line"
    assert complaint(shell("fetch", "-", given="\n"), 1).endswith(f"no runs in standard input; {advice}")
    said = complaint(shell("fetch", "--runs-file", "runs.txt"), 1)
    assert said.endswith(f"runs.txt; {advice}")


def _with_line(shell: Shell, line: str) -> str:
    with (shell.directory / "runs.txt").open("a") as file:
        file.write(f"{line}\n")
    return "runs.txt"


def test_a_copy_with_the_right_bytes_is_left_alone_and_no_other(shell: Shell, api: Server) -> None:
    out = shell.directory / "out"
    assert shell("fetch", "1-3", "-o", "out").returncode == 0
    right = (out / "1.flac").stat()
    content = (out / "2.flac").read_bytes()
    (out / "2.flac").write_bytes(content[:-1] + b"?")
    with (out / "3.flac").open("ab") as file:
        file.write(b"?")
    api.forget()
    done = shell("fetch", "1-3", "-o", "out")
    assert (done.returncode, done.stderr) == (0, "cambfs: 2 fetched, 1 already there\n")
    assert api.count("stream") == 0
    assert (out / "1.flac").stat().st_ino == right.st_ino
    for run_id in (1, 2, 3):
        assert (out / f"{run_id}.flac").read_bytes() == api.results[run_id].read_bytes()


def test_a_copy_that_is_a_link_or_a_pipe_is_replaced(shell: Shell, api: Server) -> None:
    out = shell.directory / "out"
    out.mkdir()
    (out / "1.flac").symlink_to(api.results[1])
    os.mkfifo(out / "2.flac")
    assert shell("fetch", "1-2", "-o", "out").returncode == 0
    for run_id in (1, 2):
        assert not (out / f"{run_id}.flac").is_symlink()
        assert (out / f"{run_id}.flac").read_bytes() == api.results[run_id].read_bytes()


def test_a_refused_key_is_one_line_however_many_runs(shell: Shell) -> None:
    assert "401" in complaint(shell("fetch", "1-300", CAMB_API_KEY="wrong"))


def test_what_did_not_stay_in_the_cache_is_said(shell: Shell) -> None:
    done = shell("fetch", "1-3", "--cache-size", "700kB")
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "cambfs: 3 fetched"
    assert second == "cambfs: 1 of 3 results did not fit into the cache of 683.6 KiB; raise --cache-size"


def test_fetching_to_nowhere_is_refused(shell: Shell) -> None:
    assert "name a directory with -o" in complaint(shell("fetch", "1", "--no-disk-cache"), 2)
    assert shell("fetch", "1", "--no-disk-cache", "-o", "out").returncode == 0
    (shell.directory / "file").touch()
    assert "name another directory" in complaint(shell("fetch", "1", "-o", "file"))


def test_ctrl_c_ends_a_fetch_which_then_goes_on_where_it_was(shell: Shell, api: Server) -> None:
    api.fail(Fault("stall", run_id=3, after_bytes=100_000, times=None))
    process = shell.start("fetch", "1-3", "-o", "out", awaiting="2.flac: 300004 bytes")
    until(lambda: api.count("stream") == 3)
    until(lambda: names(shell.directory / "out")[-2:] == ["1.flac", "2.flac"])
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert said.endswith("cambfs: interrupted; 2 fetched; the same command goes on from here\n")
    assert names(shell.directory / "out") == ["1.flac", "2.flac"]
    api.heal()
    api.forget()
    assert shell("fetch", "1-3", "-o", "out").stderr == "cambfs: 1 fetched, 2 already there\n"
    assert api.count("stream") == 1


def test_on_a_terminal_there_is_a_bar_of_runs_and_no_line_goes_through_it(shell: Shell, api: Server) -> None:
    """Of the runs one is unknown, one is known only at the second request, which is logged at the level of info."""
    api.fail(Fault("status", run_id=2, times=1))
    shown, status = on_terminal(shell, "fetch", "1-3,77,78")
    assert status == 1
    last = re.findall(r"(\d)/5 runs .*?([0-9.]+ KiB), [0-9.]+ .iB/s", shown)[-1]
    assert last == ("5", "878.9 KiB")
    assert "INFO" not in shown
    assert shown.count("cambfs: ") == 1
    assert shown.rstrip().endswith("cambfs: 3 fetched, 2 unknown; -v shows why")


def test_the_bar_moves_while_the_first_result_arrives(shell: Shell, api: Server) -> None:
    api.fail(Fault("stall", run_id=1, after_bytes=100_000, times=None))
    shown, status = on_terminal(shell, "fetch", "1", "--timeout", "2")
    assert status == 1
    assert "0/1 runs" in shown
    told = re.findall(r"([0-9.]+ (?:bytes|KiB))(?:,|\s)", shown)
    assert {"0 bytes", "64.0 KiB"} <= set(told), "of 300004 bytes 100000 arrived"


def test_on_a_terminal_lines_are_above_the_bar(shell: Shell, api: Server) -> None:
    api.fail(Fault("status", run_id=2, times=1))
    shown, _ = on_terminal(shell, "fetch", "1-3,77", "-v", "--log-level", "info")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", shown))
    assert any(line.startswith("cambfs: run 77: ") for line in lines)
    (logged,) = (line for line in lines if "INFO" in line)
    assert re.match(r"\d{4}-", logged)
    assert "runs" not in logged


def on_terminal(shell: Shell, *arguments: str) -> tuple[str, int]:
    """The output of a command on a terminal, as its standard error, and its exit code."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    command = [sys.executable, "-m", "cambfs", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=shell.environ)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # a terminal reports so that its writers are gone
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    return shown.decode(), process.wait(LIMIT_S)
