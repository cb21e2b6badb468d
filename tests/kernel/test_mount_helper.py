"""`mount.cambfs` as mount(8) calls it: with the options of fstab, for the calling user and for another."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs import mount_helper
from cambfs.errors import ConfigError
from cambfs.mount_helper import parse, translate
from tests.api.server import Server
from tests.kernel.harness import CAMBFS, KEY, Done, detach, environment, is_mounted, run

_HELPER = str(Path(CAMBFS).with_name("mount.cambfs"))
_NOBODY = 65534
_FSTAB = "rw,nosuid,noexec,nodev,_netdev,nofail,user,noauto,x-systemd.automount,x-gvfs-show,comment=speech"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "camb"
    directory.mkdir()
    yield directory
    detach(directory)


def _mount(server: Server, directory: Path, options: str, *words: str) -> Done:
    command = [_HELPER, "cambfs", str(directory), *words, "-o", options]
    return run(command, env=environment(server, directory.parent), on_hang=lambda: detach(directory))


def _translated(*words: str) -> list[str]:
    return translate(parse(["cambfs", "/mnt", *words]))


def test_what_fstab_says_mounts(server: Server, directory: Path) -> None:
    cache = directory.parent / "results"
    done = _mount(server, directory, f'{_FSTAB},runs="101,105",cache_size=20M,cache-dir={cache},url_style=plain')
    assert (done.status, done.out, done.err) == (0, b"", "")
    assert sorted(path.name for path in directory.iterdir()) == ["101.flac", "101.url", "105.flac", "105.url"]
    assert (directory / "101.url").read_text().startswith("http")
    assert cache.is_dir()


def test_umask_takes_rights_away(server: Server, directory: Path) -> None:
    assert _mount(server, directory, "runs=101,umask=227").status == 0
    assert (directory / "101.flac").stat().st_mode & 0o777 == 0o440
    assert directory.stat().st_mode & 0o777 == 0o550


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("cache_sizee=1G", "-o cache_sizee=1G: unknown option; did you mean cache_size?"),
        ("colour=red", "unknown option"),
        ("cache_size", "-o cache_size: cache_size needs a value, as in cache_size=SIZE"),
        ("no_disk_cache=1", "no_disk_cache takes no value"),
        ("cache_size=lots", "is not a size"),
        ("umask=9", "umask needs an octal number"),
        ("uid=me", "not a number"),
        ("remount,ro", "cannot change a mount; unmount it"),
        ("profile=work", "name the profile in the first column: cambfs#work"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_mounted(
    server: Server, directory: Path, options: str, words: str
) -> None:
    done = _mount(server, directory, options)
    assert done.status in (1, 32)
    assert words in done.err
    assert done.err.count("\n") == 1
    assert not is_mounted(directory)


def test_what_cannot_be_mounted_has_the_exit_code_of_mount(server: Server, directory: Path) -> None:
    (directory / "file").touch()
    done = _mount(server, directory, "defaults")
    assert (done.status, done.err) == (32, f"cambfs: {directory}: is not empty; name an empty directory\n")


@pytest.mark.parametrize("option", ["allow_root", "max_read=65536", "auto_unmount", "umask=077", "context=x"])
def test_no_option_of_the_file_system_counts_as_misspelt(option: str) -> None:
    assert _translated("-o", option) == ["mount", "-o", option, "--", "/mnt"]


def test_a_fake_mount_mounts_nothing(server: Server, directory: Path) -> None:
    assert _mount(server, directory, "runs=101", "-f").status == 0
    assert not is_mounted(directory)


def test_the_flags_of_mount() -> None:
    assert _translated("-n", "-v", "-t", "cambfs") == ["mount", "--verbose", "--", "/mnt"]
    assert _translated("-s", "-o", "ro,strange,runs=1") == ["mount", "--runs=1", "--", "/mnt"]
    assert _translated("-o", "ro,strange") == ["mount", "-o", "ro,strange", "--", "/mnt"]
    with pytest.raises(ConfigError, match="usage"):
        parse(["cambfs"])


@pytest.mark.parametrize("source", ["none", "cambfs#", "camb.ai", "mycambfs"])
def test_the_source_is_one_that_the_mount_shows(source: str) -> None:
    """`mount -a` mounts a second time what has another source."""
    with pytest.raises(ConfigError, match="first column must be cambfs, or cambfs#NAME"):
        translate(parse([source, "/mnt"]))
    assert translate(parse(["cambfs#work", "/mnt"])) == ["mount", "--profile=work", "--", "/mnt"]


def test_a_user_who_cannot_read_cambfs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cambfs.system.limits.become", lambda *_ids: None)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.access", lambda *_args, **_options: False)
    request = parse(["cambfs", "/mnt", "-o", "uid=4000000"])
    translate(request)
    with pytest.raises(ConfigError, match=r"^-o uid=4000000: this user cannot read .*os\.py; install cambfs where"):
        mount_helper._become_user(request)


def test_another_user_cannot_be_mounted_for_without_root(server: Server, directory: Path) -> None:
    """The process of root gives its rights away first."""
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    done = run(
        [*drop, _HELPER, "cambfs", str(directory), "-o", "uid=0"],
        env=environment(server, directory.parent),
        on_hang=lambda: detach(directory),
    )
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "only root can mount for another user" in done.err


def test_the_user_who_is_mounted_for_gets_none_of_roots_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all no key: the user's config.toml says where a key goes."""
    became = []
    monkeypatch.setattr("cambfs.system.limits.become", lambda *ids: became.append(ids))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(
        "os.environ", {"CAMB_API_KEY": KEY, "CAMBFS_RUNS": "1", "XDG_CONFIG_HOME": "/root", "PATH": "/"}
    )
    request = parse(["cambfs", "/mnt", "-o", "uid=4000000,gid=7"])
    translate(request)
    mount_helper._become_user(request)
    assert became == [(4000000, 7, [7])]
    monkeypatch.setattr("os.access", lambda path, *_, **__: path != mount_helper.__file__)
    with pytest.raises(ConfigError, match=r"-o uid=4000000: this user cannot read .*mount_helper.py; install cambfs"):
        mount_helper._become_user(request)
    assert os.environ == {"PATH": "/", "HOME": "/nonexistent", "USER": "", "LOGNAME": ""}


def test_roots_key_is_not_in_the_memory_that_shows_the_environment() -> None:
    program = """
import os
from cambfs import mount_helper
from cambfs.system import limits
limits.become = lambda *ids: None
os.geteuid = lambda: 0
mount_helper._become_user(mount_helper.Request("cambfs", "/mnt", [], uid="4000000"))
print(open("/proc/self/environ", "rb").read())
"""
    done = run([sys.executable, "-c", program], env={**os.environ, "CAMB_API_KEY": KEY, "LEFT": "alone"})
    assert done.status == 0, done.err
    assert b"LEFT=alone" in done.out
    assert KEY.encode() not in done.out
