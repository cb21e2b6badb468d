"""The contents of the status files, parsed by independent readers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.shared.counts import Counts
from cambfs.shared.engine import EngineFull
from cambfs.status.counters import Counters
from cambfs.status.files import files
from cambfs.status.monitor import Monitor
from tests.fakes import FakeSource, Gate, Plan, Result, some_flac
from tests.waiting import deadline, library_of, read_all

SIZE = 20_000
CONTENT = some_flac(SIZE)


@dataclass(frozen=True)
class Down:
    origin: str = 'https://storage.test/"x"'
    is_open: bool = True
    reason: str = "refused"
    seconds_left: float = 2.5


FAILURES = [{"file": f"{number}.flac", "what": "no"} for number in range(30)]


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def library(source: FakeSource, counters: Counters, tmp_path: Path) -> Iterator[Library]:
    for run_id in (1, 2, 3):
        source.add(run_id, Result(CONTENT))
    cache = Cache(Disk(tmp_path / "cache"), 2 * SIZE)
    library = library_of(counters.source(source), cache, declared=[7])
    yield library
    library.close()


@pytest.fixture
def monitor(library: Library, counters: Counters) -> Monitor:
    return Monitor(library, counters, Path("/mnt/x"), "https://api.test", lambda: FAILURES, lambda: [Down()], lambda: 3)


def _json(monitor: Monitor) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files(monitor)["status.json"]())
    return found


def _samples(monitor: Monitor) -> dict[tuple[str, str], float]:
    families = text_string_to_metric_families(files(monitor)["metrics"]().decode())
    return {(sample.name, ",".join(sample.labels.values())): sample.value for one in families for sample in one.samples}


def test_a_mount_that_has_done_nothing(monitor: Monitor, source: FakeSource, tmp_path: Path) -> None:
    found = _json(monitor)
    assert (found["mount_point"], found["base_url"]) == ("/mnt/x", "https://api.test")
    assert abs(time.mktime(time.strptime(found["started"], "%Y-%m-%dT%H:%M:%SZ")) - time.mktime(time.gmtime())) < 60
    assert (found["transfers"], found["requests"], found["retries"]) == ([], {}, 0)
    cache = {"path": str(tmp_path / "cache"), "bytes": 0, "limit_bytes": 2 * SIZE, "results": 0}
    assert found["cache"] == {**cache, "hits": 0, "misses": 0, "evictions": 0, "trouble": ""}
    assert found["errors"] == FAILURES[-10:]
    assert found["tasks_awaited"] == _samples(monitor)["cambfs_tasks_awaited", ""] == 3
    assert source.requests == 0


def test_the_cache_is_counted(monitor: Monitor, library: Library) -> None:
    for run_id in (1, 2, 1, 3):  # for all three there is no room
        read_all(library, run_id)
        library.wait_until_kept(20)
    cache = _json(monitor)["cache"]
    assert (cache["results"], cache["bytes"]) == (2, 2 * SIZE)
    assert (cache["hits"], cache["misses"], cache["evictions"]) == (1, 3, 1)


def test_a_cache_in_memory_is_counted(source: FakeSource) -> None:
    source.add(1, Result(CONTENT))
    library = library_of(source, Cache(None, SIZE))
    read_all(library, 1)
    library.wait_until_kept(20)
    usage = library.cache_usage()
    assert (usage.path, usage.results, usage.bytes, usage.misses) == (None, 1, SIZE, 1)
    library.close()


def test_a_transfer_is_shown_while_it_goes_on(monitor: Monitor, library: Library, source: FakeSource) -> None:
    gate = Gate()
    source.plan("stream", 1, Plan(stall_at=5000, stall_gate=gate))
    handle = library.open(RunId(1), deadline())
    assert handle.read(0, 5000, deadline()) == CONTENT[:5000]
    [transfer] = _json(monitor)["transfers"]
    assert (transfer["run_id"], transfer["bytes"], transfer["size"]) == (1, 5000, SIZE)
    assert transfer["bytes_per_s"] > 0
    assert _samples(monitor)["cambfs_transfers", ""] == 1
    gate.open()
    handle.close()
    library.wait_until_kept(20)
    assert _json(monitor)["transfers"] == []


def test_the_metrics_are_what_prometheus_reads(monitor: Monitor, library: Library) -> None:
    read_all(library, 1)
    library.wait_until_kept(20)
    found = _samples(monitor)
    assert found["cambfs_requests_total", "stream,2xx"] == 1
    assert found["cambfs_received_bytes_total", ""] == SIZE
    assert found["cambfs_cache_results", ""] == 1
    assert found["cambfs_origin_down", Down.origin] == 1
    kinds = {one.name: one.type for one in text_string_to_metric_families(files(monitor)["metrics"]().decode())}
    assert kinds["cambfs_requests"] == kinds["cambfs_cache_hits"] == "counter"
    assert kinds["cambfs_cache_bytes"] == "gauge"
    assert set(kinds.values()) == {"counter", "gauge"}


def test_known_runs_are_a_line_each(monitor: Monitor, library: Library) -> None:
    read_all(library, 2)
    assert files(monitor)["known"]() == b"2\n7\n"


def test_the_shared_cache_is_described(library: Library, counters: Counters, monitor: Monitor) -> None:
    assert _json(monitor)["shared"] is None
    assert not any(name.startswith("cambfs_shared") for name, _ in _samples(monitor))
    shared = Counts("valkey://farm:6379")
    monitor = Monitor(library, counters, Path("/mnt/x"), "", list, shared=shared.usage)
    assert ("cambfs_shared_up", "") not in _samples(monitor)
    shared.add("followed", 2)
    shared.add("sent_bytes", 300)
    shared.note_down("refused")
    found = _json(monitor)["shared"]
    assert (found["address"], found["is_up"], found["reason"]) == ("valkey://farm:6379", False, "refused")
    assert (found["followed"], found["sent_bytes"]) == (2, 300)
    assert found["since"].endswith("Z")
    assert 0 <= found["for_s"] < 60
    samples = _samples(monitor)
    assert samples["cambfs_shared_up", ""] == 0
    assert samples["cambfs_shared_results_total", "followed"] == 2
    assert samples["cambfs_shared_sent_bytes_total", ""] == 300
    shared.note_up()
    samples = _samples(monitor)
    assert (samples["cambfs_shared_up", ""], samples["cambfs_shared_refuses", ""]) == (1, 0)
    assert _json(monitor)["shared"]["refused_ago_s"] is None
    shared.note_failure(EngineFull("full"))
    assert _samples(monitor)["cambfs_shared_refuses", ""] == 1
    assert 0 <= _json(monitor)["shared"]["refused_ago_s"] < 60
