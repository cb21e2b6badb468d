"""Attacks on a real mount: on the key, by names, by texts of the API, and by other users of this machine."""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import CAMBFS, Mount, detach, environment, is_mounted, run, wait_until

# Each of its spellings differs from the others.
NEEDLE = "sk+needle/in=the haystack".replace(" ", "&")
SPELLINGS = [spelt.encode() for spelt in (NEEDLE, quote(NEEDLE), quote(NEEDLE, safe=""), json.dumps(NEEDLE)[1:-1])]
# The encoding of what it does not share with its neighbours, wherever in a longer text it begins.
SPELLINGS += [base64.b64encode(b"x" * n + NEEDLE.encode())[4:28] for n in range(3)]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
LIMIT_S = 40
DEBUG = ["--timeout", "1s", "--log-level", "debug"]


def hides(text: bytes) -> bool:
    return not any(spelling in text for spelling in SPELLINGS)


# The key


class Watcher:
    """Collects the command lines of all processes, and the environments of those whose name is `children`."""

    def __init__(self, children: str) -> None:
        self.command_lines: set[bytes] = set()
        self.environments: dict[str, bytes] = {}
        self._children = children
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        for process in Path("/proc").iterdir():
            if process.name.isdecimal():
                with suppress(OSError):
                    self.command_lines.add((process / "cmdline").read_bytes())
                    if (process / "comm").read_text().startswith(self._children):
                        self.environments[process.name] = (process / "environ").read_bytes()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self.look()


class Session:
    """A user's command, and all of its output."""

    def __init__(self, server: Server, home: Path) -> None:
        self.path = home / "mnt"
        self.path.mkdir(parents=True)
        self.environ = environment(server, home, CAMB_API_KEY=NEEDLE, XDG_STATE_HOME=str(home / "state"))
        self.said = b""

    def __call__(self, *command: str | Path) -> bytes:
        done = run([str(part) for part in command], env=self.environ, cwd=self.path.parent, limit_s=LIMIT_S)
        self.said += done.out + done.err.encode()
        return done.out

    def end(self) -> None:
        self(CAMBFS, "unmount", "--lazy", self.path)
        detach(self.path)


def daemon_of(session: Session) -> Path:
    return Path("/proc") / (session.path / ".cambfs" / "pid").read_text().strip()


@pytest.fixture
def needle_server(audio: Audio) -> Iterator[Server]:
    with Server(dict.fromkeys(range(1, 7), audio.sentence), key=NEEDLE) as server:
        yield server
        server.heal()


def test_the_key_is_nowhere_after_a_session_with_everything(needle_server: Server, tmp_path: Path) -> None:
    server, session = needle_server, Session(needle_server, tmp_path / "home")
    with Watcher("fusermount") as watcher:
        try:
            # With auto_unmount fusermount runs beside the mount, whichever user mounts.
            most = 'ulimit -S -c "$(ulimit -H -c)"; exec "$0" "$@"'  # or there would be no core dump anyhow
            session("sh", "-c", most, CAMBFS, "mount", *DEBUG, "--runs", "1-6", "-o", "auto_unmount", session.path)
            assert is_mounted(session.path), session.said.decode()
            everything(server, session)
            check_daemon(daemon_of(session), watcher)
        finally:
            session.end()
    check_files(tmp_path)
    assert hides(session.said), session.said.decode()
    assert all(hides(line) for line in watcher.command_lines)
    assert all(record.had_key == (record.origin == "api") for record in server.requests)
    assert {record.kind for record in server.requests} >= {"stream", "sign", "stored", "redirected"}


def everything(server: Server, session: Session) -> None:
    told = f"the key {NEEDLE} \x1b[31m is wrong\n".encode()
    mnt = session.path
    session("ls", "-lR", mnt, mnt / ".cambfs")
    session("cat", mnt / "1.flac", mnt / "1.url")
    session("stat", mnt / "2.flac", mnt / "9.flac", mnt / "x.flac")
    session("getfattr", "-d", "-m", "-", mnt, mnt / "1.flac")
    for run_id, status in ((3, 401), (4, 500), (5, 403)):
        for target in ("stream", "sign"):
            server.fail(Fault("status", target, run_id, times=None, status=status, body=told))
        session("cat", mnt / f"{run_id}.flac", mnt / f"{run_id}.url")
    server.fail(Fault("content", "stream", 6, body=json.dumps({"detail": told.decode()}).encode()))
    session("cat", mnt / "6.flac")
    server.profile = replace(server.profile, redirect=True)
    session("cat", mnt / "6.flac")
    for name in ("errors", "pid", "status.json", "metrics", "known"):
        session("cat", mnt / ".cambfs" / name)
    session("getfattr", "-d", "-m", "-", *(mnt / f"{run_id}.flac" for run_id in (1, 3, 4, 5, 6)))
    session(CAMBFS, "status", mnt)
    session(CAMBFS, "status", "--json", mnt)
    assert len((mnt / ".cambfs" / "errors").read_text().splitlines()) >= 5
    session(CAMBFS, "fetch", "1-2,4", "-o", "out", *DEBUG)
    session(CAMBFS, "cache", "list")
    session(CAMBFS, "cache", "verify")


def check_daemon(daemon: Path, watcher: Watcher) -> None:
    watcher.look()
    if os.geteuid() == 0:
        assert watcher.environments, "no fusermount was seen"
        assert all(hides(environ) for environ in watcher.environments.values())
        assert hides((daemon / "environ").read_bytes())
    else:  # the kernel shows only root what fusermount, which is root's, and the mount have
        with pytest.raises(PermissionError):
            (daemon / "environ").read_bytes()
    assert hides((daemon / "cmdline").read_bytes())
    assert re.search(r"Max core file size +0 ", (daemon / "limits").read_text())


def check_files(directory: Path) -> None:
    paths = [path for path in directory.rglob("*") if path.is_file()]
    assert {path.suffix for path in paths} >= {".log", ".json", ".flac"}
    for path in paths:
        assert hides(os.fsencode(path)), path
        assert hides(path.read_bytes()), path
    log = next(path for path in paths if path.suffix == ".log").read_text()
    assert "\x1b" not in log
    assert "DEBUG" in log
    assert "Traceback" not in log


# Names


def _open(flags: int) -> Callable[[bytes], object]:
    return lambda path: os.close(os.open(path, flags))


# As far as they are not the names of a run's files: said here once more, so that a mistake over there is seen.
RUN_FILE = re.compile(rb"([1-9][0-9]{0,18})\.(flac|url)")
NEARLY = [
    "0012.flac", "0.flac", "-1.flac", "+1.flac", "1_0.flac", "1e3.flac", "0x1.url", "9223372036854775808.flac",
    "99999999999999999999.url", "１.flac", "1.FLAC", "1.flac ", "1.flac\n", " 1.flac", "1..flac", "1.flac.part",
    ".flac", "1.url.flac", "1.", "1", ".url", "123e4567-e89b-12d3-a456-426614174000.flac", "1" * 250 + ".flac",
    ".DS_Store", "autorun.inf", "desktop.ini", ".cambfs.flac", "1\u202e.flac",
]  # fmt: skip
NAMES = (
    st.sampled_from(NEARLY).map(os.fsencode)
    | st.binary(min_size=1, max_size=300)
    | st.from_regex(r"[ -~]{0,12}[0-9]{0,20}[./ -]{0,3}(flac|url|FLAC|Url|wav)[^/]{0,4}", fullmatch=True).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
READING = [os.stat, os.listdir, os.readlink, os.chdir, os.listxattr, _open(os.O_RDONLY)]
WRITING = [os.mkdir, os.unlink, os.rmdir, _open(os.O_RDWR), _open(os.O_WRONLY | os.O_CREAT)]


@settings(
    max_examples=300,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=NAMES, operation=st.sampled_from([*READING, *WRITING]))
def try_name(server: Server, mount: Mount, name: bytes, operation: Callable[[bytes], object]) -> None:
    name = name.replace(b"/", b"").replace(b"\0", b"")
    found = RUN_FILE.fullmatch(name)
    if name in (b"", b".", b"..", b".cambfs") or (found and int(found[1]) < 2**63):
        return
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is looked at below
        operation(os.fsencode(mount.path) + b"/" + name)
    assert caught.value.errno in (errno.ENOENT, errno.EROFS, errno.ENAMETOOLONG), (name, operation)
    assert not server.requests, (name, operation)


def test_no_name_that_is_no_runs_costs_a_request_or_harms_the_mount(server: Server, mounted: Mounted) -> None:
    with mounted("--log-level", "debug") as mount:
        wait_until(lambda: server.requests, "the key was checked")
        server.forget()
        try_name(server, mount)
        for control in ("\x1b[31m", "\n2026-01-01 00:00:00 ERROR forged", "\x9b31m"):
            assert not (mount.path / control).exists()
        assert not server.requests
        assert mount.read("read", "101.flac").status == 0
    assert all(line.isprintable() for line in mount.log.split("\n"))
    assert "Traceback" not in mount.log


# Other users


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody may look into, as the tests' own is not."""
    directory = Path(tempfile.mkdtemp(prefix="cambfs-test-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    detach(directory / "home" / "mnt")
    shutil.rmtree(directory)


def check_as_another_user(server: Server, audio: Audio, shared: Path) -> None:
    expected = audio.sentence.read_bytes()
    with Mount(server, shared / "home", "--allow-other") as mount:
        assert mount.run(["cat", "101.url"]).out.startswith(b'{"output_url"')
        assert mount.run([*NOBODY, "cat", "101.flac"]).out == expected
        for name in ("101.url", ".cambfs/errors", ".cambfs/pid"):
            for _ in range(2):  # whether the kernel knows it or not
                other = mount.run([*NOBODY, "cat", name])
                assert (other.status, other.out) == (1, b""), str(other)
                assert "Permission denied" in other.err
            assert oct((mount.path / name).stat().st_mode)[-3:] == "400"
            assert mount.run(["cat", name]).status == 0
            for test, status in (("-r", 1), ("-e", 0)):
                assert mount.run([*NOBODY, "test", test, name]).status == status, (test, name)
    with Mount(server, shared / "home") as mount:
        other = mount.run([*NOBODY, "cat", str(mount.path / "101.flac")])
        assert other.status != 0
        assert not other.out


if os.geteuid() == 0:  # only root can act as another user

    def test_others_read_the_audio_but_not_the_url(server: Server, audio: Audio, shared: Path) -> None:
        check_as_another_user(server, audio, shared)


def test_another_key_does_not_see_what_was_cached(audio: Audio, tmp_path: Path) -> None:
    home, port = tmp_path / "home", 0
    for key, requests in (("one-key-of-two", 1), ("two-key-of-two", 1), ("one-key-of-two", 0)):
        with Server({101: audio.sentence}, key=key, port=port) as server:
            port = urlsplit(server.base_url).port or 0
            with Mount(server, home, key=key) as mount:
                assert (mount.run("ls").out == b"") == bool(requests)
                assert mount.run("cat 101.flac").out == audio.sentence.read_bytes()
            assert server.count("stream") == requests
    assert len(list(mount.cache_dir.glob("*/101.flac"))) == 2


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_on_the_disk_is_the_users_alone_whatever_the_umask(server: Server, tmp_path: Path, umask: int) -> None:
    session = Session(server, tmp_path / "home")
    session.environ |= {"CAMB_API_KEY": server.key, "HOME": str(tmp_path / "fresh"), "XDG_STATE_HOME": ""}
    try:
        # Neither the home nor anything in it is there yet.
        script = f'umask {umask:03o}; "$0" mount "$1" && cat "$1/101.flac" >/dev/null'
        session("sh", "-c", script, CAMBFS, session.path)
        assert is_mounted(session.path), session.said.decode()
        wait_until(lambda: list((tmp_path / "fresh").rglob("101.json")), "the result is cached")
        found = list((tmp_path / "fresh").rglob("*"))
        assert {path.suffix for path in found} >= {".flac", ".json", ".log", ""}
        for path in found:
            assert oct(path.stat().st_mode)[-3:] == ("700" if path.is_dir() else "600"), path
    finally:
        session.end()
