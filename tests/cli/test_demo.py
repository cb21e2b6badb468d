"""`cambfs demo`, the embedded API and a mount of it."""

from __future__ import annotations

import signal

import pytest

from tests.cli.shell import LIMIT_S, Shell, names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_shows_results_and_leaves_nothing_behind(shell: Shell, number: signal.Signals) -> None:
    from cambfs.demo import samples

    process = shell.start("demo", awaiting="cleans up", CAMB_API_KEY="", CAMB_BASE_URL="")
    mounted = shell.directory / "camb"
    results = [f"{run_id}.{kind}" for run_id in samples() for kind in ("flac", "url")]
    assert names(mounted) == sorted([*results, "all.m3u8", "by-name"])
    links = [path.readlink().name for path in mounted.glob("by-name/*/*.flac")]
    assert sorted(links) == sorted(f"{run_id}.flac" for run_id in samples())  # a name for each
    for run_id, path in samples().items():
        assert (mounted / f"{run_id}.flac").read_bytes() == path.read_bytes()
    process.send_signal(number)
    assert process.wait(LIMIT_S) == (130 if number == signal.SIGINT else 0)
    assert not mounted.exists()
    assert list((shell.directory / "tmp").iterdir()) == []
    assert not (shell.directory / "home").exists()


def test_the_demo_has_a_task_that_takes_a_while(shell: Shell) -> None:
    from cambfs.demo import TASK_ID

    process = shell.start("demo", "--task-wait", "0.5", awaiting="cleans up", CAMB_API_KEY="")
    file = shell.directory / f"camb/tasks/{TASK_ID}.flac"
    with pytest.raises(TimeoutError):
        file.read_bytes()
    assert names(file.parent) == [f"{TASK_ID}.pending"]
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_S) == 130


def test_the_demo_at_a_directory_that_was_there_leaves_it(shell: Shell) -> None:
    process = shell.start("demo", "mnt", "--length", "close", awaiting="cleans up")
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_S) == 130
    assert shell.mountpoint.is_dir()
