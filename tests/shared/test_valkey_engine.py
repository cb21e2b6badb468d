"""What happens to an engine on Redis or Valkey: restarts, freezes, lack of memory, logins, values of other programs."""

from __future__ import annotations

import logging
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from cambfs.errors import CambfsError
from cambfs.names import RunId
from cambfs.shared import valkey_client, valkey_engine
from cambfs.shared.address import parse
from cambfs.shared.breaker import PAUSE_S
from cambfs.shared.engine import PATIENCE_S, EngineClosed, EngineDown, EngineFull, Page
from cambfs.shared.portions import FEWEST_BYTES
from cambfs.shared.sockets import Sockets
from cambfs.shared.valkey_client import Connections
from cambfs.shared.valkey_engine import ValkeyEngine
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S
from tests.shared.conftest import STRING_BYTES, Clock, Connect, RealPlace, hurry, key
from tests.shared.servers import KINDS, Server, free_port, running, running_cluster
from tests.waiting import eventually, in_thread
from tests.wire.raw_server import CERTIFICATE

RUN = RunId(5)
TOKEN = b"token"
MIB = 1 << 20


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path, patience: None) -> Iterator[Server]:  # noqa: ARG001
    """One that this test alone uses."""
    with running(request.param, tmp_path) as server:
        yield server


def write(engine: ValkeyEngine, log: bytes, run_id: RunId = RUN) -> None:
    assert engine.lease(run_id, TOKEN)
    assert engine.append(run_id, TOKEN, 0, log)
    assert engine.finish(run_id, TOKEN, b"facts")


def test_no_step_is_patient() -> None:
    assert valkey_client._ANSWER_S == valkey_client._CONNECT_S == 0.25
    assert PATIENCE_S == 0.5
    assert valkey_engine._LEASE_MS == 3000


def test_a_server_that_is_gone_is_left_alone(
    server: Server, connect: Connect, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cambfs.shared")
    started: list[str] = []
    workers = Workers()

    def start(name: str, work: Callable[[], None]) -> None:
        started.append(name)
        workers.start(name, work)

    engine = connect(server.url, clock=clock, start=start)
    write(engine, b"log")
    server.kill()

    with pytest.raises(EngineDown, match=rf"^valkey://127.0.0.1:{server.port}/0: .*(refused|closed|reset)"):
        engine.read(RUN, 0, 9)
    started.clear()
    for _ in range(3):
        with pytest.raises(EngineDown, match=r"(refused|closed|reset)"):
            engine.append(RUN, TOKEN, 0, b"x")
    assert engine.state().is_down
    assert started == []

    server.start()
    clock.now_s += PAUSE_S
    assert engine.read(RUN, 0, 9) == Page(b"", None, is_held=False)
    assert [(record.levelname, "down" in record.message) for record in caplog.records] == [
        ("WARNING", True),
        ("INFO", False),
    ]


def test_a_frozen_server_costs_one_pause(
    server: Server, connect: Connect, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(connect(server.url), b"log")
    engine = connect(server.url, clock=clock)
    with monkeypatch.context() as hurried:
        hurry(hurried)
        server.freeze()
        with pytest.raises(EngineDown, match="no response"):
            engine.facts([RUN])
    with pytest.raises(EngineDown, match="no response"):
        engine.facts([RUN])

    server.thaw()
    clock.now_s += PAUSE_S
    assert engine.facts([RUN]) == {RUN: b"facts"}


def test_a_restarted_server_is_used_at_once(server: Server, connect: Connect) -> None:
    engine = connect(server.url)
    write(engine, b"log")
    server.kill()
    server.start()

    assert engine.read(RUN, 0, 9) == Page(b"", None, is_held=False)
    write(engine, b"new")


def test_a_server_without_the_scripts_gets_them(real: RealPlace, connect: Connect) -> None:
    engine = connect(real.server.url)
    real.server.admin.script_flush()

    write(engine, b"log")
    assert engine.read(RUN, 0, 9).data == b"log"


def test_one_of_many_machines_gets_the_lease(real: RealPlace, connect: Connect) -> None:
    engines = [connect(real.server.url) for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            took = pool.map(lambda engine, number=number: engine.lease(RunId(100 + number), TOKEN), engines)
            assert sum(took) == 1


def test_one_engine_serves_many_threads(real: RealPlace, connect: Connect) -> None:
    engine = connect(real.server.url)

    def grow(number: int) -> bytes:
        run_id, log = RunId(number), b"%d." % number
        assert engine.lease(run_id, TOKEN)
        for turn in range(20):
            assert engine.append(run_id, TOKEN, turn * len(log), log)
        return b"".join(engine.read(run_id, offset, 8).data for offset in range(0, 20 * len(log), STRING_BYTES))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(grow, range(1, 17))) == [b"%d." % number * 20 for number in range(1, 17)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("patience")
def test_a_full_server_takes_no_more_and_gives_what_it_has(tmp_path: Path, connect: Connect, kind: str) -> None:
    with running(kind, tmp_path, "--maxmemory", "20mb", "--maxmemory-policy", "noeviction") as server:
        engine = connect(server.url, string_bytes=4 * MIB)
        assert engine.lease(RUN, TOKEN)
        assert engine.lease(RunId(7), TOKEN)
        size = _fill_up(engine)

        assert 5 * MIB < size < 20 * MIB
        server.admin.config_set("maxmemory", "5mb")  # the request that was refused took some of the memory itself
        with pytest.raises(EngineFull, match="allkeys-lru"):
            engine.append(RUN, TOKEN, size, bytes(MIB))
        with pytest.raises(EngineFull):
            engine.append(RunId(7), TOKEN, 0, bytes(MIB))
        with pytest.raises(EngineFull):
            engine.lease(RunId(6), TOKEN)
        assert engine.read(RUN, size - 1, 9) == Page(b"\0", None, is_held=True)
        assert "allkeys-lru" in engine.state().problem
        engine.drop(RUN)
        assert engine.append(RUN, TOKEN, 0, bytes(MIB))


def _fill_up(engine: ValkeyEngine) -> int:
    """Appends until the server takes no more; the bytes of the log then."""
    size = 0
    try:
        while engine.append(RUN, TOKEN, size, bytes(FEWEST_BYTES)):
            size += FEWEST_BYTES
    except EngineFull:
        return size
    raise AssertionError("an append was refused for another reason")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("patience")
def test_a_full_server_evicts_while_it_is_used(tmp_path: Path, connect: Connect, kind: str) -> None:
    with running(kind, tmp_path, "--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru") as server:
        engine = connect(server.url, string_bytes=4 * MIB)
        runs = [RunId(number) for number in range(1, 11)]
        for run_id in runs:
            _fill(engine, run_id, size=6)

        assert server.admin.info()["evicted_keys"] > 0
        assert engine.state().problem == ""
        for run_id in runs:
            for offset in range(6):
                data = engine.read(run_id, offset * MIB, 10).data
                assert data in (b"", b"%10d" % (run_id * 100 + offset))


def _fill(engine: ValkeyEngine, run_id: RunId, size: int) -> None:
    """With `size` MiB, unless something of it is evicted meanwhile."""
    if engine.lease(run_id, TOKEN):
        for offset in range(size):
            piece = (b"%10d" % (run_id * 100 + offset)).ljust(MIB)
            if not engine.append(run_id, TOKEN, offset * MIB, piece):
                return
        engine.finish(run_id, TOKEN, b"facts")


def test_other_programs_values_are_no_facts_and_no_log(real: RealPlace, connect: Connect) -> None:
    engine, admin = connect(real.server.url), real.server.admin
    admin.set(key(RUN, "f"), b"random")
    admin.rpush(key(RUN, "s0"), b"random")

    assert engine.read(RUN, 0, 9) == Page(b"", b"", is_held=False)
    assert engine.facts([RUN]) == {RUN: b""}
    assert engine.lease(RUN, TOKEN)
    assert not engine.append(RUN, TOKEN, 3, b"x")
    assert not engine.finish(RUN, TOKEN, b"facts")
    assert engine.append(RUN, TOKEN, 0, b"log")
    assert engine.finish(RUN, TOKEN, b"facts")
    assert engine.read(RUN, 0, 9) == Page(b"log", b"facts", is_held=False)


def test_another_programs_value_is_no_lease(real: RealPlace, connect: Connect) -> None:
    engine = connect(real.server.url)
    real.server.admin.rpush(key(RUN, "l"), b"random")

    assert not engine.append(RUN, TOKEN, 0, b"x")
    assert not engine.tell(RUN, TOKEN, b"x")
    engine.release(RUN, TOKEN)
    assert engine.read(RUN, 0, 9) == Page(b"", None, is_held=False)
    assert engine.lease(RUN, TOKEN)
    assert engine.append(RUN, TOKEN, 0, b"x")
    real.server.admin.expire(key(RUN, "l"), 1000)
    assert not engine.read(RUN, 0, 9).is_held
    assert engine.lease(RUN, b"another token")


def test_a_read_looks_for_the_lease_first_and_for_the_data_last(real: RealPlace, connect: Connect) -> None:
    """What ends between two of these steps then looks as if it went on, and never as if a part were all."""
    engine = connect(real.server.url)
    write(engine, b"log")
    with real.server.admin.monitor() as monitor:
        engine.read(RUN, 0, 9)
        seen = [monitor.next_command()["command"].split()[0] for _ in range(3)]
    assert seen == ["PTTL", "HGET", "GETRANGE"]


def test_databases_do_not_meet(real: RealPlace, connect: Connect) -> None:
    write(connect(f"{real.server.url}/3"), b"log")

    assert connect(f"{real.server.url}/2").facts([RUN]) == {}
    assert connect(f"{real.server.url}/3").facts([RUN]) == {RUN: b"facts"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("patience")
def test_a_login_is_needed_and_never_shown(tmp_path: Path, connect: Connect, kind: str) -> None:
    with running(kind, tmp_path, password="right-secret") as server:
        write(connect(server.url, "right-secret"), b"log")

        for password, reason in (("wrong-secret", "invalid|WRONGPASS"), ("", "Authentication required")):
            engine = connect(server.url, password)
            with pytest.raises(EngineDown, match=reason) as raised:
                engine.facts([RUN])
            assert "secret" not in f"{raised.value}{engine.state()}"


@pytest.mark.parametrize(
    "line",
    [
        "unknown command 'AUTH', with args beginning with: 'right-sec",
        "no user has the password right-secret",
        "\x1b[2J" + "no " * 10_000,
    ],
)
@pytest.mark.usefixtures("patience")
def test_a_text_of_a_server_is_one_short_line_without_the_password(connect: Connect, line: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = Thread(target=_refuse, args=(listener, line), daemon=True)
        refusing.start()
        url = f"valkey://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(EngineDown, match=r"\bno|unknown command") as raised:
            connect(url, "right-secret").facts([RUN])
        refusing.join(LIMIT_S)

    text = str(raised.value)
    assert "right-sec" not in text
    assert text.isprintable()
    assert len(text) < 300


def _refuse(listener: socket.socket, line: str) -> None:
    peer, _ = listener.accept()
    with peer:
        peer.recv(4096)
        peer.sendall(b"-ERR " + line.encode() + b"\r\n")


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", KINDS)
def test_a_user_needs_few_rights(tmp_path: Path, connect: Connect, kind: str) -> None:
    commands = "eval evalsha set get exists hset hget append getrange strlen unlink pexpire pttl persist info"
    with running(kind, tmp_path) as server:
        rights = [f"+{command}" for command in commands.split()]
        server.admin.execute_command("ACL", "SETUSER", "camb", "on", ">secret", "~{*", "resetchannels", *rights)
        engine = connect(f"valkey://camb@127.0.0.1:{server.port}", "secret")

        write(engine, b"log of two strings")
        assert engine.read(RUN, 0, 3) == Page(b"log", b"facts", is_held=False)
        assert engine.lease(RUN, TOKEN)
        assert engine.tell(RUN, TOKEN, b"more")
        engine.release(RUN, TOKEN)
        engine.drop(RUN)
        assert not engine.state().is_down


@pytest.mark.usefixtures("patience")
def test_tls_proves_the_server(tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Valkey that is here has no TLS. 127.1 is the same host by a name that is not in its certificate."""
    with running("redis", tmp_path, tls=CERTIFICATE) as server:
        with pytest.raises(EngineDown, match="CERTIFICATE_VERIFY_FAILED"):
            connect(server.url).facts([RUN])
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        write(connect(server.url), b"log")
        with pytest.raises(EngineDown, match="Hostname mismatch"):
            connect(server.url.replace("127.0.0.1", "127.1")).facts([RUN])


@pytest.mark.usefixtures("patience")
def test_a_name_that_is_not_resolved_costs_one_pause(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    end = Event()

    def resolve(*_: object, **__: object) -> list[object]:
        end.wait(LIMIT_S)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    engine = connect("valkey://cache.example.com")
    try:
        with pytest.raises(EngineDown, match=r"^valkey://cache.example.com:6379/0: no response within"):
            engine.facts([RUN])
    finally:
        end.set()
    eventually(_no_worker)


def _no_worker() -> bool:
    return not any(thread.name == "engine" for thread in threading.enumerate())


@pytest.mark.parametrize("every_s", [0.01, 1.0])
@pytest.mark.parametrize("url", ["valkey://{}", "valkey://user@{}", "valkey+sentinel://{}/main", "valkey+cluster://{}"])
@pytest.mark.usefixtures("patience")
def test_a_server_that_drips_costs_one_pause_and_no_thread(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, url: str, every_s: float
) -> None:
    """Each byte comes in time for the library."""
    monkeypatch.setattr(valkey_client, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripper = Thread(target=_drip, args=(listener, every_s), daemon=True)
        dripper.start()
        engine = connect(url.format(f"127.0.0.1:{listener.getsockname()[1]}"), "password")
        with pytest.raises(EngineDown, match="no response within"):
            engine.read(RUN, 0, MIB)
        eventually(_no_worker)
        dripper.join(LIMIT_S)
        assert not dripper.is_alive()


def _drip(listener: socket.socket, every_s: float) -> None:
    """A response that does not end, until the client goes away."""
    peer, _ = listener.accept()
    with peer:
        peer.settimeout(every_s)
        peer.sendall(b"$1000000\r\n")
        is_open = True
        while is_open:
            try:
                is_open = bool(peer.recv(4096))
            except TimeoutError:
                peer.sendall(b"x")
            except OSError:
                return


@pytest.mark.usefixtures("patience")
def test_only_the_thread_that_reads_closes(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise another socket could get its number, and the thread would read from that."""
    closed: list[str] = []
    close = socket.socket.close

    def noted(self: socket.socket) -> None:
        closed.append(threading.current_thread().name)
        close(self)

    monkeypatch.setattr(valkey_client, "PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = connect(f"valkey://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(socket.socket, "close", noted)
        with pytest.raises(EngineDown, match="no response within"):
            engine.read(RUN, 0, MIB)
        eventually(_no_worker)
        monkeypatch.undo()
        assert closed == ["engine"]


def test_calls_that_end_because_another_one_failed_say_why_that_failed(server: Server, connect: Connect) -> None:
    engine = connect(server.url)
    engine.facts([RUN])
    sockets = engine._link._connections._sockets._sockets
    server.freeze()
    reader = in_thread(lambda: engine.read(RUN, 0, 9))
    eventually(lambda: any(one._users for one in list(sockets)))

    def fail(_: object) -> None:
        raise valkey_client.exceptions.ConnectionError("the reason")

    with pytest.raises(EngineDown, match="the reason"):
        engine._link.call(fail)
    with pytest.raises(EngineDown, match="the reason"):
        reader.result(LIMIT_S)


def test_connections_that_are_over_are_closed_when_no_call_uses_them(real: RealPlace) -> None:
    connections = Connections(parse(real.server.url), "")
    client: Any = connections.client()
    connection = client.connection_pool.get_connection("PING")

    connections.end(EngineDown("down"))
    assert connection._sock is not None
    client.connection_pool.release(connection)
    connections.tidy()
    assert connection._sock is None


@pytest.mark.usefixtures("patience")
def test_the_end_of_a_mount_waits_for_no_engine(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = connect(f"valkey://127.0.0.1:{listener.getsockname()[1]}")
        waiting = in_thread(lambda: engine.facts([RUN]))
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(4096)
            engine.close()

            with pytest.raises(EngineClosed):
                waiting.result(LIMIT_S / 2)
            with pytest.raises(EngineClosed):
                engine.facts([RUN])
            eventually(_no_worker)


def test_an_engine_that_was_closed_stays_so(real: RealPlace, connect: Connect) -> None:
    engine = connect(real.server.url)
    engine.close()

    with pytest.raises(EngineClosed, match="not used any more"):
        engine.facts([RUN])
    assert engine.state().is_down


@pytest.mark.usefixtures("patience")
def test_a_machine_without_threads_goes_without(connect: Connect) -> None:
    def start(*_: object) -> None:
        raise CambfsError("cannot start another thread")

    with pytest.raises(EngineDown, match="cannot start another thread"):
        connect("valkey://127.0.0.1:1", start=start).lease(RUN, TOKEN)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (("0", "noeviction"), "maxmemory is not set"),
        (("50mb", "noeviction"), "maxmemory-policy is noeviction"),
        (("50mb", "volatile-lru"), "maxmemory-policy is volatile-lru"),
        (("50mb", "allkeys-lfu"), ""),
    ],
)
def test_a_state_says_what_to_set(server: Server, connect: Connect, settings: tuple[str, str], problem: str) -> None:
    server.admin.config_set("maxmemory", settings[0])
    server.admin.config_set("maxmemory-policy", settings[1])

    state = connect(server.url).state()

    assert state.problem.startswith(problem)
    assert bool(state.problem) == bool(problem)
    assert state.policy == settings[1]
    assert state.max_bytes == int(settings[0].removesuffix("mb")) * MIB


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Error 111 connecting to farm:6379. Connection refused.", "cannot connect to farm:6379: Connection refused"),
        (
            "Error while reading from farm:6379 : (104, 'Connection reset by peer')",
            "no response: Connection reset by peer",
        ),
        ("Error while reading from socket: (104, 'Connection reset by peer')", "no response: Connection reset by peer"),
        ("Connection not ready", "the server refuses connections: in protected mode, or because of maxclients"),
    ],
)
def test_the_words_of_the_library_are_those_of_a_user(theirs: str, ours: str) -> None:
    error = valkey_client.exceptions.ConnectionError(theirs)
    assert str(valkey_client.meaning_of(error, "valkey://farm:6379/0")) == f"valkey://farm:6379/0: {ours}"


@pytest.mark.usefixtures("patience")
def test_a_server_that_tells_nothing_of_itself_is_used(tmp_path: Path, connect: Connect, clock: Clock) -> None:
    with running("redis", tmp_path) as server:
        server.admin.execute_command("ACL", "SETUSER", "camb", "on", ">secret", "~*", "+@all", "-@dangerous")
        engine = connect(f"valkey://camb@127.0.0.1:{server.port}", "secret", clock=clock)
        assert not engine.state().is_down
        assert engine.lease(RUN, TOKEN)


@pytest.mark.usefixtures("patience")
def test_a_server_that_takes_nothing_new_gives_what_it_has(real: RealPlace, connect: Connect, clock: Clock) -> None:
    engine, admin = connect(real.server.url, clock=clock), real.server.admin
    write(engine, b"log")
    assert engine.lease(RUN, TOKEN)
    admin.config_set("min-replicas-to-write", 1)
    try:
        with pytest.raises(EngineFull, match="it has too few replicas; set min-replicas-to-write 0 there"):
            engine.append(RUN, TOKEN, 3, b"x")
        with pytest.raises(EngineFull, match="it has too few replicas"):
            engine.lease(RunId(6), TOKEN)
        assert engine.read(RUN, 0, 9).data == b"log"
    finally:
        admin.config_set("min-replicas-to-write", 0)


@pytest.mark.usefixtures("patience")
def test_nothing_stays_open_of_how_a_cluster_was_found(tmp_path: Path) -> None:
    sockets = Sockets()
    with running_cluster("redis", tmp_path) as nodes:
        client = valkey_client.connect(parse(f"valkey+cluster://127.0.0.1:{nodes[0].port}"), "", sockets)
        assert all(guarded._is_closed for guarded in sockets._sockets)
        client.close()  # type: ignore[attr-defined]


# The words of the server without the place in a script, and what to do.
_REFUSED = r"/0: [^:@]*permissions [^:@]*; give this user the rights in docs/many-machines\.md$"


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rights", ["-@all +@read +eval +evalsha", "-@all +@read", "+@all -unlink -set -append -hset"])
def test_a_user_who_may_only_read_does_so(
    tmp_path: Path, connect: Connect, kind: str, clock: Clock, caplog: pytest.LogCaptureFixture, rights: str
) -> None:
    with running(kind, tmp_path) as server:
        write(connect(server.url), b"log")
        server.admin.execute_command("ACL", "SETUSER", "camb", "on", ">secret", "~*", *rights.split())
        engine = connect(f"valkey://camb@127.0.0.1:{server.port}", "secret", clock=clock)

        for _ in range(2):
            with pytest.raises(EngineFull, match=_REFUSED):
                engine.lease(RunId(6), TOKEN)
            with pytest.raises(EngineFull, match=_REFUSED):
                engine.drop(RUN)
            assert engine.read(RUN, 0, 9) == Page(b"log", b"facts", is_held=False)
        assert not caplog.records


def _connections(server: Server) -> set[str]:
    own = server.admin.client_id()
    return {one["id"] for one in server.admin.client_list() if one["id"] != str(own)}


def test_a_server_that_became_a_replica_gives_what_it_has_and_its_name_is_looked_up_again(
    server: Server, connect: Connect, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = connect(server.url, clock=clock)
    write(engine, b"log")
    server.admin.replicaof("127.0.0.1", free_port())
    before = _connections(server)

    with pytest.raises(EngineFull, match="0: it is a read only replica; name the primary"):
        engine.lease(RunId(6), TOKEN)
    assert engine.read(RUN, 0, 9) == Page(b"log", b"facts", is_held=False)
    assert not _connections(server) & before

    server.admin.replicaof("NO", "ONE")
    assert engine.lease(RunId(6), TOKEN)
    assert not caplog.records


@pytest.mark.usefixtures("patience")
def test_a_server_without_scripts_is_read(
    tmp_path: Path, connect: Connect, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with running("redis", tmp_path, "--rename-command", "EVALSHA", "") as server:
        engine = connect(server.url, clock=clock)
        server.admin.hset(key(RUN, "f"), "facts", b"facts")
        with pytest.raises(EngineFull, match="0: unknown command"):
            engine.lease(RUN, TOKEN)
        assert engine.facts([RUN]) == {RUN: b"facts"}
        assert not caplog.records


def test_snapshots_that_fail_are_no_reason_to_leave_a_server_alone() -> None:
    error = Exception("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.")
    down = valkey_client.meaning_of(error, "valkey://farm")
    assert type(down) is EngineFull
    assert "set save '' there" in str(down)


def test_no_router_forgets_a_connection(real: RealPlace) -> None:
    engine = real.engine(real.server.url)
    assert engine.facts([RUN]) == {}
    client: Any = engine._link._connections.client()
    with client.connection_pool.get_connection("PING")._sock._raw.dup() as connection:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 120


def test_missing_libraries_are_one_line() -> None:
    """The command installs them where this program runs, and nothing of the name cambfs from elsewhere."""
    program = "import sys; sys.modules['valkey'] = None; import cambfs.shared.valkey_engine"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    said, command = done.stderr.splitlines()[-1].split("; run: ")
    assert said == "cambfs.errors.ConfigError: a shared cache needs two more libraries"
    assert shlex.split(command) == [sys.executable, "-m", "pip", "install", "valkey", "libvalkey"]
