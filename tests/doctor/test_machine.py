"""Checks of the machine, each with its requirement met and missing."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import platform
import resource
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from cambfs.doctor import machine
from cambfs.doctor.report import Finding, State
from cambfs.mounts import mountpoint
from cambfs.settings.config import Settings


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    assert bool(finding.remedy) == (finding.state is not State.OK), "a remedy, unless all is well"
    return finding


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root, though programs of root's may mount."""
    monkeypatch.setattr(mountpoint, "has_capability", lambda which: which == "CapBnd")


def release(monkeypatch: pytest.MonkeyPatch, **found: str) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: found)


def test_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    release(monkeypatch, PRETTY_NAME="Test 1")
    python, cambfs = machine.versions()
    assert python.found.startswith(f"{platform.python_version()} on Linux")
    assert python.found.endswith("Test 1")
    assert all(name in cambfs.found for name in ("cambfs 0", "fusepy 3", "requests 2", "urllib3 2"))


@pytest.mark.usefixtures("user")
def test_a_device_that_can_be_opened(tmp_path: Path) -> None:
    device = tmp_path / "fuse"
    device.touch()
    assert only(machine.device(device)).state is State.OK


def test_a_device_that_is_missing(tmp_path: Path) -> None:
    finding = only(machine.device(tmp_path / "fuse"))
    assert finding.state is State.BROKEN
    assert "No such file" in finding.found
    assert "modprobe fuse" in finding.remedy


def test_a_container_that_may_not_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "has_capability", lambda _: False)
    device = tmp_path / "fuse"
    device.touch()
    finding = only(machine.device(device))
    assert finding.state is State.BROKEN
    assert "--cap-add SYS_ADMIN" in finding.remedy


@pytest.mark.parametrize(("bits", "has"), [("0000000000200000", True), ("0000000000100000", False)])
def test_capabilities_are_read_from_the_kernel(tmp_path: Path, bits: str, has: bool) -> None:
    status = tmp_path / "status"
    status.write_text(f"CapEff:\t0000000000000000\nCapBnd:\t{bits}\n")
    assert mountpoint.has_capability("CapBnd", status) == has
    assert not mountpoint.has_capability("CapEff", status)


@pytest.mark.parametrize(
    ("wanted", "version", "why"),
    [("auto", "2.9 (libfuse.so.2", "fusepy: the default"), ("3", "3.", "mfusepy: --fuse 3")],
)
def test_libfuse_is_found_with_its_version(wanted: str, version: str, why: str) -> None:
    finding = only(machine.libfuse(wanted))
    assert finding.state is State.OK
    assert finding.found.startswith(version)
    assert finding.found.endswith(f" with {why}")


def test_no_libfuse_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    finding = only(machine.libfuse())
    assert (finding.state, finding.found) == (State.BROKEN, "libfuse is missing")
    assert finding.remedy == "as root: apt install fuse3, dnf install fuse3, or pacman -S fuse3"
    assert list(machine.fusermount()) == [] or os.geteuid() == 0


@pytest.mark.parametrize("library", ["/nowhere/libfuse.so", "libc.so.6"])
def test_a_library_that_is_no_libfuse(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSE_LIBRARY_PATH", library)
    finding = only(machine.libfuse())
    assert (finding.state, finding.remedy) == (State.BROKEN, "unset FUSE_LIBRARY_PATH")


def test_root_needs_no_fusermount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountpoint, "has_capability", lambda _: True)
    monkeypatch.setenv("PATH", "")
    assert only(machine.fusermount()).state is State.OK


@pytest.mark.usefixtures("user")
def test_a_user_needs_fusermount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    finding = only(machine.fusermount())
    assert finding.state is State.BROKEN
    assert "apt install fuse3" in finding.found + finding.remedy


def program(directory: Path, monkeypatch: pytest.MonkeyPatch, mode: int) -> None:
    path = directory / "fusermount"
    path.touch()
    path.chmod(mode)
    monkeypatch.setenv("PATH", str(directory))
    # As if root owned it, whichever user runs the tests.
    real = Path.stat
    as_root = lambda self, **more: os.stat_result((*(found := real(self, **more))[:4], 0, *found[5:]))  # noqa: E731
    monkeypatch.setattr(Path, "stat", as_root)


@pytest.mark.usefixtures("user")
def test_fusermount_runs_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "no_new_privileges", lambda: False)
    program(tmp_path, monkeypatch, 0o755 | stat.S_ISUID)
    assert only(machine.fusermount()).state is State.OK


@pytest.mark.usefixtures("user")
def test_fusermount_without_its_setuid_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, 0o755)
    finding = only(machine.fusermount())
    assert finding.state is State.BROKEN
    assert f"chmod u+s {tmp_path}/fusermount" in finding.remedy


@pytest.mark.usefixtures("user")
def test_a_sandbox_without_new_privileges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "no_new_privileges", lambda: True)
    program(tmp_path, monkeypatch, 0o755 | stat.S_ISUID)
    assert only(machine.fusermount()).state is State.BROKEN


@pytest.mark.parametrize("number", [0, 1])
def test_new_privileges_are_read_from_the_kernel(tmp_path: Path, number: int) -> None:
    (tmp_path / "status").write_text(f"Name:\tx\nNoNewPrivs:\t{number}\nSeccomp:\t1\n")
    assert machine.no_new_privileges(tmp_path / "status") == bool(number)


def test_mtab(tmp_path: Path) -> None:
    mtab = tmp_path / "mtab"
    finding = only(machine.mtab(mtab))
    assert (finding.state, finding.remedy) == (State.WARNING, f"as root: ln -s /proc/self/mounts {mtab}")
    mtab.symlink_to("/proc/self/mounts")
    assert only(machine.mtab(mtab)).state is State.OK


def test_user_allow_other_matters_only_where_it_is_wanted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(mountpoint, "may_mount", lambda: False)
    conf = tmp_path / "fuse.conf"
    assert only(machine.allow_other(settings, conf)).state is State.OK
    for wanted in (replace(settings, allow_other=True), replace(settings, options=("allow_root",))):
        conf.write_text("")
        finding = only(machine.allow_other(wanted, conf))
        assert finding.state is State.BROKEN, "a mount would be refused"
        assert str(conf) in finding.remedy
        conf.write_text("user_allow_other\n")
        assert only(machine.allow_other(wanted, conf)).state is State.OK


def test_root_needs_no_user_allow_other(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    finding = only(machine.allow_other(replace(settings, allow_other=True), tmp_path / "none"))
    assert (finding.state, finding.found) == (State.OK, "not needed by root")


@pytest.mark.parametrize(
    ("hard", "state"), [(1024, State.WARNING), (65536, State.OK), (resource.RLIM_INFINITY, State.OK)]
)
def test_the_limit_of_open_files(hard: int, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    assert only(machine.open_files()).state is state
