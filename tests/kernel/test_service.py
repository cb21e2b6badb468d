"""cambfs as a service of systemd: the units, and the messages to the service manager."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.server import Server
from tests.kernel.harness import CAMBFS, detach, environment, is_mounted, wait_until

_UNITS = Path(__file__).parents[2] / "scripts" / "systemd"
_LIMIT_S = 30.0


@pytest.mark.parametrize("name", ["cambfs.service", "cambfs@.service"])
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, name: str) -> None:
    """It looks for the command only in the usual places, so the whole path is put in."""
    unit = tmp_path / name
    text = (_UNITS / name).read_text()
    assert "\nExecStart=cambfs mount --foreground " in text
    assert "\nExecReload=kill -HUP $MAINPID\n" in text, "SIGHUP reads the settings again"
    unit.write_text(text.replace("ExecStart=cambfs", f"ExecStart={CAMBFS}"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"XDG_RUNTIME_DIR": str(tmp_path)},
    )
    about_it = [line for line in (done.stdout + done.stderr).splitlines() if "cambfs" in line]
    assert (done.returncode, about_it) == (0, []), "what the other units of this machine lack does not matter"


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify") if request.param == "path" else f"\0cambfs-{os.getpid()}")
        manager.settimeout(_LIMIT_S)
        yield manager


def _variable(manager: socket.socket) -> str:
    name = manager.getsockname()
    return name if isinstance(name, str) else "@" + name[1:].decode()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "camb"
    detach(tmp_path / "camb")


def test_the_service_manager_is_told_when_the_files_are_there_and_when_that_ends(
    server: Server, tmp_path: Path, manager: socket.socket, directory: Path
) -> None:
    command = [CAMBFS, "mount", "--foreground", "--mkdir", str(directory)]
    environ = environment(server, tmp_path, NOTIFY_SOCKET=_variable(manager), CAMBFS_RUNS="101")
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as service:
        try:
            assert manager.recv(100) == b"READY=1"
            assert is_mounted(directory)
            service.send_signal(signal.SIGTERM)
            assert manager.recv(100) == b"STOPPING=1"
            assert service.wait(_LIMIT_S) == 0
        finally:
            service.kill()
    assert not directory.exists()


def test_a_service_reads_its_settings_again_at_sighup(server: Server, tmp_path: Path, directory: Path) -> None:
    command = [CAMBFS, "mount", "--foreground", "--mkdir", str(directory)]
    log = tmp_path / "said"
    with (
        log.open("w") as said,
        subprocess.Popen(
            command, env=environment(server, tmp_path), stdout=said, stderr=said, start_new_session=True
        ) as service,
    ):
        try:
            wait_until(lambda: "Ctrl-C unmounts" in log.read_text(), "mounted", _LIMIT_S)
            service.send_signal(signal.SIGHUP)
            wait_until(lambda: "settings read again" in log.read_text(), "read again", _LIMIT_S)
            assert is_mounted(directory)
            service.send_signal(signal.SIGTERM)
            assert service.wait(_LIMIT_S) == 0
        finally:
            service.kill()


def test_a_mount_is_served_also_when_the_service_manager_is_gone(
    server: Server, tmp_path: Path, directory: Path
) -> None:
    environ = environment(server, tmp_path, NOTIFY_SOCKET=str(tmp_path / "gone"))
    command = [CAMBFS, "mount", "--foreground", "--mkdir", str(directory)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as service:
        try:
            wait_until(lambda: is_mounted(directory), "mounted", _LIMIT_S)
            service.send_signal(signal.SIGTERM)
            assert service.wait(_LIMIT_S) == 0
        finally:
            service.kill()


@pytest.mark.parametrize("manager", ["path"], indirect=True)
def test_a_mount_is_served_also_when_nobody_reads_what_it_says(
    server: Server, tmp_path: Path, manager: socket.socket, directory: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [CAMBFS, "mount", "--foreground", "--mkdir", str(directory)]
    environ = environment(server, tmp_path, NOTIFY_SOCKET=_variable(manager))
    with subprocess.Popen(command, env=environ, stdout=writer, stderr=subprocess.PIPE, text=True) as service:
        os.close(writer)
        try:
            assert manager.recv(100) == b"READY=1"
            assert (directory / "101.flac").read_bytes() == server.results[101].read_bytes()
            service.send_signal(signal.SIGTERM)
            _, said = service.communicate(timeout=_LIMIT_S)
        finally:
            service.kill()
    assert (service.returncode, said) == (0, "")
