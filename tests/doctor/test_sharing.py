"""The checks of the shared cache, against real servers: set up well, and in every wrong way."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cambfs.doctor.report import Finding, State
from cambfs.doctor.setup import Setup
from cambfs.doctor.sharing import checks
from cambfs.doctor.sharing import trouble as explained
from cambfs.errors import SettingError
from cambfs.settings.config import Password, Settings
from cambfs.shared import valkey_client
from tests.fakes import LIMIT_S
from tests.shared.servers import KINDS, Server, free_port, running, running_cluster, watching
from tests.wire.raw_server import CERTIFICATE

PASSWORD = "s3cret-of-the-farm"
FITTING = ("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru")
PAGE = Path(__file__).parents[2] / "docs" / "many-machines.md"


@pytest.fixture
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs may keep this machine busy."""
    for name in ("PATIENCE_S", "_ANSWER_S", "_CONNECT_S"):
        monkeypatch.setattr(valkey_client, name, LIMIT_S)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running("redis", tmp_path_factory.mktemp("server"), *FITTING) as server:
        yield server


def findings(url: str, password: str = "", trouble: SettingError | None = None) -> dict[str, Finding]:
    settings = Settings(shared_cache=url, shared_cache_password=Password(password) if password else None)
    found = {}
    for check in checks(Setup(settings, password_trouble=trouble)):
        for finding in check.look():
            assert bool(finding.remedy) == (finding.state is not State.OK), "a remedy, unless all is well"
            assert PASSWORD not in finding.found + finding.remedy
            assert "\n" not in finding.found + finding.remedy
            found[finding.check] = finding
    return found


def trouble(url: str, password: str = "") -> Finding:
    """The last finding, after which nothing is checked any more."""
    *before, last = findings(url, password).values()
    assert all(finding.state is State.OK for finding in before)
    assert last.state is State.WARNING
    return last


def url(server: Server, scheme: str = "valkey", *, user: str = "") -> str:
    return f"{scheme}://{user}127.0.0.1:{server.port}"


def test_nothing_is_checked_without_a_shared_cache() -> None:
    assert not findings("")


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_fits_is_fine_and_nothing_is_left_there(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, *FITTING) as server:
        found = findings(url(server))
        assert {finding.state for finding in found.values()} == {State.OK}
        assert list(found) == ["server", "sharing", "server's memory", "server's policy"]
        assert f"valkey://127.0.0.1:{server.port}/0 responds" in found["server"].found
        assert re.search(rf"{kind} [0-9]+\.[0-9]+", found["server"].found)
        assert found["server's memory"].found.endswith("of 64.0 MiB")
        assert server.admin.dbsize() == 0


@pytest.mark.usefixtures("_patience")
def test_a_server_without_a_limit_or_with_another_policy_gets_advice(tmp_path: Path) -> None:
    with running("redis", tmp_path) as server:
        found = findings(url(server))
        assert (found["server's memory"].state, found["server's policy"].state) == (State.WARNING, State.WARNING)
        assert "CONFIG SET maxmemory 2gb" in found["server's memory"].remedy
        assert "noeviction" in found["server's policy"].found
        for command in (found["server's memory"].remedy, found["server's policy"].remedy):
            server.admin.execute_command(*command.partition(",")[0].split())
        assert {finding.state for finding in findings(url(server)).values()} == {State.OK}


@pytest.mark.usefixtures("_patience")
def test_a_server_that_tells_this_user_nothing_is_tried_all_the_same(server: Server) -> None:
    server.admin.execute_command("ACL", "SETUSER", "camb", "on", f">{PASSWORD}", "~*", "+@all", "-@dangerous")
    found = findings(f"valkey://camb@127.0.0.1:{server.port}", PASSWORD)
    assert found["sharing"].state is State.OK
    assert found["engine's memory"].state is State.WARNING


@pytest.mark.usefixtures("_patience")
def test_sentinels_with_a_password_are_told_from_those_that_know_nothing(tmp_path: Path, server: Server) -> None:
    with running("redis", tmp_path, *watching(server), role="sentinel", password="another") as sentinel:
        found = trouble(f"valkey+sentinel://127.0.0.1:{sentinel.port}/main", PASSWORD)
    assert "want a password" in found.found
    assert "requirepass" in found.remedy


@pytest.mark.usefixtures("_patience")
def test_a_server_without_memory_gets_advice(tmp_path: Path) -> None:
    with running("redis", tmp_path, "--maxmemory", "1kb") as server:
        found = trouble(url(server))
        assert "no memory is left" in found.found
        assert "maxmemory-policy allkeys-lru" in found.remedy


@pytest.mark.usefixtures("_patience")
def test_a_server_without_scripts_gets_advice(tmp_path: Path) -> None:
    with running("redis", tmp_path, "--rename-command", "EVALSHA", "") as server:
        assert "rename-command" in trouble(url(server)).remedy


@pytest.mark.usefixtures("_patience")
@pytest.mark.parametrize("kind", KINDS)
def test_a_user_who_may_only_read_learns_what_is_lost(kind: str, tmp_path: Path) -> None:
    with running(kind, tmp_path, *FITTING) as server:
        server.admin.execute_command("ACL", "SETUSER", "camb", "on", f">{PASSWORD}", "~*", "+@all", "-set", "-append")
        found = trouble(url(server, user="camb@"), PASSWORD)
    assert found.found.endswith("; new results are not shared, and those that are there are read")
    assert "script" not in found.found
    assert "docs/many-machines.md" in found.remedy


@pytest.mark.usefixtures("_patience")
def test_a_wrong_password_and_a_missing_one_and_one_too_many(tmp_path: Path, server: Server) -> None:
    with running("redis", tmp_path, *FITTING, password=PASSWORD) as guarded:
        assert findings(url(guarded), PASSWORD)["sharing"].state is State.OK
        for finding in (trouble(url(guarded), "wrong"), trouble(url(guarded))):
            assert "CAMBFS_SHARED_CACHE_PASSWORD" in finding.remedy
    assert "leave the password" in trouble(url(server), PASSWORD).remedy


def test_a_password_that_cannot_be_read_is_what_is_reported() -> None:
    [finding] = findings("valkey://farm", trouble=SettingError("/key: is empty; it should hold it")).values()
    assert (finding.check, finding.found) == ("password", "/key: is empty")


@pytest.mark.usefixtures("_patience")
def test_tls_on_one_side_only_and_a_certificate_that_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running("redis", tmp_path, *FITTING, tls=CERTIFICATE) as secure:
        assert "update-ca-certificates" in trouble(url(secure, "valkeys")).remedy
        assert "valkeys://" in trouble(url(secure)).remedy
        assert "(104" not in trouble(url(secure)).found
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        assert findings(url(secure, "rediss"))["sharing"].state is State.OK


@pytest.mark.usefixtures("_patience")
def test_a_server_that_is_no_cluster_or_sentinel(server: Server) -> None:
    assert "valkey://HOST" in trouble(url(server, "valkey+cluster")).remedy
    assert "valkey://HOST" in trouble(url(server, "valkey+sentinel") + "/main").remedy
    assert "database" in trouble(url(server) + "/99").remedy


@pytest.mark.usefixtures("_patience")
def test_a_node_of_a_cluster_is_told_from_the_cluster(tmp_path: Path) -> None:
    with running_cluster("redis", tmp_path) as nodes:
        assert "valkey+cluster://" in trouble(url(nodes[0])).remedy
        assert findings(url(nodes[0], "valkey+cluster"))["sharing"].state is State.OK
        nodes[0].admin.execute_command("CLUSTER DELSLOTSRANGE", 0, 5000)
        assert "--cluster check" in trouble(url(nodes[0], "valkey+cluster")).remedy


@pytest.mark.usefixtures("_patience")
def test_a_sentinel_and_a_replica_are_told_from_the_primary(tmp_path: Path, server: Server) -> None:
    sentinel = Server("redis", tmp_path, f"sentinel monitor main 127.0.0.1 {server.port} 1")
    sentinel.start("sentinel")
    try:
        assert "valkey+sentinel://" in trouble(url(sentinel)).remedy
        assert findings(url(sentinel, "valkey+sentinel") + "/main")["sharing"].state is State.OK
        assert "name of the service" in trouble(url(sentinel, "valkey+sentinel") + "/other").remedy
    finally:
        sentinel.kill()
    with running("redis", tmp_path, *FITTING, "--replicaof", "127.0.0.1", str(server.port)) as replica:
        assert "name the primary" in trouble(url(replica)).remedy


def test_a_server_in_protected_mode_is_a_short_line() -> None:
    lecture = "DENIED Redis is running in protected mode because no password is set. " + "You may do this. " * 50
    finding = explained("server", lecture)
    assert finding.found.startswith("DENIED Redis is running in protected mode because no password is set; results")
    assert "--protected-mode no" in finding.remedy


@pytest.mark.usefixtures("_patience")
def test_a_server_with_too_many_connections(tmp_path: Path) -> None:
    with running("redis", tmp_path, *FITTING, "--maxclients", "1") as server:
        assert server.admin.ping()  # this client is the one
        finding = trouble(url(server))
        assert "maxclients" in f"{finding.found} {finding.remedy}"


def test_a_server_that_is_gone_or_frozen_or_has_no_name(tmp_path: Path) -> None:
    assert "firewall" in trouble(f"valkey://127.0.0.1:{free_port()}").remedy
    assert "address" in trouble("valkey://no-such-host.invalid").remedy
    with running("redis", tmp_path, *FITTING) as server:
        server.freeze()
        finding = trouble(url(server))
        assert "no response" in finding.found
        assert "firewall" in finding.remedy
        server.thaw()


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("valkey_client", "valkey_engine"):
        monkeypatch.delitem(sys.modules, f"cambfs.shared.{module}", raising=False)
        monkeypatch.delattr(f"cambfs.shared.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "libvalkey", None)
    [finding] = findings("valkey://farm").values()
    assert finding.state is State.BROKEN
    assert finding.remedy == f"run: {sys.executable} -m pip install valkey libvalkey"
