"""A process that is stuck in a mount can be ended, and so can the mount; and only by signals that end something."""

from __future__ import annotations

import errno
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import fixed_server, make_results, read, seen
from tests.kernel.harness import CAMBFS, PYTHON, Mount, environment, is_mounted, run, wait_until

SECTION = "Signals, unmounting, crashes"
LIMIT_S = 15.0
END_S = 15.0
STAT, OPEN, READ = 1, 2, 3
# Signal handlers of Python run when the call returns, so only one that never returns takes the time of the test.
_STUCK = {
    STAT: "import os; os.stat('1.flac')",
    OPEN: "import os; os.open('2.flac', os.O_RDONLY)",
    READ: "import os; fd = os.open('3.flac', os.O_RDONLY); os.pread(fd, 100, 200_000)",
}
_NAMES = {STAT: "stat", OPEN: "open", READ: "read"}
# Python's handling of INT is not the signal's default action; most tools have that.
_DEFAULT = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
_HARMLESS = (signal.SIGALRM, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH)
_HANDLERS = """
import hashlib, os, signal
caught = []
for number in (signal.SIGALRM, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH):
    signal.signal(number, lambda number, frame: caught.append(number))
"""
_STAT_ALL = """
print("begin", flush=True)
print(os.stat("1.flac").st_size, len(set(caught)))
"""
_READ_ALL = """
fd = os.open("3.flac", os.O_RDONLY)
print("begin", flush=True)
data = b""
while piece := os.read(fd, 1 << 17):
    data += piece
print(len(data), hashlib.sha256(data).hexdigest(), len(set(caught)))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
    return make_results(tmp_path_factory.mktemp("results"), 5)


@pytest.fixture
def server(results: Mapping[int, Path]) -> Iterator[Server]:
    with fixed_server(results) as server:
        yield server


def stall(server: Server) -> None:
    """1 in what is asked for the size, 2 before the headers, 3 in the body."""
    for run_id, after in ((STAT, BEFORE_HEADERS), (OPEN, BEFORE_HEADERS), (READ, 100_000)):
        server.fail(Fault("stall", run_id=run_id, after_bytes=after, times=None))
        server.fail(Fault("stall", target="sign", run_id=run_id, after_bytes=BEFORE_HEADERS, times=None))


def is_waiting(process: subprocess.Popen[bytes]) -> bool:
    """In a request to the file system."""
    place = Path(f"/proc/{process.pid}/wchan").read_text()
    return any(word in place for word in ("fuse", "folio", "request_wait"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_is_stuck_ends_at_once(number: signal.Signals, server: Server, mounted: Mounted) -> None:
    stall(server)
    with mounted("--timeout", "60s") as mount, ExitStack() as stack:
        assert read(mount, 5).is_all_of(server.results[5])
        stuck = {
            where: stack.enter_context(mount.start([*PYTHON, "-c", _DEFAULT + code])) for where, code in _STUCK.items()
        }
        wait_until(lambda: server.stalled >= 3, "all have stalled")
        wait_until(lambda: all(map(is_waiting, stuck.values())), "all wait in the kernel")
        for where, process in stuck.items():
            assert process.poll() is None, _NAMES[where]
            begin = time.monotonic()
            process.send_signal(number)
            assert process.wait(LIMIT_S) == -number, _NAMES[where]
            took_s = time.monotonic() - begin
            assert took_s < LIMIT_S
            seen(
                SECTION,
                f"{number.name.removeprefix('SIG')} to a reader that is stuck in {_NAMES[where]}",
                "it ends",
                took_s,
                "unchanged",
            )
        server.heal()


@pytest.mark.parametrize("where", [STAT, READ])
def test_a_harmless_signal_ends_nothing(where: int, server: Server, mounted: Mounted) -> None:
    """A read waits for pages and hears of no signal; a stat does, and Python does not repeat it."""
    stall(server)
    program = _HANDLERS + (_STAT_ALL if where == STAT else _READ_ALL)
    with mounted("--timeout", "60s") as mount, mount.start([*PYTHON, "-c", program]) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"begin\n"
        wait_until(lambda: is_waiting(reader), "it waits in the kernel")
        for number in _HARMLESS * 5:
            reader.send_signal(number)
            time.sleep(0.02)  # each is to arrive while it waits
        assert reader.poll() is None
        server.heal()
        said = reader.stdout.read().decode().split()
        assert reader.wait(10) == 0
        found = read(mount, where)
        assert found.is_all_of(server.results[where])
        wanted = [str(found.count)] if where == STAT else [str(found.count), found.digest]
        assert said == [*wanted, str(len(_HARMLESS))]
    what = f"ALRM, CHLD, URG and WINCH to a reader that waits in {_NAMES[where]}"
    seen(SECTION, what, "what it asked for", None, "unchanged" if where == STAT else "the whole result")


@pytest.mark.parametrize("way", ["TERM", "INT", "cambfs unmount"])
def test_the_mount_ends_while_readers_are_stuck(way: str, server: Server, mounted: Mounted) -> None:
    stall(server)
    with mounted("--timeout", "60s", expected=["?"]) as mount, ExitStack() as stack:
        stuck = [stack.enter_context(mount.start(["cat", f"{run_id}.flac"])) for run_id in (2, 3, 3)]
        stuck.append(stack.enter_context(mount.start(["stat", "1.flac"])))
        wait_until(lambda: server.stalled >= 3, "all have stalled")
        begin = time.monotonic()
        if way == "cambfs unmount":
            done = run([CAMBFS, "unmount", str(mount.path)], env=environment(server, mount.home), limit_s=20)
            assert (done.status, done.err) == (0, "")
        else:
            mount.process.send_signal(getattr(signal, f"SIG{way}"))
        mount.status = 130 if way == "INT" else 0
        assert mount.process.wait(20) == mount.status
        took_s = time.monotonic() - begin
        assert took_s < END_S
        assert not is_mounted(mount.path)
        for process in stuck:
            words = process.communicate(timeout=10)[1].decode()
            assert process.returncode == 1, "its read ended without an error"
            assert any(name in words for name in ("No such device", "Transport endpoint", "Software caused")), words
        assert mount.parts() == []
        assert mount.cached_runs() == set()
    seen(
        SECTION, f"{way} while four readers are stuck in the mount", errno.errorcode[errno.ENODEV], took_s, "unchanged"
    )


def test_a_crash_is_mended(server: Server, mounted: Mounted) -> None:
    stall(server)
    with mounted("--timeout", "60s") as mount, ExitStack() as stack:
        assert read(mount, 4).is_all_of(server.results[4])
        wait_until(lambda: mount.cached_runs() == {4}, "it is in the cache")
        stuck = [stack.enter_context(mount.start(["cat", f"{run_id}.flac"])) for run_id in (2, 3)]
        wait_until(lambda: server.stalled >= 2, "both have stalled")
        begin = time.monotonic()
        mount.crash()
        for process in stuck:
            assert process.wait(10) == 1, "its read ended without an error"
        took_s = time.monotonic() - begin
        assert took_s < LIMIT_S
        env = environment(server, mount.home)
        arguments = ["--cache-dir", str(mount.cache_dir), str(mount.path)]
        check_mend(mount, server, [CAMBFS, "unmount", str(mount.path)], env)
        server.heal()
        again = run([CAMBFS, "mount", *arguments], env=env, limit_s=30)
        assert again.status == 0, again
        assert read(mount, 4).is_all_of(server.results[4])
        assert mount.parts() == []
        pid = int((mount.path / ".cambfs" / "pid").read_text())
        stat = run(["kill", "-9", str(pid)])
        assert stat.status == 0
        wait_until(lambda: run(["ls", str(mount.path)]).status != 0, "the mount is dead")
        mended = run([CAMBFS, "mount", *arguments], env=env, limit_s=30)
        assert mended.status == 0, mended
        assert "crash" in mended.err + mended.out.decode() or "dead" in mended.err + mended.out.decode(), mended
        assert read(mount, 4).is_all_of(server.results[4])
        assert run([CAMBFS, "unmount", str(mount.path)], env=env).status == 0
        assert not is_mounted(mount.path)
    seen(
        SECTION,
        "kill -9 of the mount; then cambfs unmount, or cambfs mount at the same place",
        "ENOTCONN or ECONNABORTED at once; mended by either, the latter says so",
        took_s,
        "the whole results that it had",
    )


def check_mend(mount: Mount, server: Server, command: list[str], env: dict[str, str]) -> None:
    assert is_mounted(mount.path)
    done = run(command, env=env, limit_s=20)
    assert done.status == 0, done
    assert not is_mounted(mount.path)
    assert server.base_url
