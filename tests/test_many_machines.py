"""docs/many-machines.md: its commands, its configuration and its list of rights, tried on real servers."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from cambfs.names import RunId
from cambfs.shared import valkey_client
from cambfs.shared.address import parse
from cambfs.shared.engine import EngineDown
from cambfs.shared.valkey_client import Link
from cambfs.shared.valkey_engine import ValkeyEngine
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S
from tests.shared.servers import KINDS, Server, running, running_cluster
from tests.wire.raw_server import CERTIFICATE

PAGE = (Path(__file__).parent.parent / "docs" / "many-machines.md").read_text()
README = (Path(__file__).parent.parent / "README.md").read_text()
PASSWORD = "s3cret-of-the-farm"
_REFUSED_IN_SCRIPT = "ACL failure|script can't (run|access)|not allowed from script"
RUN, TOKEN = RunId(7), b"token"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs may keep this machine busy."""
    for name in ("PATIENCE_S", "_ANSWER_S", "_CONNECT_S"):
        monkeypatch.setattr(valkey_client, name, LIMIT_S)


def _access_list() -> str:
    """The page's file of users."""
    found = re.search(r"^```text\n(user default off\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].replace("PASSWORD", PASSWORD)


def _open_access_list() -> str:
    """As above, except that the tests may do everything."""
    return _access_list().replace("user default off", "user default on nopass ~* &* +@all")


def _rights() -> list[str]:
    return [word for word in _access_list().split() if word.startswith("+")]


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """With the page's users."""
    users = tmp_path / "users.acl"
    users.write_text(_open_access_list())
    with running(request.param, tmp_path, "--aclfile", str(users)) as server:
        yield server


def _engine(server: Server, scheme: str = "valkey", path: str = "/1") -> ValkeyEngine:
    address = parse(f"{scheme}://cambfs@127.0.0.1:{server.port}{path}")
    return ValkeyEngine(Link(address, PASSWORD, Workers().start), "account")


def _use_all(engine: ValkeyEngine) -> None:
    """Raises EngineDown when a right is missing."""
    try:
        assert engine.lease(RUN, TOKEN)
        assert engine.append(RUN, TOKEN, 0, b"abc")
        assert engine.tell(RUN, TOKEN, b"told")
        assert engine.append(RUN, TOKEN, 3, b"def")
        assert engine.finish(RUN, TOKEN, b"facts")
        assert engine.facts([RUN]) == {RUN: b"facts"}
        assert engine.read(RUN, 0, 10).data == b"abcdef"
        assert engine.lease(RUN, TOKEN)
        assert engine.append(RUN, TOKEN, 0, bytes(9 << 20))  # too long for what is done with short ones
        assert engine.finish(RUN, TOKEN, b"facts")
        assert engine.lease(RUN, TOKEN)
        engine.release(RUN, TOKEN)
        engine.drop(RUN)
        state = engine.state()
        if state.is_down:
            raise EngineDown(state.problem)
    finally:
        engine.close()


def test_the_rights_are_enough_and_others_have_none(server: Server, tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text(_access_list())
    server.admin.execute_command("ACL LOAD")
    _use_all(_engine(server))
    with valkey.Valkey("127.0.0.1", server.port) as anyone, pytest.raises(valkey.exceptions.AuthenticationError):
        anyone.ping()


def test_each_right_is_needed(server: Server) -> None:
    """Without INFO a result is shared all the same, and `doctor` says nothing of the memory."""
    for right in set(_rights()) - {"+info"}:
        server.admin.execute_command("ACL SETUSER", "cambfs", f"-{right[1:]}")
        server.admin.execute_command("SCRIPT FLUSH")  # scripts are then sent again
        server.admin.flushall()
        with pytest.raises(EngineDown, match=f"permission|{_REFUSED_IN_SCRIPT}"):
            _use_all(_engine(server))
        server.admin.execute_command("ACL SETUSER", "cambfs", right)


def test_a_cluster_needs_the_rights_that_the_page_adds(tmp_path: Path) -> None:
    [added] = re.findall(r"^A cluster also needs `([^`]+)`", PAGE, re.MULTILINE)
    [rule] = re.findall(r"^user cambfs (.*)$", _access_list(), re.MULTILINE)
    with running_cluster("redis", tmp_path) as nodes:
        for node in nodes:
            node.admin.execute_command("ACL SETUSER cambfs reset", *rule.split())
        with pytest.raises(EngineDown):
            _use_all(_engine(nodes[0], "valkey+cluster", ""))
        for node in nodes:
            node.admin.execute_command("ACL SETUSER cambfs", *added.split())
        _use_all(_engine(nodes[0], "valkey+cluster", ""))


def _commands() -> list[list[str]]:
    """The options of each server that the README and the page start."""
    lines = [
        line.removeprefix("$ ") for page in (README, PAGE) for line in page.splitlines() if " --maxmemory " in line
    ]
    words = [shlex.split(line, comments=True) for line in lines]
    programs = ("valkey-server", "valkey/valkey:8")
    return [some[max(some.index(name) for name in programs if name in some) + 1 :] for some in words]


@pytest.mark.parametrize("number", range(len(_commands())))
def test_the_commands_start_a_server_that_fits(number: int, tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text(_open_access_list())
    options, tls = _commands()[number], None
    if "--tls-port" in options:  # the tests choose the port and the certificate
        tls, start = CERTIFICATE, options.index("--tls-auth-clients")
        options = options[start:]
    with running("redis", tmp_path, *options, tls=tls) as server:
        assert _fits(server)


def test_the_configuration_of_debian_fits(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text(_open_access_list())
    [line] = re.findall(r"^printf .*$", PAGE, re.MULTILINE)
    command = line.partition(" >> ")[0]
    lines = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    (tmp_path / "server.conf").write_text(lines.replace("/etc/valkey/", f"{tmp_path}/"))
    with running("valkey", tmp_path, "--include", str(tmp_path / "server.conf"), "--bind", "127.0.0.1") as server:
        assert _fits(server)


def _fits(server: Server) -> bool:
    found = server.admin.config_get("maxmemory*")
    return (found["maxmemory"], found["maxmemory-policy"]) == (str(2 * 2**30), "allkeys-lru")


@pytest.mark.parametrize(
    "command",
    ["GET other", "SET other 1", "FLUSHALL", "KEYS *", "SCAN 0", "CONFIG GET *", "ACL LIST", "SHUTDOWN", "DBSIZE"],
)
def test_nothing_else_is_allowed(server: Server, command: str) -> None:
    with valkey.Valkey("127.0.0.1", server.port, username="cambfs", password=PASSWORD) as client:
        with pytest.raises(valkey.exceptions.NoPermissionError):
            client.execute_command(*command.split())
        words = ", ".join(f"'{word}'" for word in command.split())
        with pytest.raises(valkey.exceptions.ResponseError, match=_REFUSED_IN_SCRIPT):
            client.eval(f"return redis.call({words})", 0)
