"""Engines of several servers: a cluster whose slots move, and a primary that Sentinels replace."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

import pytest
from valkey.exceptions import ConnectionError, ResponseError

from cambfs.names import RunId
from cambfs.shared.breaker import PAUSE_S
from cambfs.shared.engine import EngineDown, Page, RunMoves
from cambfs.shared.valkey_engine import ValkeyEngine
from tests.shared.conftest import Clock, Connect, hurry, key
from tests.shared.servers import KINDS, Server, running, running_cluster, wait_for_agreement, watching
from tests.waiting import eventually, in_thread, raises
from tests.wire.raw_server import CERTIFICATE

RUN = RunId(5)
TOKEN = b"token"
RUNS = [RunId(number) for number in range(1, 33)]

pytestmark = pytest.mark.usefixtures("patience")


@pytest.fixture(scope="module", params=KINDS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with running_cluster(request.param, tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def empty(cluster: list[Server]) -> list[Server]:
    for node in cluster:
        node.admin.flushall()
    return cluster


@pytest.fixture
def engine(empty: list[Server], connect: Connect) -> ValkeyEngine:
    engine: ValkeyEngine = connect(cluster_url(empty))
    return engine


def cluster_url(nodes: list[Server]) -> str:
    return "valkey+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


class Move:
    """The slot of RUN, on its way from the node that has it to another one."""

    def __init__(self, nodes: list[Server]) -> None:
        self._nodes = nodes
        self._ids = [node.admin.execute_command("CLUSTER MYID").decode() for node in nodes]
        self._slot: int = nodes[0].admin.execute_command("CLUSTER KEYSLOT", key(RUN, "l"))
        [self._from] = [index for index, node in enumerate(nodes) if _has_run(node)]
        self._to = (self._from + 1) % len(nodes)

    def begin(self) -> None:
        self._set(self._to, "IMPORTING", self._ids[self._from])
        self._set(self._from, "MIGRATING", self._ids[self._to])

    def move_keys(self, most: int = 1000) -> None:
        source, target = self._nodes[self._from].admin, self._nodes[self._to]
        keys = source.execute_command("CLUSTER GETKEYSINSLOT", self._slot, most)
        source.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 20_000, "KEYS", *keys)

    def end(self) -> None:
        for index in (self._to, self._from):
            self._set(index, "NODE", self._ids[self._to])

    def _set(self, index: int, how: str, node: str) -> None:
        self._nodes[index].admin.execute_command("CLUSTER SETSLOT", self._slot, how, node)


def _has_run(node: Server) -> bool:
    return not raises(ResponseError, lambda: node.admin.exists(key(RUN, "l")))


def test_runs_are_spread_over_a_cluster(cluster: list[Server], engine: ValkeyEngine) -> None:
    for run_id in RUNS:
        assert engine.lease(run_id, TOKEN)
        assert engine.append(run_id, TOKEN, 0, b"log of two strings")
        assert engine.finish(run_id, TOKEN, b"%d" % run_id)

    assert all(node.admin.dbsize() for node in cluster)
    assert engine.facts(RUNS) == {run_id: b"%d" % run_id for run_id in RUNS}
    assert engine.read(RUN, 8, 99) == Page(b"wo strin", b"5", is_held=False)
    state = engine.state()
    assert not state.is_down
    assert state.used_bytes


def test_a_slot_moves_step_by_step(cluster: list[Server], engine: ValkeyEngine) -> None:
    """While some keys are here and some there, nothing can be appended, but all can be read."""
    assert engine.lease(RUN, TOKEN)
    assert engine.append(RUN, TOKEN, 0, b"log of two")
    move = Move(cluster)

    for step in (move.begin, lambda: move.move_keys(1)):
        step()
        with pytest.raises(RunMoves):
            engine.append(RUN, TOKEN, 10, b"x")
        assert engine.read(RUN, 0, 99) == Page(b"log of t", None, is_held=True)
        assert engine.read(RUN, 8, 99).data == b"wo"
        assert engine.facts(RUNS) == {}
    move.move_keys()
    assert engine.read(RUN, 8, 99) == Page(b"wo", None, is_held=True)
    move.end()

    assert engine.append(RUN, TOKEN, 10, b" strings")
    assert engine.finish(RUN, TOKEN, b"facts")
    assert engine.read(RUN, 8, 99) == Page(b"wo strin", b"facts", is_held=False)


def test_a_slot_moves_while_it_is_used(cluster: list[Server], engine: ValkeyEngine, connect: Connect) -> None:
    assert engine.lease(RUN, TOKEN)
    is_over = Event()
    leader = in_thread(lambda: _grow(engine, is_over))
    follower = in_thread(lambda: _follow(connect(cluster_url(cluster))))

    for _ in range(3):
        move = Move(cluster)
        move.begin()
        move.move_keys(1)
        move.move_keys()
        move.end()
    is_over.set()

    assert follower.result() == leader.result()


def _grow(engine: ValkeyEngine, is_over: Event) -> bytes:
    log = b""
    while not is_over.is_set() or len(log) < 50:
        piece = b"%d," % len(log)
        try:
            assert len(log) > 400 or engine.append(RUN, TOKEN, len(log), piece)
            log += piece if len(log) <= 400 else b""
        except RunMoves:
            continue
    assert engine.finish(RUN, TOKEN, b"facts")
    return log


def _follow(engine: ValkeyEngine) -> bytes:
    log, has_facts = b"", False
    while True:
        page = engine.read(RUN, len(log), 99)
        log += page.data
        if has_facts and not page.data:
            return log
        has_facts = page.facts is not None  # while the slot moves, they may be newer than these data


def test_a_cluster_without_a_node_is_down(empty: list[Server], connect: Connect, clock: Clock) -> None:
    """When all nodes were gone, the addresses of the URL are tried again."""
    engine = connect(cluster_url(empty), clock=clock)
    assert engine.facts(RUNS) == {}

    for node in (empty[1], empty[0], empty[2]):
        node.kill()
        with pytest.raises(EngineDown, match="refused"):
            engine.facts(RUNS)
        clock.now_s += PAUSE_S
    for node in empty:
        node.start()
    wait_for_agreement(empty)
    assert engine.facts(RUNS) == {}


def test_a_cluster_with_a_frozen_node_is_down(
    empty: list[Server], connect: Connect, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connect(cluster_url(empty), clock=clock)
    with monkeypatch.context() as hurried:
        hurry(hurried)
        empty[1].freeze()
        with pytest.raises(EngineDown, match="no response"):
            engine.facts(RUNS)

    empty[1].thaw()
    clock.now_s += PAUSE_S
    assert engine.facts(RUNS) == {}


@pytest.mark.parametrize(("kind", "is_killed"), [("redis", True), ("valkey", False)])
def test_another_primary_takes_over(tmp_path: Path, connect: Connect, kind: str, clock: Clock, is_killed: bool) -> None:
    with (
        running(kind, tmp_path, "--repl-diskless-sync-delay", "0") as primary,
        running(kind, tmp_path, "--replicaof", "127.0.0.1", str(primary.port)) as replica,
        running(kind, tmp_path, *watching(primary), role="sentinel") as sentinel,
    ):
        engine = connect(f"valkey+sentinel://127.0.0.1:{sentinel.port}/main", clock=clock)
        assert engine.lease(RUN, TOKEN)
        assert engine.append(RUN, TOKEN, 0, b"log")
        eventually(lambda: replica.admin.exists(key(RUN, "s0")))
        eventually(lambda: sentinel.admin.sentinel_slaves("main"))

        if is_killed:
            primary.kill()
        else:
            eventually(
                lambda: not raises(ResponseError, lambda: sentinel.admin.execute_command("SENTINEL FAILOVER main"))
            )

        eventually(lambda: _is_primary(replica))
        eventually(lambda: _grows(engine, clock))
        assert engine.read(RUN, 0, 9).data == b"logx"


def _is_primary(server: Server) -> bool:
    try:
        return bool(server.admin.role()[0] == b"master")
    except ConnectionError:  # a server that changes its role closes its connections
        return False


def _grows(engine: ValkeyEngine, clock: Clock) -> bool:
    clock.now_s += PAUSE_S
    return not raises(EngineDown, lambda: engine.append(RUN, TOKEN, 3, b"x"))


@pytest.mark.parametrize("kind", KINDS)
def test_sentinels_that_know_no_primary(tmp_path: Path, connect: Connect, kind: str) -> None:
    with (
        running(kind, tmp_path) as primary,
        running(kind, tmp_path, *watching(primary), role="sentinel") as sentinel,
    ):
        with pytest.raises(EngineDown, match="no Sentinel that answers knows a primary"):
            connect(f"valkey+sentinel://127.0.0.1:{sentinel.port},127.0.0.1:1/other").lease(RUN, TOKEN)
        assert connect(f"valkey+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/main").lease(RUN, TOKEN)


def test_silent_sentinels_do_not_hide_the_others(
    tmp_path: Path, connect: Connect, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs as long as a connection may take, and a call has no time for several."""
    with (
        silent_port() as silent,
        running("redis", tmp_path) as primary,
        running("redis", tmp_path, *watching(primary), role="sentinel") as sentinel,
    ):
        hurry(monkeypatch)
        hosts = ",".join(f"127.0.0.1:{port}" for port in (silent, silent, silent, sentinel.port))
        engine = connect(f"valkey+sentinel://{hosts}/main", clock=clock)
        assert raises(EngineDown, lambda: engine.facts(RUNS))
        eventually(lambda: _responds(engine, clock))


def _responds(engine: ValkeyEngine, clock: Clock) -> bool:
    clock.now_s += PAUSE_S
    return not raises(EngineDown, lambda: engine.facts(RUNS))


@contextmanager
def silent_port() -> Iterator[int]:
    """A port where nothing responds, as where a machine is off."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # its queue is full then
            peer = stack.enter_context(socket.socket())
            peer.setblocking(False)
            peer.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_sentinels_and_their_primary_speak_tls(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password is the primary's. Sentinels get none."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    with running("redis", tmp_path, password="secret", tls=CERTIFICATE) as primary:
        options = (*watching(primary), "sentinel auth-pass main secret", "tls-replication yes")
        with running("redis", tmp_path, *options, role="sentinel", tls=CERTIFICATE) as sentinel:
            engine = connect(f"valkeys+sentinel://127.0.0.1:{sentinel.port}/main", "secret")
            assert engine.lease(RUN, TOKEN)
            assert primary.admin.exists(key(RUN, "l"))
