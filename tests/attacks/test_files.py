"""Logs and caches in places that other users can reach, and texts of other parties in them."""

from __future__ import annotations

import grp
import logging
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cambfs.account import account_directories
from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import ConfigError, NotAudio
from cambfs.fuse.error_log import ErrorLog
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.settings.config import ApiKey, Settings
from cambfs.system import logs, private_files
from tests.disk.on_disk import put

NOBODY = 65534
RUN = RunId(5)


def as_root(test: Callable[..., None]) -> Callable[..., None] | None:
    """Only root can plant another user's files; for other users this test does not exist."""
    return test if os.geteuid() == 0 else None


@pytest.fixture(params=[0o000, 0o022, 0o077])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def _loggers() -> Iterator[None]:
    yield
    for name in ("cambfs", "fuse"):
        logger = logging.getLogger(name)
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:] = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory as /tmp is."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    return directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fill(disk: Disk) -> None:
    spool = disk.new_spool(RUN, relieve=lambda: False)
    spool.write(0, b"fLaC")
    put(disk, spool, RunInfo(4, 0), RUN)
    spool.close()


def plant(path: Path, kind: str, target: Path) -> None:
    if kind == "link":
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


# The cache


@pytest.mark.usefixtures("_umask")
def test_a_cache_is_the_users_alone(shared: Path) -> None:
    disk = Disk(shared / "one" / "two" / "account")
    fill(disk)
    disk.new_spool(RUN, relieve=lambda: False)
    for path in (shared / "one").rglob("*"):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert mode(shared / "one") == 0o700


def test_a_cache_that_was_open_to_others_is_closed(shared: Path) -> None:
    (shared / "account").mkdir(mode=0o777)
    (shared / "account").chmod(0o777)
    Disk(shared / "account")
    assert mode(shared / "account") == 0o700


@pytest.mark.parametrize("planted", ["account", "account/part"])
def test_a_link_in_the_place_of_a_directory_is_refused(shared: Path, tmp_path: Path, planted: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (shared / planted).parent.mkdir(exist_ok=True)
    (shared / planted).symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="cannot use the cache directory") as caught:
        Disk(shared / "account")
    assert list(elsewhere.iterdir()) == []
    assert str(caught.value).isprintable()


@as_root
def test_a_directory_of_somebody_else_is_refused(shared: Path) -> None:
    (shared / "account").mkdir()
    os.chown(shared / "account", NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="is not yours"):
        Disk(shared / "account")
    assert list((shared / "account").iterdir()) == []


@as_root
def test_a_cache_in_a_directory_of_somebody_else_is_refused(shared: Path) -> None:
    os.chown(shared, NOBODY, NOBODY)
    with pytest.raises(ConfigError, match="another user's"):
        Disk(shared / "account")


@pytest.mark.parametrize("mode_of_it", [0o777, 0o707, 0o702])
@pytest.mark.parametrize("below", ["account", "one/account", "one/two/account"])
def test_a_cache_that_others_could_exchange_is_refused(shared: Path, below: str, mode_of_it: int) -> None:
    (shared / below).parent.mkdir(parents=True, exist_ok=True)
    shared.chmod(mode_of_it)
    with pytest.raises(ConfigError, match=f"others can change {shared}; run: chmod o-w {shared}") as caught:
        Disk(shared / below)
    assert not (shared / below).exists()
    assert str(caught.value).isprintable()


def shared_with_group(directory: Path, group: int) -> None:
    os.chown(directory, -1, group)
    directory.chmod(0o770)


@as_root
def test_a_cache_that_a_group_could_exchange_is_refused(shared: Path) -> None:
    shared_with_group(shared, NOBODY)
    with pytest.raises(ConfigError, match="chmod g-w"):
        Disk(shared / "one" / "account")


def test_the_users_own_group_is_nobody_else(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user, gid = pwd.getpwuid(os.geteuid()), os.getegid()
    groups = {"private": [], "named": [user.pw_name], "shared": [user.pw_name, "somebody"]}
    group = grp.struct_group((user.pw_name, "x", user.pw_gid, []))
    for kind, members in groups.items():
        with_members = grp.struct_group((*group[:3], members))
        monkeypatch.setattr(grp, "getgrgid", lambda _gid, found=with_members: found)
        shared_with_group(shared, gid)
        if kind == "shared":
            with pytest.raises(ConfigError, match="chmod g-w"):
                Disk(shared / "account")
        else:
            Disk(shared / "account")


@as_root
def test_a_group_of_another_name_is_others(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = grp.struct_group(("staff", "x", os.getegid(), []))
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: group)
    shared_with_group(shared, os.getegid())
    with pytest.raises(ConfigError, match="chmod g-w"):
        Disk(shared / "account")


def test_an_access_list_names_others(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = pwd.getpwuid(os.geteuid())
    group = grp.struct_group((user.pw_name, "x", user.pw_gid, []))
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: group)
    monkeypatch.setattr(os, "getxattr", lambda *_: b"somebody may write")
    shared_with_group(shared, user.pw_gid)
    with pytest.raises(ConfigError, match="chmod g-w"):
        Disk(shared / "account")


def test_links_of_the_users_own_are_followed(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "large" / "disk").mkdir(parents=True)
    (shared / "relative").symlink_to("../large/disk")
    (shared / "absolute").symlink_to(tmp_path / "large")
    for path in (shared / "relative", shared / "absolute" / "disk", shared / "absolute" / ".." / "large" / "disk"):
        fill(Disk(path / "cache" / "account"))
    assert (tmp_path / "large" / "disk" / "cache" / "account" / "5.flac").read_bytes() == b"fLaC"


def test_what_a_link_leads_to_is_judged(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (shared / "link").symlink_to(tmp_path / "open")
    with pytest.raises(ConfigError, match=f"others can change {tmp_path}/open"):
        Disk(shared / "link" / "account")


@as_root
def test_a_link_of_somebody_else_is_refused(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (shared / "link").symlink_to(tmp_path / "ours")
    os.chown(shared / "link", NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(ConfigError, match=r"the link link in .* is another user's"):
        Disk(shared / "link" / "account")
    assert list((tmp_path / "ours").iterdir()) == []


def test_links_in_a_circle_are_refused(shared: Path) -> None:
    (shared / "one").symlink_to("two")
    (shared / "two").symlink_to("one")
    with pytest.raises(ConfigError, match="symbolic links"):
        Disk(shared / "one" / "account")


@as_root
@pytest.mark.parametrize("name", ["5.flac", "5.json"])
def test_a_file_that_somebody_else_has_put_there_is_not_believed(shared: Path, name: str) -> None:
    """A directory that was open to all once."""
    disk = Disk(shared / "account")
    fill(disk)
    os.chown(shared / "account" / name, NOBODY, NOBODY)
    cache = Cache(disk, 10**6)
    assert cache.info(RUN) is None
    assert cache.acquire(RUN) is None
    assert disk.run_ids() == []
    cache.close()


@as_root
def test_another_user_can_exchange_nothing_that_is_accepted() -> None:
    """Where cambfs accepts a cache, another user fails to replace it; where that is possible, it is refused."""
    root = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        root.chmod(0o755)
        for permissions in (0o755, 0o777, 0o1777, 0o775, 0o1775):
            parent = root / f"{permissions:o}"
            parent.mkdir()
            (parent / "account").mkdir(mode=0o700)
            os.chown(parent, 0, NOBODY)
            parent.chmod(permissions)
            try:
                fill(Disk(parent / "account"))
                is_accepted = True
            except ConfigError:
                is_accepted = False
            exchange = ["sh", "-c", 'mv "$0" "$0.ours" && mkdir "$0"', str(parent / "account")]
            done = subprocess.run(
                exchange, user=NOBODY, group=NOBODY, extra_groups=[], stderr=subprocess.DEVNULL, timeout=30
            )
            assert is_accepted == (done.returncode != 0), oct(permissions)
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("name", ["5.flac", "5.json"])
@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_lies_under_a_results_name_is_neither_followed_nor_waited_for(
    shared: Path, tmp_path: Path, name: str, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"fLaC")
    disk = Disk(shared / "account")
    fill(disk)
    path = shared / "account" / name
    path.unlink()
    plant(path, kind, secret)
    cache = Cache(disk, 10**6)
    assert cache.acquire(RUN) is None
    cache.close()
    assert secret.read_bytes() == b"fLaC"


def test_what_lies_in_the_place_of_parts_is_neither_followed_nor_waited_for(shared: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    Disk(shared / "account")
    part = shared / "account" / "part"
    os.mkfifo(part / "1.pipe")
    (part / "1.link").symlink_to(secret)
    (part / "1.left").touch()
    Disk(shared / "account")
    assert not (part / "1.left").exists()
    assert secret.exists()


@as_root
def test_the_accounts_of_others_in_a_shared_cache_are_left_out(shared: Path) -> None:
    for digit, owner in (("a", 0), ("b", NOBODY)):
        (shared / (digit * 32)).mkdir()
        os.chown(shared / (digit * 32), owner, owner)
    (shared / ("c" * 32)).symlink_to(shared / ("a" * 32))
    assert account_directories(shared) == [shared / ("a" * 32)]


# The log


def written(file: Path, times: int = 1) -> None:
    logs.to_file(file, "debug")
    for _ in range(times):
        logging.getLogger("cambfs.attack").warning("something")


@pytest.mark.usefixtures("_umask", "_loggers")
def test_a_log_is_the_users_alone(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_FILE_BYTES", 10)
    monkeypatch.setenv("XDG_STATE_HOME", str(shared / "state"))
    written(logs.default_file(Path("/mnt/camb")), times=3)
    assert len(list((shared / "state" / "cambfs").iterdir())) >= 3
    for path in (shared / "state").rglob("*"):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.usefixtures("_loggers")
def test_a_log_that_others_could_read_is_closed_to_them(shared: Path) -> None:
    (shared / "log").touch(mode=0o644)
    written(shared / "log")
    assert mode(shared / "log") == 0o600


@as_root
@pytest.mark.usefixtures("_loggers")
@pytest.mark.parametrize("kind", ["link", "dangling", "file", "name"])
def test_a_log_that_somebody_else_has_planted_is_refused(shared: Path, tmp_path: Path, kind: str) -> None:
    log, victim = shared / "log", tmp_path / "victim"
    if kind != "dangling":
        victim.write_text("as it was")
    if kind == "name":
        log.hardlink_to(victim)
    elif kind == "file":
        log.touch()
    else:
        log.symlink_to(victim)
    os.chown(log, NOBODY if kind != "name" else 0, NOBODY, follow_symlinks=False)
    with pytest.raises(ConfigError, match=r"log: .*--log-file") as caught:
        written(log)
    assert str(caught.value).isprintable()
    assert not victim.exists() if kind == "dangling" else victim.read_text() == "as it was"


@pytest.mark.usefixtures("_loggers")
def test_a_log_may_be_a_link_of_the_users_own(shared: Path, tmp_path: Path) -> None:
    (shared / "log").symlink_to(tmp_path / "target")
    written(shared / "log")
    assert "something" in (tmp_path / "target").read_text()


@pytest.mark.usefixtures("_loggers")
def test_a_log_may_be_a_device() -> None:
    device = Path("/dev/null")
    before = device.stat()
    written(device)
    assert (device.stat().st_mode, device.stat().st_rdev) == (before.st_mode, before.st_rdev)


TERMINAL = "\x1b]0;title\x07\x1b[2J\x9b31m\r\n2026-01-01 00:00:00 ERROR forged\x85\u2028\u202e\ud800\t\x7f\0"


@pytest.mark.usefixtures("_loggers")
def test_a_record_of_the_log_is_one_line_and_a_traceback_looks_like_none(tmp_path: Path) -> None:
    logs.to_file(tmp_path / "log", "debug")
    logger = logging.getLogger("cambfs.attack")
    logger.warning("the API says %s", TERMINAL)
    try:
        raise ValueError(TERMINAL)
    except ValueError:
        logger.exception("failed")
    lines = (tmp_path / "log").read_text().splitlines()
    assert all(line.isprintable() for line in lines)
    records = [line for line in lines if not line.startswith("    ")]
    assert len(records) == 2
    assert r"\x1b[2J" in records[0]
    assert lines[2] == "    Traceback (most recent call last):"


def test_a_failure_is_one_line_whatever_the_api_says() -> None:
    error_log = ErrorLog()
    for _ in range(150):
        error_log.add("open", f"/{TERMINAL}.flac", NotAudio(TERMINAL, 200), "EIO")
    lines = error_log.text().decode().split("\n")
    assert len(lines) == 101
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert {line.count("\t") for line in lines[:-1]} == {6}


# This process


PROGRAM = """
import os, resource, subprocess, sys
from cambfs.system import limits, private_files
assert b"needle" in open("/proc/self/environ", "rb").read()
private_files.forget_secrets()
assert b"needle" not in open("/proc/self/environ", "rb").read()
assert not {"CAMB_API_KEY", "CAMBFS_SHARED_CACHE_PASSWORD"} & os.environ.keys()
print(subprocess.run(["env"], capture_output=True, text=True).stdout)
limits.forbid_core_dumps()
assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
import ctypes
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0
"""


def test_a_process_forgets_its_secrets_and_dumps_no_core() -> None:
    environ = {
        **os.environ,
        "CAMB_API_KEY": "needle",
        "CAMBFS_SHARED_CACHE_PASSWORD": "needle",
        "CAMB_BASE_URL": "stays",
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "needle" not in done.stdout
    assert "CAMB_BASE_URL=stays" in done.stdout


def test_children_are_not_given_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMB_API_KEY", "needle")
    assert "needle" not in private_files.environment().values()
    assert private_files.environment()["PATH"] == os.environ["PATH"]


def test_settings_do_not_show_the_key(tmp_path: Path) -> None:
    values = dict.fromkeys(Settings.__dataclass_fields__) | {"key": ApiKey("needle"), "cache_dir": tmp_path}
    settings = Settings(**values)  # type: ignore[arg-type]
    assert "needle" not in f"{settings!r} {settings} {settings.key} {settings.key!r}"
