"""The commands, as a user types them: each in a process of its own, against the embedded API, mounts being real."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import pytest

from cambfs.cli import app, run
from cambfs.cli.mount import settle_options
from cambfs.config import Settings
from cambfs.demo.profile import Profile
from cambfs.demo.server import Server
from cambfs.errors import ConfigError
from cambfs.system import mountpoint, unmount
from cambfs.system.mountpoint import Mounted

LIMIT_S = 30
KEY = "demo-key"


def until(condition: Callable[[], bool], what: str = "") -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Shell:
    """Runs cambfs in a directory and a home of its own."""

    def __init__(self, directory: Path, api: Server) -> None:
        self.directory = directory
        self.mountpoint = directory / "mnt"
        self.mountpoint.mkdir()
        (directory / "tmp").mkdir()
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "tmp"),
            "CAMB_BASE_URL": api.base_url,
            "CAMB_API_KEY": api.key,
        }
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cambfs", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            cwd=self.directory,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
        )

    def start(self, *arguments: object, awaiting: str, **environ: str) -> subprocess.Popen[str]:
        """Starts a command that stays, and waits until it has said `awaiting`."""
        process = subprocess.Popen(
            [sys.executable, "-m", "cambfs", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
        )
        self.processes.append(process)
        assert process.stdout is not None
        said = ""
        while awaiting not in said:
            line = process.stdout.readline()
            assert line, f"ended, having said: {said}"
            said += line
        return process

    @property
    def log(self) -> Path:
        (found,) = (self.directory / "home/.local/state/cambfs").glob("*.log")
        return found

    def daemon(self) -> int:
        """The process of the last mount in the background."""
        return int(re.findall(r"by process (\d+)", self.log.read_text())[-1])

    def clean(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=LIMIT_S)
        while mountpoint.mounted_at(self.mountpoint) is not None:
            unmount.unmount(self.mountpoint, lazy=True)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("results")
    results = {}
    for run_id in (1, 2, 3):
        results[run_id] = directory / f"{run_id}"
        results[run_id].write_bytes(b"fLaC" + bytes([run_id]) * 300_000)
    with Server(results) as server:
        yield server


@pytest.fixture(autouse=True)
def _unchanged_api(api: Server) -> Iterator[None]:
    yield
    api.profile = Profile()
    api.heal()
    api.forget()


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def shell(tmp_path: Path, api: Server) -> Iterator[Shell]:
    made = Shell(tmp_path, api)
    yield made
    made.clean()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def complaint(done: subprocess.CompletedProcess[str], code: int = 1) -> str:
    """The one plain line with which a command failed."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("cambfs: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("cambfs: ").strip()


# Help.


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(*found, id=" ".join(found[0])) for found in commands(app.cambfs)]
)
def test_every_command_and_every_option_is_explained(
    path: tuple[str, ...], command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help
            assert option.opts[0] in shown


def test_help_imports_nothing_that_takes_long() -> None:
    program = (
        "import sys; from cambfs.cli import run; run(['mount', '--help'])\n"
        "print({'requests', 'urllib3', 'fuse', 'tqdm', 'asyncio', 'uvicorn', 'cachetools'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.endswith("\nset()\n")


def test_the_version_is_told(shell: Shell) -> None:
    assert re.fullmatch(r"cambfs \d+\.\d+\.\d+\n", shell("--version").stdout)


def test_an_unexpected_exception_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom\nbang")

    monkeypatch.setattr(app.cambfs, "main", fail)
    assert run([]) == 1
    assert capsys.readouterr().err == "cambfs: unexpected RuntimeError: boom bang; --log-level debug shows where\n"


# What is wrong before anything is mounted.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mount"], "Missing argument 'DIR'; see: cambfs mount --help"),
        (["mount", "mnt", "--cache-size", "5GB?"], "'5GB?' is not a size"),
        (["mount", "mnt", "--timeout", "soon"], "'soon' is not a time"),
        (["mount", "mnt", "--max-transfers", "0"], "0 is not in the range 1<=x<=1024"),
        (["mount", "mnt", "--url-style", "xml"], "'xml' is not one of 'json', 'plain', 'shortcut'"),
        (["mount", "mnt", "--api-key", "k"], "No such option"),
        (["mount", ""], "'' is not a path"),
        (["fly"], "No such command 'fly'; see: cambfs --help"),
        (["fetch"], "Missing argument 'RUN...'"),
        (["fetch", "abc"], "'abc' is not a run id or a range like 1-100; see: cambfs fetch --help"),
        (["fetch", "9-3"], "write 3-9"),
        (["demo", "--rate", "0"], "0 is too little"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(shell: Shell, arguments: list[str], words: str) -> None:
    assert words in complaint(shell(*arguments), 2)


@pytest.mark.parametrize(
    ("code", "arguments", "environ", "words"),
    [
        (1, [], {"CAMB_API_KEY": ""}, "no API key; set CAMB_API_KEY, or name a file"),
        (2, [], {"CAMB_API_KEY": "a b"}, "CAMB_API_KEY: the key has spaces"),
        (1, [], {"CAMB_API_KEY": "wrong"}, "401"),
        (2, [], {"CAMB_BASE_URL": "ftp://x"}, "base URL"),
        (2, [], {"CAMBFS_RUNS": "5-1"}, "CAMBFS_RUNS: '5-1' is a range that descends; write 1-5"),
        (2, ["--base-url", "foo"], {}, "Invalid value for '--base-url': the base URL is not a plain http"),
        (2, ["--profile", "work"], {}, "there is no table [profile.work]"),
        (2, ["--base-url", "http://example.com/apis"], {}, "base URL"),
        (2, [], {"CAMBFS_CACHE_SIZE": "5GB?"}, "CAMBFS_CACHE_SIZE: '5GB?' is not a size"),
        (2, ["--api-key-file", "open-key"], {}, "chmod 600"),
        (1, ["--cache-dir", "open-key"], {}, "cannot use the cache directory"),
        (1, ["--cache-dir", "/proc/nowhere"], {}, "cannot use the cache directory"),
        (2, ["--runs", "1-x"], {}, "Invalid value for '--runs': '1-x' is not a run id or a range"),
        (2, ["--runs-file", "runs.txt"], {}, "runs.txt:2: 'abc' is not a run id"),
        (2, ["--runs-file", "none.txt"], {}, "none.txt: No such file or directory"),
        (2, ["-o", "rw"], {}, "-o rw: not possible"),
        (2, ["-o", "noatime,exec"], {}, "-o exec: not possible"),
        (2, ["-o", "nonsense"], {}, "-o nonsense: unknown option; known are allow_other, allow_root, auto_"),
        (2, ["-o", "ro,attr_timeout=60"], {}, "-o attr_timeout=60: unknown option"),
        (2, ["-o", "allow_root,allow_other"], {}, "use one of the two"),
        (2, [], {"CAMBFS_OPTIONS": "raw_fi"}, "-o raw_fi: unknown option"),
        (1, ["--log-file", "/proc/nowhere/log"], {}, "name another log with --log-file"),
        (1, ["--log-file", "mnt/log"], {}, "which the mount covers; name another place with --log-file"),
        (1, ["--cache-dir", "mnt/new/cache"], {}, "which the mount covers; name another place with --cache-dir"),
        (1, ["--cache-dir", "link/cache"], {}, "which the mount covers; name another place with --cache-dir"),
        (1, [], {"CAMBFS_CACHE_DIR": "mnt"}, "which the mount covers; name another place with --cache-dir"),
        (1, [], {"XDG_CACHE_HOME": "$/mnt"}, "which the mount covers; name another place with --cache-dir"),
    ],
)
@pytest.mark.parametrize("foreground", [[], ["-f"]], ids=["background", "foreground"])
def test_what_is_wrong_is_one_line_and_nothing_is_mounted(
    shell: Shell, code: int, arguments: list[str], environ: dict[str, str], words: str, foreground: list[str]
) -> None:
    (shell.directory / "open-key").write_text(KEY)
    (shell.directory / "open-key").chmod(0o644)
    (shell.directory / "runs.txt").write_text("1\nabc\n")
    (shell.directory / "link").symlink_to(shell.mountpoint)
    environ = {name: value.replace("$", str(shell.directory)) for name, value in environ.items()}
    assert words in complaint(shell("mount", "mnt", *arguments, *foreground, **environ), code)
    assert mountpoint.mounted_at(shell.mountpoint) is None
    assert names(shell.mountpoint) == []


def test_a_directory_that_cannot_be_mounted_on_is_one_line(shell: Shell) -> None:
    (shell.directory / "full").mkdir()
    (shell.directory / "full/file").touch()
    assert f"make it first: mkdir -p {shell.directory}/none" in complaint(shell("mount", "none"))
    assert "is not empty" in complaint(shell("mount", "full"))
    assert "is not a directory" in complaint(shell("mount", "full/file"))
    assert "Not a directory" in complaint(shell("mount", "full/file/deeper"))


def test_a_key_is_never_shown(shell: Shell) -> None:
    done = shell("mount", "mnt", "--log-level", "debug", CAMB_API_KEY="wr0ng-key")
    assert "wr0ng-key" not in done.stdout + done.stderr + shell.log.read_text()


def test_missing_parts_of_fuse_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "_may_mount", lambda: False)
    with pytest.raises(ConfigError, match="modprobe fuse"):
        mountpoint.check_fuse(tmp_path / "fuse")
    device = tmp_path / "device"
    device.touch()
    mountpoint.check_fuse(device)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 4_000_000_000)
        with pytest.raises(ConfigError, match="add uid 4000000000 to /etc/passwd, or mount as root"):
            mountpoint.check_fuse(device)
    monkeypatch.setattr("shutil.which", lambda name: "/opt/bin/fusermount3" if name == "fusermount3" else None)
    with pytest.raises(ConfigError, match=r"as root: ln -s fusermount3 /opt/bin/fusermount$"):
        mountpoint.check_fuse(device)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ConfigError, match="apt install fuse3"):
        mountpoint.check_fuse(device)
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    with pytest.raises(ConfigError, match="apt install libfuse2"):
        mountpoint.check_fuse(device)


def test_a_device_that_may_not_be_opened_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ConfigError, match="Permission denied; let this user read and write it"):
        mountpoint.check_fuse(tmp_path)


def test_allow_other_needs_a_line_of_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    conf = tmp_path / "fuse.conf"
    conf.write_text("# user_allow_other\n")
    with pytest.raises(ConfigError, match="user_allow_other"):
        mountpoint.check_allow_other(conf)
    conf.write_text("mount_max = 10\nuser_allow_other\n")
    mountpoint.check_allow_other(conf)


BREAKING = [
    "encoding=utf-8", "foreground", "nothreads", "debug", "attr_timeout=60", "entry_timeout=1",
    "negative_timeout=9", "ac_attr_timeout=9", "kernel_cache", "auto_cache", "direct_io", "use_ino", "uid=1",
    "gid=1", "umask=0", "nonempty", "modules=iconv", "remember=9", "max_background=1", "=", "ro=1",
    "max_read", "max_read=", "max_read=x", "max_read=-1", "max_readahead=1k", "context", "context=",
    "allow_root=1", "auto_unmount=", "MAX_READ=4096", "suid", "fsname=x", "subtype=y",
]  # fmt: skip


@pytest.mark.parametrize("option", BREAKING)
def test_options_that_could_break_a_promise_are_refused(settings: Settings, option: str) -> None:
    with pytest.raises(ConfigError, match=f"^-o {re.escape(option)}: "):
        settle_options(replace(settings, options=("ro", option)))


@pytest.mark.parametrize(
    "options",
    [
        ("max_read=65536", "max_readahead=0", "auto_unmount", "default_permissions"),
        ("allow_root", "context=system_u:object_r:removable_t:s0", "fscontext=a", "defcontext=b", "rootcontext=c"),
    ],
)
def test_options_that_are_safe_are_handed_on(settings: Settings, options: tuple[str, ...]) -> None:
    fstab = ("defaults", "ro", "noexec", "noauto", "user", "nofail", "_netdev", "x-systemd.automount", "noatime")
    settled = settle_options(replace(settings, options=(*fstab, *options)))
    assert (settled.options, settled.allow_other) == (options, False)
    assert settle_options(replace(settings, options=("allow_other", *fstab))).allow_other


def test_the_kernel_takes_the_options_that_are_handed_on(shell: Shell) -> None:
    options = "noauto,x-y=z,max_read=65536,max_readahead=65536,allow_root,default_permissions"
    if os.geteuid() != 0:
        options = options.replace("allow_root,", "")
    done = shell("mount", "mnt", "-o", options)
    assert (done.returncode, done.stderr) == (0, "")
    assert (shell.mountpoint / "1.flac").stat().st_size == 300_004
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    (line,) = (line for line in lines if f" {shell.mountpoint} " in line)
    assert "max_read=65536" in line
    assert "default_permissions" in line


def test_mount_points_are_found_whatever_their_name(tmp_path: Path) -> None:
    directory = tmp_path / "a b\tc\\d"
    directory.mkdir()
    mountinfo = tmp_path / "mountinfo"
    escaped = str(directory).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011")
    mountinfo.write_text(
        f"40 1 8:1 / {escaped} rw - ext4 /dev/sda rw\n"
        f"41 1 0:50 / {escaped} ro,nosuid shared:7 - fuse.cambfs cambfs ro,user_id=0\n"
    )
    assert mountpoint.mounted_at(directory, mountinfo) == Mounted(directory, "fuse.cambfs", "0:50", ("ro", "user_id=0"))
    assert mountpoint.mounted_at(tmp_path, mountinfo) is None


# Mounting in the background, and unmounting.


def test_mount_is_silent_and_returns_when_the_files_are_there(shell: Shell, api: Server) -> None:
    done = shell("mount", "mnt", "--runs", "1-2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(shell.mountpoint) == ["1.flac", "1.url", "2.flac", "2.url"]
    assert (shell.mountpoint / "3.flac").read_bytes() == api.results[3].read_bytes()
    assert KEY not in Path(f"/proc/{shell.daemon()}/cmdline").read_text()
    process = shell.daemon()
    done = shell("unmount", "mnt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mountpoint.mounted_at(shell.mountpoint) is None
    until(lambda: not is_running(process), "the process of the mount has not ended")


def test_the_log_is_the_users_alone(shell: Shell) -> None:
    assert "the log is" in shell("mount", "mnt", "-v").stdout
    assert shell.log.stat().st_mode & 0o777 == 0o600
    assert shell.log.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_mounted_is_not_mounted_over(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    assert f"cambfs unmount {shell.mountpoint}" in complaint(shell("mount", "mnt"))


def test_a_dead_mount_can_be_unmounted(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    os.kill(shell.daemon(), signal.SIGKILL)
    until(lambda: not is_running(shell.daemon()))
    assert shell("unmount", "mnt").returncode == 0
    assert mountpoint.mounted_at(shell.mountpoint) is None


def test_mounting_takes_a_dead_mount_away_and_says_so(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    os.kill(shell.daemon(), signal.SIGKILL)
    until(lambda: not is_running(shell.daemon()))
    done = shell("mount", "mnt", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"cambfs: warning: {shell.mountpoint}: removed the dead mount that a crash left there\n"
    assert names(shell.mountpoint) == ["1.flac", "1.url"]


def test_unmounting_ends_who_has_a_file_open(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    process = shell.daemon()
    fd = os.open(shell.mountpoint / "1.flac", os.O_RDONLY)
    try:
        assert os.pread(fd, 4, 0) == b"fLaC"
        assert shell("unmount", "mnt").returncode == 0
        assert mountpoint.mounted_at(shell.mountpoint) is None
        until(lambda: not is_running(process), "the process of the mount has not ended")
        with pytest.raises(OSError, match="not connected"):
            os.fstat(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


HIDDEN = "import ctypes, sys; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print('ready', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def hidden_process(*arguments: str) -> Iterator[int]:
    """A process that is not dumpable, as a mount is, with these arguments."""
    python = Path(sys.executable).resolve()  # not by a path that has the name of a checkout in it
    command = [str(python), "-c", HIDDEN, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.kill()


def test_a_user_who_cannot_see_the_open_files_of_a_mount_finds_it_all_the_same() -> None:
    with hidden_process("cambfs", "mount") as ours, hidden_process("sshfs") as other:
        if os.geteuid() == 0:
            assert not unmount._is_daemon(ours)  # root sees that /dev/fuse is not open
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(unmount, "_open_files", refuse_to_list)
            assert unmount._is_daemon(ours)
            assert not unmount._is_daemon(other)
            patch.setattr(os, "geteuid", lambda: 12345)
            assert not unmount._is_daemon(ours)


def refuse_to_list(_: int) -> Iterator[str]:
    raise PermissionError(13, "Permission denied")


def test_unmounting_lazily_lets_them_go_on(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    process = shell.daemon()
    with (shell.mountpoint / "1.flac").open("rb") as file:
        assert shell("unmount", "--lazy", "mnt").returncode == 0
        assert mountpoint.mounted_at(shell.mountpoint) is None
        assert len(file.read()) == 300_004
        assert is_running(process)
    until(lambda: not is_running(process), "the process of the mount has not ended")


def test_where_nothing_is_mounted_nothing_is_unmounted(shell: Shell) -> None:
    assert "nothing is mounted there" in complaint(shell("unmount", "mnt"))
    assert "nothing is mounted there" in complaint(shell("unmount", "none"))


def test_a_foreign_mount_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmount, "mounted_at", lambda _: Mounted(tmp_path, "fuse.sshfs", "0:50"))
    monkeypatch.setattr(unmount, "_detach", lambda *_, **__: pytest.fail("unmounted"))
    with pytest.raises(ConfigError, match=r"not of cambfs \(fuse.sshfs\); it is left alone"):
        unmount.unmount(tmp_path)


@pytest.mark.parametrize(
    ("fusermount", "umount", "said"),
    [
        ("true", "false", ""),
        ("echo failed to open /etc/mtab >&2; false", "true", ""),
        ("echo failed to open /etc/mtab >&2; false", "echo not root >&2; false", "failed to open /etc/mtab"),
        ("echo Device or resource busy >&2; false", "true", "Device or resource busy"),
        ("false", "false", "fusermount3 failed"),
        (None, "true", ""),
        (None, None, "apt install fuse3"),
    ],
)
def test_a_user_unmounts_with_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fusermount: str | None, umount: str | None, said: str
) -> None:
    for name, script in (("fusermount3", fusermount), ("umount", umount)):
        if script is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    try:
        words = unmount._detach_as_user(Path("/nowhere"), lazy=False)
    except ConfigError as error:
        words = str(error)
    assert words.endswith(said)
    assert bool(words) == bool(said)


def test_an_unknown_variable_is_a_warning(shell: Shell) -> None:
    done = shell("cache", "list", CAMBFS_CACHESIZE="5GiB")
    assert done.returncode == 0
    wanted = "cambfs: warning: CAMBFS_CACHESIZE in the environment is not a setting; did you mean CAMBFS_CACHE_SIZE?\n"
    assert done.stderr == wanted


def test_the_key_is_checked_once_for_an_account(shell: Shell, api: Server) -> None:
    for count in (1, 1):
        assert shell("mount", "mnt").returncode == 0
        assert len(api.requests) == count
        assert shell("unmount", "mnt").returncode == 0
    assert "401" in complaint(shell("mount", "mnt", CAMB_API_KEY="wrong"))


def test_without_the_network_it_mounts_with_a_warning_and_without_one_after_the_key_was_accepted(shell: Shell) -> None:
    down = {"CAMB_BASE_URL": "http://127.0.0.1:9/apis"}
    done = shell("mount", "mnt", **down)
    assert done.returncode == 0
    assert done.stderr.startswith("cambfs: warning: the key could not be checked; mounted anyway: ")
    assert done.stderr.count("\n") == 1
    assert shell("unmount", "mnt").returncode == 0


def test_a_directory_is_made_when_asked(shell: Shell) -> None:
    made = shell.directory / "made"
    complaint(shell("mount", "made", "--mkdir", CAMB_API_KEY="wrong"))
    assert not made.exists()
    assert shell("mount", "made", "--mkdir").returncode == 0
    assert shell("unmount", "made").returncode == 0
    assert made.is_dir()


def test_two_accounts_do_not_see_each_others_results(shell: Shell, api: Server) -> None:
    shell("fetch", "1")
    assert shell("mount", "mnt").returncode == 0
    assert names(shell.mountpoint) == ["1.flac", "1.url"]
    assert shell("unmount", "mnt").returncode == 0
    assert shell("mount", "mnt", "--base-url", api.base_url.replace("127.0.0.1", "localhost")).returncode == 0
    assert names(shell.mountpoint) == []


# In the foreground.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_mount_in_the_foreground_and_leaves_nothing(shell: Shell, number: signal.Signals) -> None:
    process = shell.start("mount", "-f", "--mkdir", "made", awaiting="Ctrl-C unmounts")
    made = shell.directory / "made"
    assert (made / "1.flac").stat().st_size == 300_004
    process.send_signal(number)
    assert process.wait(LIMIT_S) == (130 if number == signal.SIGINT else 0)
    assert not made.exists()


def test_unmounting_ends_a_mount_in_the_foreground(shell: Shell) -> None:
    process = shell.start("mount", "-f", "mnt", awaiting="Ctrl-C unmounts")
    assert shell("unmount", "mnt").returncode == 0
    assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_shows_results_and_leaves_nothing_behind(shell: Shell, number: signal.Signals) -> None:
    from cambfs.demo import samples

    process = shell.start("demo", awaiting="cleans up", CAMB_API_KEY="", CAMB_BASE_URL="")
    mounted = shell.directory / "camb"
    assert names(mounted) == sorted(f"{run_id}.{kind}" for run_id in samples() for kind in ("flac", "url"))
    for run_id, path in samples().items():
        assert (mounted / f"{run_id}.flac").read_bytes() == path.read_bytes()
    process.send_signal(number)
    assert process.wait(LIMIT_S) == (130 if number == signal.SIGINT else 0)
    assert not mounted.exists()
    assert list((shell.directory / "tmp").iterdir()) == []
    assert not (shell.directory / "home").exists()


def test_the_demo_at_a_directory_that_was_there_leaves_it(shell: Shell) -> None:
    process = shell.start("demo", "mnt", "--length", "close", awaiting="cleans up")
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_S) == 130
    assert shell.mountpoint.is_dir()


def test_the_demo_without_its_packages_is_one_line(shell: Shell) -> None:
    program = "import sys; sys.modules['uvicorn'] = None; from cambfs.cli import main; main(['demo'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, cwd=shell.directory
    )
    assert complaint(done) == "the demo needs more packages; run: pip install 'cambfs[demo]'"
    assert not (shell.directory / "camb").exists()


# Fetching.


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


def test_a_run_that_fails_is_one_line_and_the_others_are_fetched(shell: Shell) -> None:
    done = shell("fetch", "1,77,2", "-o", "out")
    assert done.returncode == 1
    assert done.stderr.startswith("cambfs: run 77: ")
    assert done.stderr.count("\n") == 1
    assert names(shell.directory / "out") == ["1.flac", "2.flac"]


def test_a_refused_key_is_one_line_however_many_runs(shell: Shell) -> None:
    assert "401" in complaint(shell("fetch", "1-300", CAMB_API_KEY="wrong"))


def test_what_did_not_stay_in_the_cache_is_said(shell: Shell) -> None:
    done = shell("fetch", "1-3", "--cache-size", "700kB")
    assert done.returncode == 1
    assert done.stderr == "cambfs: 1 of 3 results did not fit into the cache of 683.6 KiB; raise --cache-size\n"


def test_fetching_to_nowhere_is_refused(shell: Shell) -> None:
    assert "name a directory with -o" in complaint(shell("fetch", "1", "--no-disk-cache"), 2)
    assert shell("fetch", "1", "--no-disk-cache", "-o", "out").returncode == 0
    (shell.directory / "file").touch()
    assert "name another directory" in complaint(shell("fetch", "1", "-o", "file"))


def test_ctrl_c_ends_a_fetch_and_leaves_no_part_of_a_file(shell: Shell, api: Server) -> None:
    api.profile = replace(Profile(), rate=10_000)
    process = shell.start("fetch", "1-3", "-o", "out", "--log-level", "debug", awaiting="")
    until(lambda: api.count("stream") == 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(LIMIT_S) == 130
    assert names(shell.directory / "out") == []


def test_on_a_terminal_there_is_a_bar_of_bytes(shell: Shell) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    command = [sys.executable, "-m", "cambfs", "fetch", "1-3"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=shell.environ)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass  # how a terminal says that nobody writes any more
    finally:
        os.close(ours)
    assert process.wait(LIMIT_S) == 0
    assert b"3/3 runs" in shown
    assert b"879k" in shown
    assert b"B/s" in shown


# The cache without a mount.


def test_the_cache_is_listed_without_key_and_network(shell: Shell) -> None:
    shell("fetch", "2,1")
    offline = {"CAMB_API_KEY": "", "CAMB_BASE_URL": "http://127.0.0.1:9"}
    lines = shell("cache", "list", **offline).stdout.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["1", "293.0", "KiB"], ["2", "293.0", "KiB"]]
    assert lines[3] == f"2 results, 585.9 KiB in {shell.directory}/home/.cache/cambfs"


def test_ctrl_c_at_a_question_ends_its_line(shell: Shell) -> None:
    shell("fetch", "1")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cambfs", "cache", "clear"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=shell.environ,
        start_new_session=True,
        preexec_fn=partial(fcntl.ioctl, theirs, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = b""
    try:
        while b"]: " not in shown:
            shown += os.read(ours, 4096)
        while process.poll() is None:  # Python misses one that comes just before it begins to read
            os.write(ours, b"\x03")
            with contextlib.suppress(OSError):  # the end, on a terminal
                while select.select([ours], [], [], 1.0)[0] and (piece := os.read(ours, 4096)):
                    shown += piece
    finally:
        os.close(ours)
    assert process.wait(LIMIT_S) == 130
    assert re.match(rb"(\^C)+\r\n", shown.split(b"]: ")[1])


def test_an_empty_cache_is_no_error(shell: Shell) -> None:
    for command in ("list", "verify", "clear"):
        done = shell("cache", command)
        assert (done.returncode, done.stderr) == (0, "")
        assert "0 results, 0 bytes" in done.stdout


def cached(shell: Shell, run_id: int) -> Path:
    (found,) = (shell.directory / "home/.cache/cambfs").glob(f"*/{run_id}.flac")
    return found


def test_verify_finds_a_damaged_result_and_removes_it(shell: Shell) -> None:
    shell("fetch", "1-2")
    done = shell("cache", "verify")
    assert done.returncode == 0
    assert done.stdout.startswith("2 right; 2 results")
    damaged = cached(shell, 1)
    with damaged.open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    done = shell("cache", "verify")
    assert done.returncode == 1
    assert "run 1: the cached file is damaged; removed" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 right, 1 damaged and removed; 1 result, 293.0 KiB in ")
    assert not damaged.exists()
    assert cached(shell, 2).exists()


def test_clear_asks_first(shell: Shell) -> None:
    shell("fetch", "1-2")
    assert "--yes" in shell("cache", "clear").stderr
    command = [sys.executable, "-m", "cambfs", "cache", "clear"]
    declined = subprocess.run(command, input="n\n", env=shell.environ, capture_output=True, text=True, timeout=LIMIT_S)
    assert declined.returncode == 1
    assert cached(shell, 1).exists()
    assert shell("cache", "clear", "--yes").stdout == "removed 2 results, 585.9 KiB\n"
    assert "0 results" in shell("cache", "list").stdout


def test_a_cache_that_cannot_be_read_is_one_line(shell: Shell) -> None:
    (shell.directory / "file").touch()
    assert "cannot use the cache directory" in complaint(shell("cache", "list", "--cache-dir", "file"))
