"""`scripts/setup`, which `scripts/run` and `scripts/test` begin with, on machines that lack this or that.

Each machine is a directory of commands; those that install, ask for a password or know the user are made up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_SETUP = Path(__file__).parents[1] / "scripts/setup"
_SYSTEM = ("sh", "dirname", "cat", "cksum", "grep", "mktemp", "rm", "tail", "tr", "env")
_TOOLS = (
    "getfattr",
    "curl",
    "espeak-ng",
    "ffmpeg",
    "file",
    "flac",
    "man",
    "mpv",
    "ps",
    "redis-check-rdb",
    "rsync",
    "sox",
)
_WORKS = "exit 0"
_APT = 'echo "apt-get $*" >>"$LOG"'
_LIBFUSE2 = "	libfuse.so.2 (libc6,x86-64) => /lib/libfuse.so.2"
_LIBFUSE3 = "	libfuse3.so.4 (libc6,x86-64) => /lib/libfuse3.so.4"
_SUDO = '[ "$1" = -n ] && shift; "$@"'
_ASKS = "echo 'sudo: a terminal is required to read the password' >&2; exit 1"


class Machine:
    """A checkout whose virtual environment is there, and commands; `uid` is who calls."""

    def __init__(self, directory: Path, uid: int) -> None:
        self.checkout = directory / "checkout"
        self.bin = directory / "bin"
        self.log = directory / "log"
        self.bin.mkdir()
        (self.checkout / "scripts").mkdir(parents=True)
        shutil.copy(_SETUP, self.checkout / "scripts/setup")
        (self.checkout / "pyproject.toml").write_text("[project]\n")
        for name in _SYSTEM:
            (self.bin / name).symlink_to(shutil.which(name) or name)
        for name in (*_TOOLS, "dpkg-deb", "fusermount", "systemd-analyze"):
            self.has(name, _WORKS)
        self.has("id", f"echo {uid}")
        self.has("ldconfig", f"echo '{_LIBFUSE2}'; echo '{_LIBFUSE3}'")
        self.has("python3", _WORKS)
        self.installed("dev")

    def has(self, name: str, script: str) -> None:
        self._write(self.bin / name, script)

    def lacks(self, *names: str) -> None:
        for name in names:
            (self.bin / name).unlink()

    def installed(self, extras: str) -> None:
        done = subprocess.run(["cksum"], input=b"[project]\n", capture_output=True, check=True)
        self._write(self.checkout / ".venv/bin/python", _WORKS)
        (self.checkout / ".venv/.installed").write_text(f"{extras} {done.stdout.decode().strip()} {self.checkout}\n")

    def _write(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        path.chmod(0o755)

    def setup(self, purpose: str, *, as_nobody: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / "scripts/setup", purpose],
            env={"PATH": str(self.bin), "LOG": str(self.log)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            start_new_session=True,  # without a terminal
            user=65534 if as_nobody and os.geteuid() == 0 else None,
        )

    def installs(self) -> list[str]:
        """The installed packages, by name."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [name for line in lines if " install " in line for name in line.split() if not name.startswith("-")][2:]


@pytest.fixture(params=[0, 1000], ids=["root", "user"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine(tmp_path, request.param)


@pytest.fixture
def user(tmp_path: Path) -> Machine:
    return Machine(tmp_path, 1000)


def _refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("purpose", ["run", "test"])
def test_where_everything_is_there_nothing_is_needed(machine: Machine, purpose: str) -> None:
    """Neither sudo nor apt nor dpkg."""
    done = machine.setup(purpose)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("purpose", ["run", "test"])
def test_where_nothing_can_be_installed_one_line_names_all_that_is_missing(machine: Machine, purpose: str) -> None:
    machine.lacks("flac", "getfattr", "fusermount", "python3")
    machine.has("ldconfig", _WORKS)
    shutil.rmtree(machine.checkout / ".venv")
    more = ["libfuse2", "libfuse3-3", "attr", "flac"] if purpose == "test" else []
    wanted = ["fuse3", "python3-venv", *more]

    assert _refusal(machine.setup(purpose)).endswith(f"apt install {' '.join(wanted)}\n")


@pytest.fixture
def borrowed() -> Iterator[Machine]:
    """A machine whose checkout the user can read and not write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        machine = Machine(Path(name), 1000)
        machine.checkout.chmod(0o555)
        yield machine


def test_a_checkout_that_cannot_be_written_is_one_line(borrowed: Machine) -> None:
    (borrowed.checkout / ".venv/.installed").write_text("of an older version\n")
    words = f"cannot write in {borrowed.checkout}; use a copy that belongs to you: cp -r '{borrowed.checkout}' ~/cambfs"
    assert _refusal(borrowed.setup("run", as_nobody=True)) == f"scripts/setup: {words}\n"


def test_a_checkout_that_is_set_up_needs_no_writing(borrowed: Machine) -> None:
    done = borrowed.setup("run", as_nobody=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_environment_that_was_copied_is_made_anew(machine: Machine) -> None:
    """Its commands would still start those in the old place."""
    machine.has("python3", '[ "$1" = -m ] && echo "$*" >>"$LOG"; exit 0')
    stamp = machine.checkout / ".venv/.installed"
    right = stamp.read_text()
    stamp.write_text(right.replace(str(machine.checkout), "/elsewhere"))
    assert machine.setup("test").returncode == 0
    assert machine.log.read_text() == "-m venv --clear .venv\n"
    assert stamp.read_text() == right


@pytest.mark.parametrize("library", [_LIBFUSE2, _LIBFUSE3])
def test_either_libfuse_is_enough_to_run(user: Machine, library: str) -> None:
    user.lacks("fusermount")
    user.has("fusermount3", _WORKS)
    user.has("ldconfig", f"echo '{library}'")
    done = user.setup("run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_root_needs_no_fusermount(machine: Machine) -> None:
    machine.lacks("fusermount")
    done = machine.setup("run")
    is_root = machine.bin.joinpath("id").read_text().endswith("echo 0\n")
    assert done.stderr == "" if is_root else "apt install fuse3\n" in done.stderr


def test_sudo_without_apt_installs_nothing(user: Machine) -> None:
    user.has("sudo", _SUDO)
    user.lacks("sox")
    assert _refusal(user.setup("test")).endswith("apt install sox\n")


def test_apt_without_sudo_installs_nothing(user: Machine) -> None:
    user.has("apt-get", _APT)
    user.lacks("sox")
    assert _refusal(user.setup("test")).endswith("apt install sox\n")
    assert user.installs() == []


def test_a_password_that_nobody_can_be_asked_for_is_one_line(user: Machine) -> None:
    user.has("apt-get", _APT)
    user.has("sudo", _ASKS)
    user.lacks("sox")
    assert _refusal(user.setup("test")).endswith("apt install sox\n")


@pytest.mark.parametrize(
    ("has", "installed"),
    [
        (["libfuse2"], "fuse3 libfuse2"),
        (["libfuse2t64", "libfuse2"], "fuse3 libfuse2t64"),
        ([], "fuse3"),
    ],
)
def test_libfuse_2_is_installed_where_the_distribution_has_it(machine: Machine, has: list[str], installed: str) -> None:
    """Older releases, newer ones, and those to come. Root, or a user whom sudo accepts, installs."""
    machine.has("sudo", _SUDO)
    machine.has("apt-get", _APT)
    machine.has("apt-cache", "".join(f'[ "$2" = {name} ] && echo "  Candidate: 2.9"; ' for name in has) + "exit 0")
    machine.has("ldconfig", _WORKS)
    done = machine.setup("run")

    assert (done.returncode, done.stderr) == (0, "")
    assert machine.installs() == installed.split()


def test_the_tests_need_both_libraries(machine: Machine) -> None:
    machine.has("sudo", _SUDO)
    machine.has("apt-get", _APT)
    machine.has("apt-cache", '[ "$2" = libfuse3-3 ] && echo "  Candidate: (none)" || echo "  Candidate: 1"')
    machine.lacks("sox")
    machine.has("ldconfig", _WORKS)
    assert machine.setup("test").returncode == 0
    assert machine.installs() == ["fuse3", "libfuse2t64", "libfuse3-4", "sox"]


def test_what_fails_is_said_with_its_last_words(machine: Machine) -> None:
    machine.has("sudo", _SUDO)
    machine.has("apt-get", "echo E: no network >&2; exit 100")
    machine.lacks("sox")
    done = machine.setup("test")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["E: no network", "scripts/setup: this failed: as_root apt-get update -qq"]


def test_the_scripts_can_be_run() -> None:
    for name in ("setup", "run", "test"):
        assert os.access(_SETUP.with_name(name), os.X_OK)


@pytest.mark.parametrize(
    ("given", "key", "started"),
    [
        ([], "", "demo camb"),
        (["music", "--rate", "1M"], "", "demo music --rate 1M"),
        ([], "a-key", "mount --foreground --mkdir camb"),
        (["--runs", "1-3"], "a-key", "mount --foreground --mkdir camb --runs 1-3"),
        (["music", "--runs", "1-3"], "a-key", "mount --foreground --mkdir music --runs 1-3"),
    ],
)
def test_run_takes_the_options_of_the_command_that_it_starts(
    machine: Machine, given: list[str], key: str, started: str
) -> None:
    """The hint of a mount that lists nothing is to use --runs."""
    run = machine.checkout / "scripts/run"
    shutil.copy(_SETUP.with_name("run"), run)
    machine.has("../checkout/.venv/bin/cambfs", 'echo "$@"')
    environ = {"PATH": str(machine.bin), "CAMB_API_KEY": key}
    done = subprocess.run([run, *given], env=environ, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == (f"{started}\n", "")


@pytest.mark.parametrize("script", ["update-help", "man", "picture"])
def test_a_script_in_python_uses_the_libraries_of_the_checkout(tmp_path: Path, script: str) -> None:
    """Whatever `python3` is: it need not know cambfs."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(_SETUP.with_name(script), tmp_path / "scripts")
    program = tmp_path / ".venv/bin/python"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    done = subprocess.run([f"scripts/{script}", "--check"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == (f"scripts/{script} --check\n", "")
