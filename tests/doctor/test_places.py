"""The places of files on both sides, and mounts that are dead, silent or another user's."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cambfs.account import account_directory
from cambfs.doctor import places
from cambfs.doctor.report import Finding, State
from cambfs.mounts import mount_table
from cambfs.mounts.mount_table import FSTYPE, Mounted
from cambfs.settings.config import ApiKey, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", key=ApiKey("k3y"), cache_size=1 << 20)


def by_check(findings: Any) -> dict[str, Finding]:
    found = {finding.check: finding for finding in findings}
    for finding in found.values():
        assert bool(finding.remedy) == (finding.state is not State.OK), "a remedy, unless all is well"
    return found


def on(kind: str) -> Callable[[], list[Mounted]]:
    return lambda: [Mounted(Path("/"), kind, "0:1")]


# The cache


def test_a_cache_that_is_not_there_yet_can_be_made(settings: Settings) -> None:
    found = by_check(places.cache(settings))
    assert {check: finding.state for check, finding in found.items()} == {
        "cache": State.OK,
        "file system": State.OK,
        "results": State.OK,
        "space": State.OK,
    }
    assert "can be made" in found["cache"].found
    assert not settings.cache_dir.exists(), "the doctor makes nothing"


def test_results_are_counted(settings: Settings) -> None:
    account = account_directory(settings)
    account.mkdir(parents=True, mode=0o700)
    (account / "5.flac").write_bytes(bytes(2048))
    (account / "5.json").write_text("{}")
    (settings.cache_dir / ("0" * 32)).mkdir()
    found = by_check(places.cache(settings))
    assert found["results"].found == "1 of this account, 2.0 KiB; accounts here: 2"
    assert account.name not in str(found), "a hash of the key"
    assert "may grow by 1022.0 KiB" in found["space"].found


def test_a_cache_in_memory(settings: Settings) -> None:
    (only,) = places.cache(replace(settings, no_disk_cache=True))
    assert only.state is State.OK


@pytest.mark.parametrize("is_there", [True, False])
def test_a_cache_that_others_can_replace(settings: Settings, is_there: bool) -> None:
    if is_there:
        settings.cache_dir.mkdir()
    settings.cache_dir.parent.chmod(0o777)
    found = by_check(places.cache(settings))
    assert list(found) == ["cache"], "the rest would be of another directory"
    assert found["cache"].state is State.BROKEN
    assert found["cache"].remedy == f"run: chmod o-w {settings.cache_dir.parent}"


def test_a_cache_that_is_a_file(settings: Settings) -> None:
    settings.cache_dir.touch()
    finding = by_check(places.cache(settings))["cache"]
    assert (finding.state, finding.remedy) == (State.BROKEN, "name another place with --cache-dir")
    assert "is not a directory" in finding.found


def test_a_cache_whose_place_cannot_be_looked_at(settings: Settings) -> None:
    settings.cache_dir.mkdir()
    finding = by_check(places.cache(replace(settings, cache_dir=settings.cache_dir / ("x" * 300))))["cache"]
    assert finding.state is State.BROKEN
    assert "File name too long" in finding.found


def test_a_cache_of_another_user(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.cache_dir.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    assert places.writable("cache", settings.cache_dir, "--cache-dir").state is State.BROKEN


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC])
def test_a_cache_that_cannot_be_written(settings: Settings, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> object:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)
    finding = places.writable("cache", settings.cache_dir, "--cache-dir")
    assert finding.state is State.BROKEN
    assert os.strerror(number) in finding.found


def test_a_cache_without_locks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    finding = places.writable("cache", settings.cache_dir, "--cache-dir")
    assert finding.state is State.BROKEN
    assert "No locks available" in finding.found


@pytest.mark.parametrize(
    ("kind", "state"), [("ext4", State.OK), ("tmpfs", State.OK), ("nfs4", State.WARNING), ("fuse.sshfs", State.WARNING)]
)
def test_kinds_of_file_systems(kind: str, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_table, "all_mounts", on(kind))
    finding = places.file_system(tmp_path)
    assert finding.state is state
    assert kind in finding.found


def test_a_file_system_without_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda fd: os.stat_result((stat.S_IFREG | 0o755, *real(fd)[1:])))
    assert places.file_system(tmp_path).state is State.WARNING


def test_the_innermost_mount_counts_and_of_several_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "a"
    inner.mkdir()
    mounts = [
        Mounted(Path("/"), "root", "0:1"),
        Mounted(inner, "below", "0:2"),
        Mounted(inner, "above", "0:3"),
        Mounted(tmp_path / "aa", "beside", "0:4"),
        Mounted(tmp_path, "outer", "0:5"),
    ]
    monkeypatch.setattr(mount_table, "all_mounts", lambda: mounts)
    assert places.kind_of(inner) == "above"
    assert places.kind_of(tmp_path) == "outer"
    (tmp_path / "link").symlink_to(inner)
    assert places.kind_of(tmp_path / "link") == "above"


def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert places.space(tmp_path, 100 << 20, 0).state is State.OK
    assert places.space(tmp_path, 150 << 20, 60 << 20).state is State.OK
    finding = places.space(tmp_path, 200 << 20, 10 << 20)
    assert (finding.state, finding.remedy) == (State.WARNING, "free some, or set --cache-size to 60MiB")


# The log


def test_the_log(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (finding,) = places.log(settings, None)
    assert (finding.check, finding.state) == ("log", State.OK)
    assert f"{tmp_path}/.local/state/cambfs" in finding.found
    (tmp_path / "file").touch()
    (finding,) = places.log(replace(settings, log_file=tmp_path / "file" / "log"), None)
    assert (finding.state, finding.remedy) == (State.BROKEN, "name another place with --log-file")


# Mounts


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Mounts as the kernel lists them, and the response of each."""
    mounts: list[Mounted] = []
    responses: dict[Path, int | None] = {}
    monkeypatch.setattr(mount_table, "all_mounts", lambda *_: mounts)
    monkeypatch.setattr(places, "_RESPONSE_S", 0.2)

    def probe(path: Path) -> Future[int]:
        future: Future[int] = Future()
        if (response := responses[path]) is not None:
            future.set_result(response)
        return future

    def make(name: str, response: int | None, uid: int = os.geteuid(), fstype: str = FSTYPE) -> Path:
        path = tmp_path / name
        path.mkdir()
        mounts.append(Mounted(path, fstype, "0:9", ("ro", f"user_id={uid}", "group_id=0")))
        responses[path] = response
        return path

    monkeypatch.setattr(places, "probe", probe)
    return make


def test_no_mounts(mounted: Callable[..., Path]) -> None:
    mounted("other", errno.ENOTCONN, uid=os.geteuid() + 1)
    mounted("sshfs", errno.ENOTCONN, fstype="fuse.sshfs")
    (only,) = places.mounts(None)
    assert (only.state, only.found) == (State.OK, "no mounts of yours")


def test_dead_and_silent_mounts(mounted: Callable[..., Path]) -> None:
    mounted("fine", 0)
    dead = mounted("dead one", errno.ENOTCONN)
    silent = mounted("silent", None)
    first, second = places.mounts(None)
    assert (first.state, first.remedy) == (State.BROKEN, f"cambfs unmount '{dead}'")
    assert (second.state, second.remedy) == (State.WARNING, f"cambfs unmount {silent}")
    assert list(places.mounts(dead)) == [second], "the named one has its own line"


def test_a_dead_mount_that_was_named_is_no_other(mounted: Callable[..., Path]) -> None:
    (only,) = places.mounts(mounted("dead", errno.ENOTCONN))
    assert (only.state, only.found) == (State.OK, "no other mounts of yours")


def test_mounts_that_respond(mounted: Callable[..., Path]) -> None:
    mounted("fine", 0)
    (only,) = places.mounts(None)
    assert (only.state, only.found) == (State.OK, "1 of yours, and all respond")


@pytest.mark.parametrize(
    ("response", "uid", "state", "said"),
    [
        (0, os.geteuid(), State.OK, "yours; responds"),
        (0, 4_000_000, State.OK, "another user's; responds"),
        (errno.EACCES, 4_000_000, State.WARNING, "another user's; permission denied"),
        (errno.ENOTCONN, os.geteuid(), State.BROKEN, "dead mount, yours"),
        (None, os.geteuid(), State.BROKEN, "does not respond"),
    ],
)
def test_the_named_mount(response: int | None, uid: int, state: State, said: str, mounted: Callable[..., Path]) -> None:
    path = mounted("mnt", response, uid=uid)
    (only,) = places.named(path)
    assert only.state is state
    assert said in only.found
    assert (only.remedy == f"cambfs unmount {path}") == (state is State.BROKEN)


def test_another_mount_in_the_named_place(mounted: Callable[..., Path]) -> None:
    (only,) = places.named(mounted("mnt", 0, fstype="fuse.sshfs"))
    assert only.state is State.BROKEN
    assert "fuse.sshfs" in only.found


def test_the_named_directory_without_a_mount(tmp_path: Path) -> None:
    (only,) = places.named(tmp_path)
    assert only.state is State.OK
    check = next(check for check in places.checks(None, tmp_path / "none") if check.name == "DIR")
    with pytest.raises(Exception, match="mkdir -p"):
        list(check.look())


@pytest.mark.parametrize(
    ("address", "remedy"),
    [("valkey://farm:6379/0", "valkey://farm:6379/0"), ("valkey://camb@farm:6379/0", "URL, as for this mount")],
)
def test_the_shared_cache_of_a_mount(monkeypatch: pytest.MonkeyPatch, address: str, remedy: str) -> None:
    refusal = f"{address}: no memory is left"
    shared = {"address": address, "is_up": True, "reason": "", "refusal": refusal, "refused_ago_s": 61.0}
    monkeypatch.setattr(mount_table, "read_inside", lambda *_: json.dumps({"shared": shared}))
    [found] = places.shared_cache(on("fuse")()[0])
    assert found.found == f"its shared cache {address} refused a new result 1 min 1 s ago: no memory is left"
    assert found.remedy == f"cambfs doctor --shared-cache {remedy}"
    shared["refusal"] = ""
    assert not [*places.shared_cache(on("fuse")()[0])]
