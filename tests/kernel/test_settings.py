"""Settings of a mount: a profile shows in the table of mounts, and SIGHUP reads them again without unmounting."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from tests.api.server import Server
from tests.kernel.harness import CAMBFS, KEY, Done, detach, environment, is_mounted, run, wait_until
from tests.shared.servers import Server as Engine
from tests.shared.servers import running


class Background:
    """A mount in the background with a configuration of its own."""

    def __init__(self, server: Server, home: Path) -> None:
        self.directory = home / "camb"
        self.directory.mkdir()
        self.config = home / ".config" / "cambfs" / "config.toml"
        self.config.parent.mkdir(parents=True)
        self.key_file = self.config.with_name("key")
        self.write_key(KEY)
        self.environment = environment(server, home, CAMB_API_KEY="")
        self._home = home

    def write_key(self, key: str) -> None:
        self.key_file.write_text(key)
        self.key_file.chmod(0o600)

    def configure(self, *lines: str) -> None:
        self.config.write_text("\n".join(['api_key_file = "key"', *lines]))
        self.config.chmod(0o600)

    def mount(self, *options: str, variables: Mapping[str, str] | None = None) -> Done:
        command = [CAMBFS, "mount", *options, str(self.directory)]
        return run(command, env={**self.environment, **(variables or {})}, on_hang=lambda: detach(self.directory))

    @property
    def log(self) -> str:
        (log,) = self._home.glob(".local/state/cambfs/*.log")
        return log.read_text()

    def hang_up(self) -> str:
        """The line that the mount logs after SIGHUP."""
        before = self.log
        os.kill(int((self.directory / ".cambfs" / "pid").read_text()), signal.SIGHUP)
        wait_until(lambda: "settings" in self.log[len(before) :] and self.log.endswith("\n"), "the settings are read")
        (line,) = self.log[len(before) :].splitlines()
        return line.partition(" ")[2].partition(" ")[2]

    def listed(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def mount(server: Server, tmp_path: Path) -> Iterator[Background]:
    made = Background(server, tmp_path)
    yield made
    detach(made.directory)


def test_the_profile_is_in_the_source_of_the_mount(mount: Background) -> None:
    mount.configure("[profile.work]", 'runs = "101"')
    for options, variables, source in (
        (["--profile", "work"], {}, "cambfs#work"),
        ([], {"CAMBFS_PROFILE": "work"}, "cambfs#work"),
        ([], {}, "cambfs"),
    ):
        assert mount.mount(*options, variables=variables).status == 0
        for command in (f"findmnt -no SOURCE {mount.directory}", f"df --output=source {mount.directory} | tail -n 1"):
            assert run(command, cwd=Path("/")).out.decode().strip() == source
        detach(mount.directory)


def test_sighup_reads_the_settings_again_and_does_not_unmount(mount: Background) -> None:
    mount.configure()
    assert mount.mount().status == 0
    assert mount.listed() == []
    with (mount.directory / "101.flac").open("rb") as file:
        assert file.read(4) == b"fLaC"
        mount.configure('runs = "105"', 'log_level = "warning"', 'cache_size = "2GiB"', "timeout = 7")
        said = mount.hang_up()
        wanted = "changed: cache_size, runs, log_level; from the next mount on: timeout"
        assert said == f"INFO settings read again; {wanted}"
        assert mount.listed() == ["101.flac", "101.url", "105.flac", "105.url"]
        assert file.read(4) != b""
    assert mount.hang_up() == "INFO settings read again; from the next mount on: timeout"
    assert is_mounted(mount.directory)


def test_sighup_reads_the_key_file_again(mount: Background, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    mount.configure()
    assert mount.mount().status == 0
    assert (mount.directory / "101.flac").read_bytes() == server.results[101].read_bytes()
    monkeypatch.setattr(server._store, "key", "another-key")
    with pytest.raises(PermissionError):
        (mount.directory / "105.url").read_bytes()
    assert "reads a new one at kill -HUP" in (mount.directory / ".cambfs" / "errors").read_text()
    mount.write_key("another-key")
    assert mount.hang_up() == "INFO settings read again; changed: key"
    assert (mount.directory / "105.url").read_bytes()
    assert "another-key" not in mount.log
    assert KEY not in mount.log


def _is_shared(engine: Engine, run_id: int, mount: Background) -> bool:
    return bool(engine.admin.keys(f"*{run_id}}}:f")) or "no response" in mount.log


def test_sighup_shares_results_under_the_new_key(
    mount: Background, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("redis", tmp_path) as engine:
        mount.configure(f'shared_cache = "{engine.url}"')
        assert mount.mount().status == 0
        accounts = []
        for run_id, key in ((101, "another-key"), (105, "a-third-key")):
            assert (mount.directory / f"{run_id}.flac").read_bytes() == server.results[run_id].read_bytes()
            wait_until(partial(_is_shared, engine, run_id, mount), "it is shared")
            accounts += [found.partition(b":")[0] for found in engine.admin.keys(f"*{run_id}}}:f")]
            monkeypatch.setattr(server._store, "key", key)
            mount.write_key(key)
            assert mount.hang_up() == "INFO settings read again; changed: key"
        if "no response" in mount.log:  # this machine is so busy that the server seems to be down
            return
        assert len({*accounts}) == 2
        assert "down" not in mount.log


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('runs = "5-1"', "config.toml: runs: '5-1' is a range that descends; write 1-5"),
        ('runs_file = "none"', "none: No such file or directory"),
        ("timeouts = 1", "'timeouts' is not a setting; did you mean timeout?"),
        ('api_key_file = "none"', "not TOML"),  # twice
    ],
)
def test_a_mistake_in_the_file_is_logged_and_changes_nothing(mount: Background, line: str, words: str) -> None:
    mount.configure('runs = "101"')
    assert mount.mount().status == 0
    mount.configure('log_level = "debug"', 'cache_size = "1GiB"', line)
    said = mount.hang_up()
    assert said.startswith("ERROR settings not read again, nothing changed: ")
    assert words in said
    assert mount.listed() == ["101.flac", "101.url"]
    mount.configure('runs = "101"')
    assert mount.hang_up() == "INFO settings read again; nothing has changed"


def test_a_terminal_that_closes_ends_the_mount_in_its_foreground(mount: Background) -> None:
    mount.configure()
    terminal = _Terminal([CAMBFS, "mount", "-f", str(mount.directory)], mount.environment)
    terminal.await_words(b"Ctrl-C unmounts")
    assert is_mounted(mount.directory)
    os.close(terminal.fd)
    assert terminal.process.wait(30) == 0
    assert not is_mounted(mount.directory)


@pytest.mark.parametrize("runs", ["", "101"])
def test_a_mount_that_lists_nothing_says_on_a_terminal_what_to_do(mount: Background, runs: str) -> None:
    hint = f"No runs are listed yet; open one by its number: {mount.directory}/NUMBER.flac"
    mount.configure(f'runs = "{runs}"')
    assert mount.mount().out == b"", "not into a pipe"
    detach(mount.directory)
    terminal = _Terminal([CAMBFS, "mount", str(mount.directory)], mount.environment)
    said = terminal.await_end()
    assert terminal.process.wait(30) == 0
    assert said.decode().count(hint) == (0 if runs else 1)


class _Terminal:
    """A command on a terminal of its own; `fd` is the terminal's other end."""

    def __init__(self, command: list[str], variables: Mapping[str, str]) -> None:
        self.fd, theirs = pty.openpty()
        # Of a session of its own, the process takes the first terminal that it opens.
        shell = ["sh", "-c", 'exec <"$0" >"$0" 2>&1 "$@"', os.ttyname(theirs), *command]
        self.process = subprocess.Popen(shell, env=variables, start_new_session=True)
        self.said = b""
        self._theirs = theirs

    def await_words(self, words: bytes) -> None:
        while words not in self.said:
            self.said += os.read(self.fd, 4096)
        os.close(self._theirs)

    def await_end(self) -> bytes:
        self.process.wait(60)
        os.close(self._theirs)
        with contextlib.suppress(OSError):  # a terminal reports so that its writers are gone
            while piece := os.read(self.fd, 4096):
                self.said += piece
        os.close(self.fd)
        return self.said
