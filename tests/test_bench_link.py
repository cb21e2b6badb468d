"""The link of `scripts/bench --link`: that it does what it says, that it is refused in one line where it cannot be had,
and that nothing of it stays. Where there can be no namespaces, the refusal is what the same tests find.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from bench_lib.figures import CannotMeasure
from bench_lib.real_link import sandbox
from bench_lib.real_link.check import Found
from bench_lib.real_link.network import Terms

from tests.waiting import eventually

_SCRIPTS = Path(__file__).parents[1] / "scripts"
_COMMAND = [sys.executable, "-m", "bench_lib", "--link", "--check"]
_LIMIT_S = 100


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_SCRIPTS), **more}


def _can_have_a_link() -> bool:
    if os.geteuid() != 0 or not Path("/dev/net/tun").exists() or shutil.which("gcc") is None:
        return False
    return subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"]).returncode == 0


def _check(link: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_COMMAND, link], env=_environment(**more), capture_output=True, text=True, timeout=_LIMIT_S)


def _is_refused(done: subprocess.CompletedProcess[str]) -> bool:
    is_one_line = done.stderr.startswith("bench: ") and done.stderr.count("\n") == 1
    return (done.returncode, done.stdout) == (1, "") and is_one_line


def test_the_link_has_its_round_trip_its_rate_and_its_loss() -> None:
    done = _check("20,100")
    if not _can_have_a_link():
        assert _is_refused(done)
        return
    assert (done.returncode, done.stderr) == (0, "")
    found = re.fullmatch(
        r"20 ms, 100 Mbit/s: round trip 2\d\.\d ms, (9|10)\d\.\d Mbit/s, 0 of 20,000 packets lost\n", done.stdout
    )
    assert found, done.stdout


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        (Found(Terms(20, 100), 0.0205, 97, 0), []),
        (Found(Terms(20, 100), 0.019, 97, 0), ["round trip"]),
        (Found(Terms(20, 100), 0.030, 97, 0), ["round trip"]),
        (Found(Terms(20, 100), 0.0205, 94, 0), ["rate"]),
        (Found(Terms(20, 100), 0.0205, 106, 0), ["rate"]),
        (Found(Terms(20, 100), 0.0205, 97, 1), ["loss"]),
        (Found(Terms(20, 100, 0.1), 0.0205, 97, 25), []),
        (Found(Terms(20, 100, 0.1), 0.0205, 97, 0), ["loss"]),
        (Found(Terms(20, 100, 0.1), 0.0205, 97, 60), ["loss"]),
    ],
)
def test_a_link_that_does_not_do_what_it_says_is_found_out(found: Found, faults: list[str]) -> None:
    assert found.faults() == faults


def test_without_root_there_is_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotMeasure, match=r"needs root.*sudo"):
        sandbox.run_inside([])


def _commands(directory: Path, *names: str) -> str:
    for name in names:
        (directory / name).symlink_to(shutil.which(name) or name)
    return str(directory)


def test_a_machine_without_namespaces_is_told_in_one_line(tmp_path: Path) -> None:
    refuses = tmp_path / "setpriv"
    refuses.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refuses.chmod(0o755)
    assert _is_refused(_check("20,100", PATH=f"{tmp_path}:{os.environ['PATH']}"))


def test_a_machine_without_a_compiler_is_told_in_one_line(tmp_path: Path) -> None:
    done = _check("20,100", PATH=_commands(tmp_path, "setpriv", "unshare", "true", "ip", "mount"))
    assert _is_refused(done)
    assert not _can_have_a_link() or "apt install gcc" in done.stderr


def _processes_with(mark: str) -> list[str]:
    """The names of the running processes that have it in their environment."""
    names = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and mark.encode() in (process / "environ").read_bytes():
                names.append((process / "comm").read_text().strip())
        except OSError:  # ended meanwhile, or of another user
            continue
    return names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_bench_that_is_ended(number: signal.Signals) -> None:
    mark = str(uuid.uuid4())
    mounts = Path("/proc/self/mounts").read_text(errors="replace")
    # To check such a link takes longer than this test waits.
    with subprocess.Popen(
        [*_COMMAND, "4000,10"], env=_environment(BENCH_TEST=mark), stderr=subprocess.DEVNULL
    ) as bench:
        eventually(lambda: bench.poll() is not None or "link" in _processes_with(mark))
        bench.send_signal(number)
        bench.wait(_LIMIT_S)
        assert not _can_have_a_link() or bench.returncode in (128 + number, -number)
    eventually(lambda: not _processes_with(mark))
    assert "/media" not in Path("/proc/self/mounts").read_text(errors="replace").replace(mounts, "")
