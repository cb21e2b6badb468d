"""One place that keeps logs, three times: the fake, Redis and Valkey."""

from __future__ import annotations

from collections.abc import Iterator
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

    def seconds_left(self, run_id: RunId, name: str) -> float:
        """Until it vanishes; inf when it stays, 0 when it is not there."""
        value = self.server._values.get(("a", run_id, name))
        return max(value.expires_at - self._now, 0.0) if value else 0.0


class RealPlace:
    """Of a server that other tests have used before."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._engines: list[ValkeyEngine] = []
        server.admin.flushall()

    def machine(self, account: str = "a") -> Engine:
        return self.engine(f"valkey://127.0.0.1:{self.server.port}", account)

    def engine(self, url: str, account: str = "a", string_bytes: int = STRING_BYTES, **options: Any) -> ValkeyEngine:
        self._engines.append(ValkeyEngine(make_link(url, **options), account, string_bytes))
        return self._engines[-1]

    def evict(self, run_id: RunId, *names: str) -> None:
        self.server.admin.delete(*(key(run_id, name) for name in names))

    def lapse(self, run_id: RunId) -> None:
        self.server.admin.pexpire(key(run_id, "l"), 1)
        eventually(lambda: not self.server.admin.exists(key(run_id, "l")))

    def seconds_left(self, run_id: RunId, name: str) -> float:
        left_ms: int = self.server.admin.pttl(key(run_id, name))
        return {-1: float("inf"), -2: 0.0}.get(left_ms, left_ms / 1000)

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


Place = FakePlace | RealPlace


def key(run_id: RunId, name: str, account: str = "a") -> str:
    return f"{{{account}:{run_id}}}:{name}"


def make_link(url: str, password: str = "", breaker: Breaker | None = None) -> Link:
    return Link(parse(url), password, Workers().start, breaker)


@pytest.fixture
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs may keep this machine busy. Where a test is not about failures, nothing may fail for that."""
    for name in ("PATIENCE_S", "_ANSWER_S", "_CONNECT_S", "_TLS_CONNECT_S"):
        monkeypatch.setattr(valkey_client, name, LIMIT_S)
    monkeypatch.setattr(valkey_engine, "_LEASE_MS", int(LIMIT_S * 1000))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """For all tests that change nothing but what is stored."""
    directory: Path = tmp_path_factory.mktemp("servers")
    with running("redis", directory) as redis, running("valkey", directory) as valkey:
        yield {"redis": redis, "valkey": valkey}


@pytest.fixture(params=["fake", *KINDS])
def place(request: pytest.FixtureRequest, _patience: None) -> Iterator[Place]:
    if request.param == "fake":
        yield FakePlace()
        return
    place = RealPlace(request.getfixturevalue("servers")[request.param])
    yield place
    place.close()


@pytest.fixture(params=KINDS)
def real(request: pytest.FixtureRequest, servers: dict[str, Server], _patience: None) -> Iterator[RealPlace]:
    place = RealPlace(servers[request.param])
    yield place
    place.close()
