"""`tasks/`: links to the runs of tasks, through a real mount."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cambfs.demo.store import Task
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import PYTHON, Mount, wait_until

TASK = "3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10"
OTHER = "3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a11"
_FOR_EVER_S = 1e9
_MANY = [f"3f2b8a52-1c7e-4b0d-9a6f-{number:012}" for number in range(300)]
_FOLLOW = f"""
import os, threading
threading.stack_size(1 << 18)
def follow(task):
    try:
        os.readlink("tasks/" + task + ".flac")
    except OSError:
        pass
threads = [threading.Thread(target=follow, args=[task]) for task in 5 * {_MANY}]
for thread in threads:
    thread.start()
print("all", flush=True)
for thread in threads:
    thread.join()
"""


def add(server: Server, audio: Audio, task_id: str, takes_s: float = 0.0, outcome: str = "SUCCESS") -> None:
    """A task that makes run 106 or 107, with a sentence as its audio."""
    run_id = 106 if task_id == TASK else 107
    server.tasks[task_id] = Task("tts", run_id, audio.sentence, takes_s, outcome)


def listed(mount: Mount) -> list[str]:
    return sorted(os.listdir(mount.path / "tasks"))  # noqa: PTH208


def errors(mount: Mount) -> str:
    return (mount.path / ".cambfs/errors").read_text()


def test_a_task_that_is_over_is_a_link_to_its_run(server: Server, mounted: Mounted, audio: Audio) -> None:
    add(server, audio, TASK)
    server.tasks[OTHER] = Task("translated-tts", 107, audio.sentence, 0.0)
    with mounted() as mount:
        assert os.listdir(mount.path) == []  # noqa: PTH208
        for task_id, run_id in ((TASK, 106), (OTHER, 107)):
            done = mount.run(f"cat tasks/{task_id}.flac; readlink tasks/{task_id}.flac tasks/{task_id}.url")
            assert done.out == audio.sentence.read_bytes() + f"../{run_id}.flac\n../{run_id}.url\n".encode()
        assert mount.run(f"cmp tasks/{TASK}.url 106.url && cmp tasks/{TASK}.flac 106.flac").status == 0
        assert server.count("task") == 3  # the second task is asked for as speech first
        assert {"tasks", "106.flac"} <= {*os.listdir(mount.path)}  # noqa: PTH208
        assert listed(mount) == sorted(f"{task}.{kind}" for task in (TASK, OTHER) for kind in ("flac", "url"))
        long = mount.run("ls -l --color=always tasks")
        assert (long.status, long.err) == (0, "")
        assert f"{TASK}.flac" in long.out.decode()
        for command in (f"rm tasks/{TASK}.flac", "touch tasks/x", "ln -s x tasks/x", "rmdir tasks"):
            done = mount.run(command)
            assert (done.status, "Read-only file system" in done.err) == (1, True), done
        size = len("../106.flac")
        assert mount.run(f"stat -c '%F %s' tasks/{TASK}.flac").out == f"symbolic link {size}\n".encode()


@pytest.mark.parametrize("options", [[], ["--wav", "--no-url-files"]], ids=["not listed", "listed"])
def test_a_task_has_a_wav_under_its_id_and_under_its_name(
    server: Server, mounted: Mounted, audio: Audio, tmp_path: Path, options: list[str]
) -> None:
    add(server, audio, TASK)
    (tmp_path / "names.txt").write_text(f"{TASK} Book/Soon\n")
    with mounted("--runs-file", str(tmp_path / "names.txt"), *options) as mount:
        assert mount.run("head -c 4 by-name/Book/Soon.wav").out == b"RIFF"
        assert mount.run(f"cmp by-name/Book/Soon.wav tasks/{TASK}.wav && cmp tasks/{TASK}.wav 106.wav").status == 0
        assert ("106.wav" in os.listdir(mount.path)) == bool(options)  # noqa: PTH208
        assert (f"{TASK}.wav" in listed(mount)) == bool(options)


def test_programs_follow_the_link(server: Server, mounted: Mounted, audio: Audio, tmp_path: Path) -> None:
    add(server, audio, TASK)
    with mounted() as mount:
        done = mount.run(
            f"cp tasks/{TASK}.flac {tmp_path}/one && cp -rL tasks {tmp_path}/all && rsync -rL tasks/ {tmp_path}/r"
        )
        assert (done.status, done.err) == (0, "")
    for name in ("one", f"all/{TASK}.flac", f"r/{TASK}.flac"):
        assert (tmp_path / name).read_bytes() == audio.sentence.read_bytes()


def test_following_waits_while_the_task_is_pending_and_nothing_else_does(
    server: Server, mounted: Mounted, audio: Audio
) -> None:
    add(server, audio, TASK, _FOR_EVER_S)
    add(server, audio, OTHER)
    with mounted() as mount, mount.start(f"cat tasks/{TASK}.flac") as one, mount.start(f"cat tasks/{TASK}.flac") as two:
        wait_until(lambda: server.count("task"), "the task is asked for")
        assert mount.run(f"cmp tasks/{OTHER}.flac 107.flac").status == 0
        done = mount.run("ls -lR --color=always . && find . && cat tasks/*.pending")
        assert (done.status, done.err) == (0, "")
        assert done.out.endswith(b"PENDING\n")
        assert listed(mount) == [f"{TASK}.pending", f"{OTHER}.flac", f"{OTHER}.url"]
        assert one.poll() is two.poll() is None
        assert '"tasks_awaited": 1' in (mount.path / ".cambfs/status.json").read_text()
        server.tasks[TASK].takes_s = 0
        for waiting in (one, two):
            out, err = waiting.communicate(timeout=60)
            assert (out, err) == (audio.sentence.read_bytes(), b"")
        wait_until(lambda: f"{TASK}.flac" in listed(mount), "the link is listed")
        assert not (mount.path / f"tasks/{TASK}.pending").exists()


def test_one_who_waits_can_be_killed(server: Server, mounted: Mounted, audio: Audio) -> None:
    add(server, audio, TASK, _FOR_EVER_S)
    with mounted() as mount:
        for number in (signal.SIGINT, signal.SIGKILL):
            server.forget()
            with mount.start(["cat", f"tasks/{TASK}.flac"]) as waiting:
                wait_until(lambda: server.count("task"), "the task is asked for")
                waiting.send_signal(number)
                assert waiting.wait(20) == -number


def test_a_task_that_stays_pending_is_given_up(server: Server, mounted: Mounted, audio: Audio) -> None:
    add(server, audio, TASK, _FOR_EVER_S)
    with mounted("--task-wait", "0.5", expected=["still pending after 0.5 s"]) as mount:
        done = mount.run(f"cat tasks/{TASK}.flac")
        assert (done.status, "Connection timed out" in done.err) == (1, True)
        assert f"tasks/{TASK}.flac\treadlink\tETIMEDOUT\t-\ttask {TASK}: still pending after 0.5 s" in errors(mount)
        server.tasks[TASK].takes_s = 0
        assert mount.run(f"cmp tasks/{TASK}.flac {audio.sentence}").status == 0


def test_a_task_that_failed_gives_its_reason(server: Server, mounted: Mounted, audio: Audio) -> None:
    outcomes = {f"{TASK[:-1]}{n}": outcome for n, outcome in enumerate(("ERROR", "TIMEOUT", "PAYMENT_REQUIRED"))}
    with mounted(expected=[f"{outcome}: The" for outcome in outcomes.values()]) as mount:
        for task_id, outcome in outcomes.items():
            add(server, audio, task_id, outcome=outcome)
            done = mount.run(f"cat tasks/{task_id}.flac")
            assert (done.status, "Input/output error" in done.err) == (1, True)
            assert f"EIO\t-\ttask {task_id}: {outcome}: The " in errors(mount)
            assert mount.run(f"cat tasks/{task_id}.failed").out.startswith(f"{outcome}: The ".encode())
        assert listed(mount) == [f"{task_id}.failed" for task_id in outcomes]
        assert mount.run("ls -l --color=always tasks").status == 0


def test_a_success_without_a_run_is_an_error(server: Server, mounted: Mounted, audio: Audio) -> None:
    add(server, audio, TASK)
    for run_id in ("null", "0", '"106"'):
        content = f'{{"status": "SUCCESS", "run_id": {run_id}}}'.encode()
        server.fail(Fault("content", "task", body=content, content_type="application/json"))
    with mounted(expected=["gave no usable run_id"]) as mount:
        for _ in range(3):
            done = mount.run(f"cat tasks/{TASK}.flac")
            assert (done.status, "Input/output error" in done.err) == (1, True), done
        assert errors(mount).count("says SUCCESS, but gave no usable run_id") == 3
    assert server.count("stream", 106) == server.count("sign", 106) == 0


def test_unknown_tasks_and_misplaced_ones_do_not_exist(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run(f"cat {TASK}.flac {TASK} {TASK.upper()}.url").status == 1
        assert errors(mount).count("is a task's id") == 3
        assert "for example tasks/TASK.flac" in errors(mount)
        assert mount.run(f"cat tasks/{TASK.upper()}.flac tasks/{TASK}.txt tasks/x.flac tasks/1.flac").status == 1
        assert server.count("task") == 0
        for _ in range(2):
            done = mount.run(f"cat tasks/{TASK}.flac")
            assert (done.status, "No such file or directory" in done.err) == (1, True)
            assert mount.run(f"test -e tasks/{TASK}.flac").status == 1
        assert server.count("task") == 2
        assert f"task {TASK}: the API says 400" in errors(mount)
        assert listed(mount) == []


def test_a_crowd_that_waits_holds_nothing_up(server: Server, mounted: Mounted, audio: Audio) -> None:
    for task_id in _MANY:
        add(server, audio, task_id, _FOR_EVER_S)
    add(server, audio, TASK)
    with mounted() as mount, mount.start([*PYTHON, "-c", _FOLLOW]) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == b"all\n"
        wait_until(lambda: server.count("task") >= len(_MANY), "all tasks are asked for")
        for _ in range(3):
            assert mount.run(f"ls && cmp tasks/{TASK}.flac 106.flac", limit_s=20).status == 0
        crowd.kill()


def test_a_mount_ends_while_somebody_waits(server: Server, mounted: Mounted, audio: Audio) -> None:
    add(server, audio, TASK, _FOR_EVER_S)
    with mounted() as mount, mount.start(f"cat tasks/{TASK}.flac") as waiting:
        wait_until(lambda: server.count("task"), "the task is asked for")
        mount.process.send_signal(signal.SIGTERM)
        assert waiting.wait(20) == 1
        mount.process.wait(20)


def test_an_api_that_is_down_is_no_reason_to_wait(server: Server, mounted: Mounted, audio: Audio) -> None:
    add(server, audio, TASK)
    with mounted("--timeout", "5", expected=["refuses the connection"]) as mount:
        server.stop()
        for _ in range(2):
            done = mount.run(f"cat tasks/{TASK}.flac")
            assert (done.status, "Connection refused" in done.err) == (1, True)
