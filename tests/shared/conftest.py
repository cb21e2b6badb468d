"""One place that keeps logs, three times: the fake, Redis and Valkey."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cambfs.names import RunId
from cambfs.shared import valkey_client, valkey_engine
from cambfs.shared.address import parse
from cambfs.shared.breaker import Breaker
from cambfs.shared.engine import Engine
from cambfs.shared.valkey_client import Link
from cambfs.shared.valkey_engine import ValkeyEngine
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S
from tests.shared.fakes import FakeEngine, FakeServer
from tests.shared.servers import KINDS, Server, running
from tests.waiting import eventually

Start = Callable[[str, Callable[[], None]], None]
# Makes an engine, and closes it at the end of the test; arguments as `_connected` takes them.
Connect = Callable[..., ValkeyEngine]
# Logs of a few bytes then have several strings.
STRING_BYTES = 8


class FakePlace:
    def __init__(self) -> None:
        self._now = 1000.0
        self.server = FakeServer(clock=lambda: self._now)

    def machine(self, account: str = "a") -> Engine:
        return FakeEngine(self.server, account, STRING_BYTES)

    def evict(self, run_id: RunId, *names: str) -> None:
        self.server.evict(run_id, *names)

    def lapse(self, run_id: RunId) -> None:
        """The lease of the run ends by itself."""
        self._now += self.seconds_left(run_id, "l")

    def spoil_lease(self, run_id: RunId) -> None:
        """Another value is there, and stays."""
        self.server.put(("a", run_id, "l"), b"random")

    def halve(self, run_id: RunId) -> float:
        """Half of what the lease had left is over; the other half, in seconds."""
        half_s = self.seconds_left(run_id, "l") / 2
        self._now += half_s
        return half_s

    def seconds_left(self, run_id: RunId, name: str) -> float:
        """Until it vanishes; inf when it stays, 0 when it is not there."""
        value = self.server._values.get(("a", run_id, name))
        return max(value.expires_at - self._now, 0.0) if value else 0.0


class RealPlace:
    """A server that other tests have used before."""

    def __init__(self, server: Server, connect: Connect) -> None:
        self.server = server
        self._connect = connect
        server.admin.flushall()

    def machine(self, account: str = "a") -> Engine:
        return self.engine(self.server.url, account=account)

    def engine(self, url: str, **options: Any) -> ValkeyEngine:
        return self._connect(url, **options)

    def evict(self, run_id: RunId, *names: str) -> None:
        self.server.admin.delete(*(key(run_id, name) for name in names))

    def lapse(self, run_id: RunId) -> None:
        self.server.admin.pexpire(key(run_id, "l"), 1)
        eventually(lambda: not self.server.admin.exists(key(run_id, "l")))

    def spoil_lease(self, run_id: RunId) -> None:
        self.server.admin.set(key(run_id, "l"), b"random")

    def halve(self, run_id: RunId) -> float:
        half_s = self.seconds_left(run_id, "l") / 2
        self.server.admin.pexpire(key(run_id, "l"), int(half_s * 1000))
        return half_s

    def seconds_left(self, run_id: RunId, name: str) -> float:
        left_ms: int = self.server.admin.pttl(key(run_id, name))
        return {-1: float("inf"), -2: 0.0}.get(left_ms, left_ms / 1000)


Place = FakePlace | RealPlace


def key(run_id: RunId, name: str, account: str = "a") -> str:
    return f"{{{account}:{run_id}}}:{name}"


class Clock:
    """The breaker's, which stands still."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:
        yield partial(_connected, stack)


def _connected(
    stack: ExitStack,
    url: str,
    password: str = "",
    *,
    account: str = "a",
    string_bytes: int = STRING_BYTES,
    start: Start | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ValkeyEngine:
    """`start` runs work in a thread, `clock` is the breaker's."""
    link = Link(parse(url), password, start or Workers().start, Breaker(url, clock))
    engine = ValkeyEngine(link, account, string_bytes)
    stack.callback(engine.close)
    return engine


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs may keep this machine busy. Where a test is not about failures, nothing may fail for that."""
    for name in ("PATIENCE_S", "_ANSWER_S", "_CONNECT_S"):
        monkeypatch.setattr(valkey_client, name, LIMIT_S)
    monkeypatch.setattr(valkey_engine, "_LEASE_MS", int(LIMIT_S * 1000))


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of users, ten times shorter: for a test that waits until they are over."""
    for name in ("PATIENCE_S", "_ANSWER_S", "_CONNECT_S"):
        monkeypatch.setattr(valkey_client, name, 0.03)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """For all tests that change nothing but what is stored."""
    directory: Path = tmp_path_factory.mktemp("servers")
    with running("redis", directory) as redis, running("valkey", directory) as valkey:
        yield {"redis": redis, "valkey": valkey}


@pytest.fixture(params=["fake", *KINDS])
def place(request: pytest.FixtureRequest, connect: Connect, patience: None) -> Place:  # noqa: ARG001
    if request.param == "fake":
        return FakePlace()
    return RealPlace(request.getfixturevalue("servers")[request.param], connect)


@pytest.fixture(params=KINDS)
def real(
    request: pytest.FixtureRequest,
    connect: Connect,
    servers: dict[str, Server],
    patience: None,  # noqa: ARG001
) -> RealPlace:
    return RealPlace(servers[request.param], connect)
