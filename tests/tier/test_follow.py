"""One body that reads another machine's log: what it takes for the end, and what not."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from threading import Event
from types import SimpleNamespace

import pytest

from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.shared.counts import Counts
from cambfs.shared.engine import LEASE_S, Page
from cambfs.tier import follow
from cambfs.tier.follow import SharedBody
from cambfs.tier.seals import Facts, Frames, Header, new_upload, seal_facts
from cambfs.tier.tier import Tier
from tests.fakes import LIMIT_S
from tests.shared.fakes import FakeEngine, FakeServer
from tests.waiting import eventually, in_thread

KEY, RUN, TOKEN = b"k" * 32, RunId(1), b"t"
DATA = b"fLaC and so on"


class Log:
    """That of another machine, which holds the lease."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self._frames = Frames(KEY, RUN)
        self.header = Header(new_upload(), "audio/flac", None, None, False, None)
        assert engine.lease(RUN, TOKEN)
        assert engine.append(RUN, TOKEN, 0, self._frames.seal_header(self.header))

    def append(self, data: bytes, engine: FakeEngine | None = None) -> None:
        offset = self._frames.offset
        assert (engine or self._engine).append(RUN, TOKEN, offset, self._frames.seal(data))

    def facts(self, **changed: str) -> bytes:
        whole = {"upload": self.header.upload, "sha256": hashlib.sha256(DATA).hexdigest(), "proof": "framing+frames"}
        return seal_facts(KEY, RUN, Facts(len(DATA), 7, "audio/flac", **{**whole, **changed}))


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def log(engine: FakeEngine) -> Log:
    return Log(engine)


@pytest.fixture
def heard() -> list[tuple[RunInfo, str]]:
    return []


@pytest.fixture
def body(engine: FakeEngine, log: Log, heard: list[tuple[RunInfo, str]]) -> SharedBody:  # noqa: ARG001
    tier = Tier(engine, KEY, 1 << 20, Counts("fake://"))
    opened = tier.open(RUN, 0, lambda info, proof: heard.append((info, proof)), Event(), LIMIT_S)
    assert isinstance(opened, SharedBody)
    return opened


def read_all(body: SharedBody) -> bytes:
    return b"".join(iter(lambda: body.read(4), b""))


INFO = RunInfo(len(DATA), 7)


def test_whole_facts_are_the_end(
    engine: FakeEngine, log: Log, body: SharedBody, heard: list[tuple[RunInfo, str]]
) -> None:
    log.append(DATA)
    assert engine.finish(RUN, TOKEN, log.facts())

    assert read_all(body) == DATA
    assert (body.stop, heard[-1]) == (None, (INFO, "framing+frames"))


@pytest.mark.parametrize(
    "changed",
    [{"sha256": "0" * 64}, {"upload": new_upload()}, {"proof": ""}, {"sha256": "", "proof": ""}],
    ids=["another sha256", "another upload", "no proof", "told before the end"],
)
def test_other_facts_are_none(
    engine: FakeEngine, log: Log, body: SharedBody, heard: list[tuple[RunInfo, str]], changed: dict[str, str]
) -> None:
    log.append(DATA)
    assert engine.finish(RUN, TOKEN, log.facts(**changed))

    assert read_all(body) == DATA
    assert body.stop == len(DATA), "a part"
    assert all(not proof for _, proof in heard)


def test_facts_that_are_told_are_heard_before_the_end(
    engine: FakeEngine, log: Log, body: SharedBody, heard: list[tuple[RunInfo, str]]
) -> None:
    log.append(DATA[:4])
    assert engine.tell(RUN, TOKEN, log.facts(sha256="", proof=""))
    assert body.read(100) == DATA[:4]
    assert heard == [(INFO, "")]


def ends(engine: FakeEngine) -> None:
    engine.release(RUN, TOKEN)


def is_cut_off(engine: FakeEngine) -> None:
    engine.is_cut_off = True


def loses_it(engine: FakeEngine) -> None:
    engine.server.evict(RUN)


def has_other_bytes(engine: FakeEngine) -> None:
    assert engine.append(RUN, TOKEN, 0, b"x" * 2000)


@pytest.fixture
def _no_lapse(engine: FakeEngine, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """The other machine has the lease for ever, and is waited for as long."""
    monkeypatch.setattr(follow, "LEASE_S", 10 * LIMIT_S)
    engine.server.clock = lambda: 0.0


@pytest.mark.usefixtures("_no_lapse")
@pytest.mark.parametrize("happens", [ends, is_cut_off, loses_it, has_other_bytes])
def test_a_log_that_ends_early_is_a_part(
    engine: FakeEngine,
    log: Log,
    body: SharedBody,
    happens: Callable[[FakeEngine], None],
) -> None:
    log.append(DATA)
    assert body.read(4) + body.read(100) == DATA
    happens(engine)

    assert in_thread(lambda: body.read(4)).result(LIMIT_S) == b""
    assert (body.stop, body.total) == (len(DATA), None)


def test_a_machine_that_has_the_lease_and_adds_nothing_is_not_waited_for(
    engine: FakeEngine, log: Log, body: SharedBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LEASE_S", 0.1)
    engine.server.clock = lambda: 0.0  # the lease never lapses
    log.append(DATA)
    assert body.read(100) == DATA

    assert in_thread(lambda: body.read(4)).result(LIMIT_S) == b""
    assert body.stop == len(DATA)


def test_a_machine_that_is_slow_is_followed_as_long_as_it_adds_something(
    engine: FakeEngine, log: Log, body: SharedBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=lambda: now))
    engine.server.clock = lambda: 0.0
    for piece in (b"one", b"two"):
        log.append(piece)
        assert body.read(100) == piece
        now += 0.6 * LEASE_S
    read, looks = in_thread(lambda: body.read(100)), engine.server.calls["read"]
    eventually(lambda: engine.server.calls["read"] > looks + 2 or read.done())
    log.append(b"three")

    assert read.result(LIMIT_S) == b"three"


@pytest.mark.usefixtures("_no_lapse")
def test_close_ends_a_wait(log: Log, body: SharedBody) -> None:
    log.append(DATA)
    assert body.read(100) == DATA
    read = in_thread(lambda: body.read(4))
    body.close()

    assert read.result(LIMIT_S) == b""


def test_the_rate_of_another_machine_is_that_of_the_last_seconds(
    engine: FakeEngine, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there at the beginning does not count."""
    now = [1000.0]
    monkeypatch.setattr(follow, "time", SimpleNamespace(monotonic=lambda: now[0]))
    rates: list[float] = []

    def note(bytes_per_s: float) -> bool:
        rates.append(bytes_per_s)
        return len(rates) < 2

    tier = Tier(engine, KEY, 1 << 20, Counts("fake://"))
    log.append(bytes(5000))
    body = tier.open(RUN, 0, lambda *_: None, Event(), LIMIT_S, note)
    assert isinstance(body, SharedBody)
    sizes = iter([900, 0, 300, 0])

    def wait(_: float) -> None:
        now[0] += follow._WINDOW_S / 2
        if size := next(sizes):
            log.append(bytes(size))

    monkeypatch.setattr(body, "_closed", SimpleNamespace(is_set=lambda: False, wait=wait))
    came = len(b"".join(iter(lambda: body.read(1 << 20), b"")))
    assert rates == [300.0, 100.0]
    assert (came, body.stop, body.total) == (6200, 6200, None)


class MovingEngine(FakeEngine):
    """While a cluster moves the run, a read gets its data from one node, and its facts a moment later from another."""

    def __init__(self, server: FakeServer, meanwhile: Callable[[], None]) -> None:
        super().__init__(server)
        self.meanwhile = meanwhile
        self.moves = False

    def read(self, run_id: RunId, offset: int, most_bytes: int) -> Page:
        page = super().read(run_id, offset, most_bytes)
        if self.moves and not page.data:
            self.moves = False
            self.meanwhile()
            page = replace(page, facts=super().read(run_id, offset, most_bytes).facts)
        return page


def test_facts_that_are_newer_than_the_data_drop_no_log(engine: FakeEngine, log: Log) -> None:
    def complete() -> None:
        log.append(DATA[4:])
        assert engine.finish(RUN, TOKEN, log.facts())

    moving = MovingEngine(engine.server, complete)
    log.append(DATA[:4])
    tier = Tier(moving, KEY, 1 << 20, Counts("fake://"))
    body = tier.open(RUN, 0, lambda *_: None, Event(), LIMIT_S)
    assert isinstance(body, SharedBody)
    assert body.read(99) == DATA[:4]

    moving.moves = True
    assert read_all(body) == DATA[4:]
    assert not moving.moves
    assert engine.read(RUN, 0, 1).data
