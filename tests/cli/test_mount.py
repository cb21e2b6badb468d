"""`cambfs mount`, in the background and in the foreground; the mounts are real."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cambfs.mounts import mount_table
from tests.api.server import Server
from tests.cli.shell import KEY, LIMIT_S, Shell, complaint, is_running, names, until


@pytest.mark.parametrize(
    ("code", "arguments", "environ", "words"),
    [
        (1, [], {"CAMB_API_KEY": ""}, "--api-key-file; to try cambfs without a key: cambfs demo"),
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
        (1, ["--cache-dir", "/proc/nowhere"], {}, "; name another one with --cache-dir"),
        (2, ["--runs", "1-x"], {}, "Invalid value for '--runs': '1-x' is not a run id or a range"),
        (2, ["--runs-file", "runs.txt"], {}, "runs.txt:2: 'abc' is not a run id"),
        (2, ["--runs-file", "none.txt"], {}, "none.txt: No such file or directory"),
        (2, ["-o", "rw"], {}, "-o rw: leave it out; cambfs always mounts with ro,nosuid,nodev,noexec"),
        (2, ["-o", "noatime,exec"], {}, "-o exec: leave it out"),
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
    assert mount_table.mounted_at(shell.mountpoint) is None
    assert names(shell.mountpoint) == []


def test_a_directory_that_cannot_be_mounted_on_is_one_line(shell: Shell) -> None:
    (shell.directory / "full").mkdir()
    (shell.directory / "full/file").touch()
    assert f"make it first: mkdir -p {shell.directory}/none" in complaint(shell("mount", "none"))
    assert "is not empty" in complaint(shell("mount", "full"))
    said = complaint(shell("mount", "--mkdir", "a/b"))
    assert said.endswith(f"cannot be created: No such file or directory; make it first: mkdir -p {shell.directory}/a/b")
    said = complaint(shell("mount", "--mkdir", "full/file/x"))
    assert said.endswith("cannot be created: Not a directory; name a directory of your own")
    assert "is not a directory" in complaint(shell("mount", "full/file"))
    assert "Not a directory" in complaint(shell("mount", "full/file/deeper"))


def test_a_key_is_never_shown(shell: Shell) -> None:
    done = shell("mount", "mnt", "--log-level", "debug", CAMB_API_KEY="wr0ng-key")
    assert "wr0ng-key" not in done.stdout + done.stderr + shell.log.read_text()


def test_the_kernel_takes_the_options_that_are_handed_on(shell: Shell) -> None:
    options = "noauto,x-y=z,max_read=65536,max_readahead=65536,allow_root,default_permissions"
    if os.geteuid() != 0:
        options = options.replace("allow_root,", "")
    done = shell("mount", "mnt", "-o", options)
    assert (done.returncode, done.stderr) == (0, "")
    assert (shell.mountpoint / "1.flac").stat().st_size == 300_004
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    (line,) = (line for line in lines if f" {shell.mountpoint} " in line)
    assert "max_read=65536" in line
    assert "default_permissions" in line


def test_mount_is_silent_and_returns_when_the_files_are_there(shell: Shell, api: Server) -> None:
    done = shell("mount", "mnt", "--runs", "1-2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(shell.mountpoint) == ["1.flac", "1.url", "2.flac", "2.url"]
    assert (shell.mountpoint / "3.flac").read_bytes() == api.results[3].read_bytes()
    assert KEY not in Path(f"/proc/{shell.daemon()}/cmdline").read_text()
    process = shell.daemon()
    done = shell("unmount", "mnt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount_table.mounted_at(shell.mountpoint) is None
    until(lambda: not is_running(process), "the process of the mount has not ended")


def test_the_log_is_the_users_alone(shell: Shell) -> None:
    assert "the log is" in shell("mount", "mnt", "-v").stdout
    assert shell.log.stat().st_mode & 0o777 == 0o600
    assert shell.log.parent.stat().st_mode & 0o777 == 0o700


def test_what_is_mounted_is_not_mounted_over(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    assert f"cambfs unmount {shell.mountpoint}" in complaint(shell("mount", "mnt"))


def test_mounting_takes_a_dead_mount_away_and_says_so(shell: Shell) -> None:
    assert shell("mount", "mnt").returncode == 0
    os.kill(shell.daemon(), signal.SIGKILL)
    until(lambda: not is_running(shell.daemon()))
    done = shell("mount", "mnt", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"cambfs: warning: {shell.mountpoint}: removed the dead mount that a crash left there\n"
    assert names(shell.mountpoint) == ["1.flac", "1.url"]


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
    assert done.stderr.startswith("cambfs: warning: mounted, but the key could not be checked: 127.0.0.1:9 ")
    assert done.stderr.endswith("; check the network and the base URL (cambfs doctor)\n")
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_mount_in_the_foreground_and_leaves_nothing(shell: Shell, number: signal.Signals) -> None:
    process = shell.start("mount", "-f", "--mkdir", "made", awaiting="Ctrl-C unmounts")
    made = shell.directory / "made"
    assert (made / "1.flac").stat().st_size == 300_004
    process.send_signal(number)
    assert process.wait(LIMIT_S) == (130 if number == signal.SIGINT else 0)
    assert not made.exists()
