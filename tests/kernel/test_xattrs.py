"""Extended attributes as tools see them, and that the tools which copy them still work."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from tests.api.server import Server
from tests.kernel.conftest import Mounted


def _attributes(path: Path) -> dict[str, str]:
    return {name: os.getxattr(path, name).decode() for name in os.listxattr(path)}


def _origin(server: Server, run_id: int) -> str:
    return f"{server.base_url}/tts-result/{run_id}"


def test_they_cost_no_request(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101") as mount:
        server.forget()
        assert _attributes(mount.path / "101.flac") == {
            "user.xdg.origin.url": _origin(server, 101),
            "user.cambfs.run_id": "101",
            "user.cambfs.state": "remote",
        }
        assert server.requests == ()


def test_getfattr_shows_them(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run("cat 101.flac > /dev/null").status == 0
        mount.await_idle()
        done = mount.run("getfattr -d 101.flac")
        assert done.status == 0, done
        assert done.out.decode().splitlines() == [
            "# file: 101.flac",
            f'user.cambfs.run_id="{101}"',
            f'user.cambfs.sha256="{hashlib.sha256(server.results[101].read_bytes()).hexdigest()}"',
            'user.cambfs.state="cached"',
            'user.mime_type="audio/flac"',
            f'user.xdg.origin.url="{_origin(server, 101)}"',
            "",
        ]
        assert mount.run("getfattr -d . 101.url .cambfs").out == b""


def test_an_error_is_told(mounted: Mounted, server: Server) -> None:
    server.profile = type(server.profile)(forbidden=frozenset({105}))
    with mounted(expected=["105.flac"]) as mount:
        assert mount.run("cat 105.flac").status == 1
        assert _attributes(mount.path / "105.flac")["user.cambfs.error"].startswith("EACCES: run 105: the API says 403")


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        ("getxattr('101.flac', 'user.other')", "ENODATA"),
        ("getxattr('101.url', 'user.cambfs.state')", "ENODATA"),
        ("getxattr('101.flac', 'security.capability')", "ENOTSUP"),
        ("getxattr('101.flac', 'system.posix_acl_access')", "ENOTSUP"),
        ("setxattr('101.flac', 'user.cambfs.state', b'x')", "EROFS"),
        ("removexattr('101.flac', 'user.cambfs.state')", "EROFS"),
    ],
)
def test_what_there_is_not(operation: str, number: str, mounted: Mounted) -> None:
    with mounted() as mount:
        found = mount.read("attempt", operation).out.decode().strip()
        assert getattr(errno, found) == getattr(errno, number)


_COPIES = {
    "cp": "cp -a 101.flac $O/",
    "rsync": "rsync -aX 101.flac $O/",
    "tar": "tar --xattrs --xattrs-include='user.*' -cf - 101.flac | tar --xattrs --xattrs-include='user.*' -xf - -C $O",
    "mv": "cp -a 101.flac $O/x && mv $O/x $O/101.flac",
}


@pytest.mark.parametrize("tool", _COPIES)
def test_a_copy_has_the_bytes_and_the_attributes(tool: str, server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run("cat 101.flac > /dev/null").status == 0
        mount.await_idle()
        out = mount.home / "out"
        out.mkdir()
        done = mount.run(f"O={out}; {_COPIES[tool]}")
        assert (done.status, done.err) == (0, ""), done
        copy = out / "101.flac"
        assert copy.read_bytes() == server.results[101].read_bytes()
        assert copy.stat().st_mtime == int(server.results[101].stat().st_mtime)
        assert _attributes(copy) == _attributes(mount.path / "101.flac")


def test_a_cold_copy_with_attributes_is_whole(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        done = mount.run(f"cp -a 105.flac {mount.home}/copy")
        assert (done.status, done.err) == (0, ""), done
        assert (mount.home / "copy").read_bytes() == server.results[105].read_bytes()
