"""`cambfs doctor` as a user types it: in a process of its own, against the embedded API.

Other mounts of this user may exist, and be dead; the tests ignore lines about them.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cambfs.account import account_directory
from cambfs.cli import doctor, run
from cambfs.demo import samples
from cambfs.doctor import report
from cambfs.settings.config import ApiKey, Settings
from tests.api.faults import Fault
from tests.api.server import Server
from tests.shared.servers import free_port
from tests.wire.raw_server import Server as RawServer

LIMIT_S = 60
KEY = "k3y-that-nobody-sees"
PASSWORD = "pr0xy-pass"
STATES = {"ok", "warning", "broken"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with Server(samples(), key=KEY) as server:
        yield server


@pytest.fixture
def api(shared: Server) -> Iterator[Server]:
    yield shared
    shared.heal()
    shared.forget()


class User:
    def __init__(self, home: Path, base_url: str) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "CAMB_API_KEY": KEY,
            "CAMB_BASE_URL": base_url,
        }

    def argv(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "cambfs", "doctor", *map(str, arguments)]

    def __call__(self, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            cwd=self.home,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *arguments: object, **environ: str) -> tuple[dict[str, dict[str, Any]], int]:
        """The findings of all checks but those of mounts, and the exit code."""
        done = self("--json", *arguments, **environ)
        assert not done.stderr
        said = json.loads(done.stdout)
        assert {state: said[state] for state in STATES} == {
            state: sum(check["state"] == state for check in said["checks"]) for state in STATES
        }
        assert done.returncode == (1 if said["broken"] else 0)
        for check in said["checks"]:
            assert set(check) == {"group", "check", "state", "found", "remedy"}
            assert check["state"] in STATES
            assert bool(check["remedy"]) == (check["state"] != "ok")
        return {check["check"]: check for check in said["checks"] if check["check"] != "mounts"}, done.returncode


@pytest.fixture
def user(tmp_path: Path, api: Server) -> User:
    return User(tmp_path, api.base_url)


def test_all_is_well(user: User) -> None:
    checks, _ = user.json("--run", 101)
    assert not [check for check in checks.values() if check["state"] == "broken"]
    groups = dict.fromkeys(check["group"] for check in checks.values())
    assert [*groups] == ["system", "settings", "files", "network", "run 101"]
    assert checks["key"]["found"] == "from CAMB_API_KEY"
    assert checks["key accepted"]["state"] == "ok"
    assert checks["storage"]["state"] == "ok"
    assert not (user.home / ".cache").exists()


def test_a_shared_cache_that_fails_is_a_warning_and_its_password_shows_nowhere(user: User) -> None:
    shared = {"CAMBFS_SHARED_CACHE": f"valkey://127.0.0.1:{free_port()}", "CAMBFS_SHARED_CACHE_PASSWORD": PASSWORD}
    checks, _ = user.json(**shared)
    assert (checks["server"]["group"], checks["server"]["state"]) == ("shared cache", "warning")
    done = user(**shared)
    assert PASSWORD not in done.stdout + done.stderr
    assert "  warning  server" in done.stdout
    file = user.home / "password"
    file.write_text(PASSWORD)
    file.chmod(0o644)
    del shared["CAMBFS_SHARED_CACHE_PASSWORD"]
    checks, status = user.json("--shared-cache-password-file", file, **shared)
    assert (checks["password"]["state"], status) == ("broken", 1)
    assert checks["password"]["remedy"].startswith("run: chmod 600 ~/password;")
    assert checks["key accepted"]["state"] == "ok", "the other checks are made"


def test_the_lines_for_people_say_the_same(user: User) -> None:
    done = user("--run", 101)
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout, "no colours in a pipe"
    assert lines[0] == "system"
    assert "  ok       key               from CAMB_API_KEY" in lines
    assert lines[-1].endswith(" broken")
    checks, _ = user.json("--run", 101)
    for check in checks.values():
        assert any(line.startswith(f"  {check['state']:<8} {check['check']} ") for line in lines), check


def test_what_is_broken_comes_with_its_remedy(user: User) -> None:
    done = user(CAMB_API_KEY="")
    assert done.returncode == 1
    assert "  broken   key               there is none → export CAMB_API_KEY=…" in done.stdout


def test_broken_settings_stop_nothing_else(user: User) -> None:
    checks, status = user.json(CAMBFS_CACHE_SIZE="many")
    assert status == 1
    assert checks["settings"]["state"] == "broken"
    assert checks["/dev/fuse"]["state"] == "ok"
    assert "network" not in {check["group"] for check in checks.values()}


def test_flags_count_as_they_do_for_a_mount(user: User) -> None:
    (user.home / "file").touch()
    checks, _ = user.json("--cache-dir", "file/cache", "--base-url", "http://127.0.0.1:1/apis")
    assert checks["cache"]["state"] == "broken"
    assert checks["base URL"]["found"].startswith("http://127.0.0.1:1/apis")
    assert checks["address"]["state"] == "broken"


@pytest.mark.parametrize("run_id", ["x", "0", "-1", "e12ee3bc-90f0-4b6d-9d7a-9c4a5e1d2f3a"])
def test_a_run_id_that_is_none(user: User, run_id: str) -> None:
    done = user(f"--run={run_id}")
    assert done.returncode == 2
    assert "is not a run id" in done.stderr


def test_colours_on_a_terminal(user: User) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(user.argv(), stdout=theirs, stderr=theirs, env=user.environ | {"TERM": "xterm"}) as process:
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
        process.wait(LIMIT_S)
    os.close(ours)
    assert b"\x1b[32mok" in said


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a terminal reports its end so
        return b""


def test_ctrl_c_ends_a_check_that_waits(user: User) -> None:
    with RawServer() as silent:
        silent.scripts.append(silent.stall())
        environ = user.environ | {"CAMB_BASE_URL": f"{silent.url}/apis"}
        with subprocess.Popen(user.argv(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as process:
            assert process.stdout is not None
            assert any(b"responds (" in line for line in process.stdout), "the request is next, and is never answered"
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert not said.strip(), "no traceback"


def test_a_silent_api_is_a_line(user: User) -> None:
    with RawServer() as silent:
        silent.scripts.append(silent.stall())
        checks, status = user.json("--base-url", f"{silent.url}/apis")
    assert status == 1
    assert "does not respond in time" in checks["request"]["found"]


def test_nothing_is_broken_but_something_could_be_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code, without regard to other mounts on this machine."""
    monkeypatch.setattr("cambfs.system.limits.forbid_core_dumps", lambda: None)
    finding = report.warning("a", "b", "c")
    monkeypatch.setattr(doctor, "_findings", lambda *_: [finding])
    assert run(["doctor"]) == 0
    monkeypatch.setattr(doctor, "_findings", lambda *_: [finding, report.broken("a", "b", "c")])
    assert run(["doctor"]) == 1


# Secrets


def _all(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_is_in_a_report(user: User, api: Server, form: list[str]) -> None:
    mountpoint = user.home / "mnt"
    mountpoint.mkdir()
    key_file = user.home / "key"
    key_file.write_text("qu1te-an0ther")
    key_file.chmod(0o600)
    said = _all(user(mountpoint, "--run", 101, *form))
    # The key of the environment is not in use here; it is hidden all the same.
    said += _all(user(*form, "--api-key-file", key_file, "--cache-dir", f"{user.home}/{KEY}"))
    queries = [record.query for record in api.requests if record.kind == "stored"]

    assert len(queries) == 1
    assert queries[0] not in said
    settings = Settings(cache_dir=user.home, base_url=api.base_url)
    account = account_directory(type(settings)(**{**vars(settings), "key": ApiKey(KEY)})).name
    for secret in (KEY, "qu1te-an0ther", account, "X-Amz", "Signature", "nonce", str(user.home)):
        assert secret not in said, secret
    assert "~/mnt" in said


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_secret_comes_back_from_a_server(user: User, api: Server, form: list[str]) -> None:
    url = "https://store.test/a.flac?X-Amz-Signature=abc"
    body = json.dumps({"detail": f"{KEY} {url}"}).encode()
    for target in ("sign", "stream", "stored", "sign"):
        api.fail(Fault("status", target=target, status=403, body=body))
    said = _all(user("--run", 101, *form))
    assert "says 403" in said
    assert KEY not in said
    assert "X-Amz" not in said


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "proxy",
    [
        f"http://me:{PASSWORD}@127.0.0.1:1",
        f"http://me:{PASSWORD}/x@127.0.0.1:1",
        f"socks5h://me:{PASSWORD}@127.0.0.1:1",
        f"me:{PASSWORD}@127.0.0.1:1",
        f"ftp://me:{PASSWORD}@127.0.0.1",
    ],
)
def test_no_password_of_a_proxy_is_in_a_report(user: User, form: list[str], name: str, proxy: str) -> None:
    done = user("--run", 101, *form, CAMB_BASE_URL="https://api.test/apis", **{name: proxy})
    assert done.returncode == 1
    assert PASSWORD not in _all(done)
    assert name in done.stdout
