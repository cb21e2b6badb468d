"""Random opens, reads, closes, stats and broken bodies, over a cache that is too small, against plain bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cambfs import waiters
from cambfs.cache.cache import Cache
from cambfs.names import RunId
from cambfs.remote import retry, store_trust
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library
from tests.fakes import FakeSource, Plan, Result, StorageManner, some_flac
from tests.waiting import context_of, deadline, eventually, library_of, our_threads, read_all

_SIZES = {1: 100, 2: 6000, 3: 9000}
_CONTENTS = {run_id: some_flac(size, seed=run_id) for run_id, size in _SIZES.items()}
_RUNS = st.sampled_from(sorted(_SIZES))
_PLACES = st.integers(0, max(_SIZES.values()) + 100)
# Small, so that streams, spans and parts meet each other all the time.
SHORT: dict[str, Any] = {
    "far_bytes": 500,
    "far_s": 0.0,
    "rate_after_s": 0.0,
    "span_bytes": 700,
    "nearly_bytes": 0,
    "linger_s": 0.0,
    "look_every_s": 0.002,
}
SMALL = {
    (waiters, "SLICE_S"): 0.002,
    (store_trust, "_PROOF_TAKES_S"): 0.01,
    (retry, "_FIRST_PAUSE_S"): 0.0005,
    (retry, "_LONGEST_PAUSE_S"): 0.001,
}


@dataclass(frozen=True)
class _Api:
    """How the API and the storage behave."""

    has_length: bool
    framed: bool
    etag: str | None
    ranges: bool
    storage: StorageManner
    piece_bytes: int
    cache_bytes: int


_APIS = st.builds(
    _Api,
    has_length=st.booleans(),
    framed=st.just(True),
    etag=st.sampled_from([None, '"a"']),
    ranges=st.booleans(),
    storage=st.sampled_from([m for m in StorageManner if m is not StorageManner.BUSY]),
    piece_bytes=st.sampled_from([37, 500, 4096]),
    cache_bytes=st.sampled_from([0, 5000, 9500, 100_000]),
)


class Results(RuleBasedStateMachine):
    """Every read is the slice, and every size is the length, in any state."""

    def __init__(self) -> None:
        super().__init__()
        self._patches = [patch.object(module, name, value) for (module, name), value in SMALL.items()]
        for one in self._patches:
            one.start()
        self._source = FakeSource()
        self._library: Library | None = None
        self._open: list[tuple[int, Handle]] = []

    @initialize(api=_APIS)
    def mount(self, api: _Api) -> None:
        self._source.storage = api.storage
        self._source.piece_bytes = api.piece_bytes
        for run_id, content in _CONTENTS.items():
            result = Result(
                content, has_length=api.has_length, etag=api.etag, ranges=api.ranges and api.etag is not None
            )
            self._source.add(run_id, result)
        self._library = library_of(self._source, Cache(None, api.cache_bytes), max_transfers=3, **SHORT)

    @property
    def library(self) -> Library:
        assert self._library is not None
        return self._library

    @precondition(lambda self: len(self._open) < 6)
    @rule(run_id=_RUNS)
    def open(self, run_id: int) -> None:
        self._open.append((run_id, self.library.open(RunId(run_id), deadline())))

    @precondition(lambda self: self._open)
    @rule(data=st.data(), places=st.lists(st.tuples(_PLACES, st.integers(0, 3000)), min_size=1, max_size=6))
    def read(self, data: st.DataObject, places: list[tuple[int, int]]) -> None:
        for offset, length in places:
            run_id, handle = data.draw(st.sampled_from(self._open))
            assert handle.read(offset, length, deadline()) == _CONTENTS[run_id][offset : offset + length]

    @rule(run_id=_RUNS, at_a_time=st.sampled_from([400, 5000]))
    def copy(self, run_id: int, at_a_time: int) -> None:
        assert read_all(self.library, run_id, at_a_time) == _CONTENTS[run_id]

    @precondition(lambda self: self._open)
    @rule(data=st.data())
    def size(self, data: st.DataObject) -> None:
        run_id, handle = data.draw(st.sampled_from(self._open))
        assert handle.size(deadline()) == _SIZES[run_id]

    @rule(run_id=_RUNS)
    def stat(self, run_id: int) -> None:
        assert self.library.wait_for_info(RunId(run_id), deadline()).size == _SIZES[run_id]

    @precondition(lambda self: self._open)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self._open))
        self._open.remove(one)
        one[1].close()

    @rule(run_id=_RUNS, kind=st.sampled_from(["stream", "stored"]), after=st.lists(st.integers(0, 6000), max_size=3))
    def break_bodies(self, run_id: int, kind: str, after: list[int]) -> None:
        self._source.plan(kind, run_id, *(Plan(break_after=count) for count in after))

    @rule()
    def let_signatures_expire(self) -> None:
        self._source.expire_signatures()

    @precondition(lambda self: not self._open)
    @rule()
    def rest(self) -> None:
        """All fetches have ended, and no file is open."""
        eventually(lambda: not our_threads())
        assert not self.library.in_use
        assert not context_of(self.library).cache.in_use

    def teardown(self) -> None:
        try:
            for _, handle in self._open:
                handle.close()
            if self._library is not None:
                eventually(lambda: not our_threads())
                assert not self.library.in_use
                self.library.close()
        finally:
            for one in self._patches:
                one.stop()


TestResults = Results.TestCase
TestResults.settings = settings(
    max_examples=300,
    stateful_step_count=25,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
