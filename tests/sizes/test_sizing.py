"""`cambfs.sizes.sizing`: what two sources say of one result, put together."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cambfs.audio import End
from cambfs.cache.cache import Cache
from cambfs.disk.spool import Spool
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES, ObjectStore, Probe, Tail
from cambfs.runs.library import Library
from cambfs.sizes.completeness import Completeness
from cambfs.sizes.sizing import Sizing
from tests.fakes import some_flac
from tests.waiting import MakeLibrary, context_of

RUN = RunId(1)
CONTENT = some_flac(20_000)
_END_AT = len(CONTENT) - 1000


def test_the_heads_decide_once_both_are_known(make_library: MakeLibrary) -> None:
    """The object ends like the stream, and does not begin like it."""
    library: Library = make_library(Cache(None, 1 << 20))
    store = context_of(library).store
    store.trust.prove()
    sizing, spool = Sizing(RUN, store, None, is_unverified=False), Cache(None, 1 << 20).new_spool(RUN)
    spool.write(0, CONTENT)
    spool.filled.add(0, len(CONTENT))
    sizing.answered(Tail(_END_AT, len(CONTENT), CONTENT[_END_AT:], None, None))
    sizing.judge(spool)
    assert (sizing.matches_stream, sizing.stored_bytes) == (True, len(CONTENT))

    sizing.answered(Probe(len(CONTENT), bytes(HEAD_BYTES), End.WHOLE, ranges=True, etag=None, modified_s=None))
    assert sizing.judge(spool) is False
    assert sizing.stored_ranges is None
    spool.close()


@pytest.fixture
def spool() -> Iterator[Spool]:
    """All of CONTENT."""
    spool = Cache(None, 1 << 20).new_spool(RUN)
    spool.write(0, CONTENT)
    spool.filled.add(0, len(CONTENT))
    yield spool
    spool.close()


@pytest.fixture
def store(make_library: MakeLibrary) -> ObjectStore:
    library: Library = make_library(Cache(None, 1 << 20))
    store = context_of(library).store
    store.trust.prove()
    return store


def a_tail(total: int = len(CONTENT)) -> Tail:
    return Tail(_END_AT, total, CONTENT[_END_AT:total], None, None)


@pytest.mark.parametrize(("cut_off_bytes", "is_whole"), [(0, True), (100, False)])
def test_an_end_shows_that_an_object_is_whole(
    store: ObjectStore, spool: Spool, cut_off_bytes: int, is_whole: bool
) -> None:
    sizing = Sizing(RUN, store, None, is_unverified=False)
    sizing.answered(a_tail(len(CONTENT) - cut_off_bytes))
    assert not sizing.is_stored_whole, "not before the stream's head is here"
    sizing.judge(spool)
    assert sizing.is_stored_whole is is_whole


def test_an_end_where_a_response_ended_too_early_tells_no_size(store: ObjectStore, spool: Spool) -> None:
    for is_refuted in (False, True):
        sizing = Sizing(RUN, store, None, is_unverified=False)
        if is_refuted:
            sizing.refute(len(CONTENT))
        sizing.answered(a_tail())
        sizing.judge(spool)
        assert sizing.size == (None if is_refuted else len(CONTENT))


def test_another_machine_proves_an_end_there_and_nowhere_else(store: ObjectStore, spool: Spool) -> None:
    """Its proof says nothing of a response that ends earlier."""
    completeness = Completeness(RUN, Sizing(RUN, store, None, is_unverified=False))
    body: Any = SimpleNamespace(framed=False, is_stored=False)
    half = len(CONTENT) // 2
    completeness.attest(half, "framing+twice")

    assert not completeness.prove(spool, half - 1, body)
    assert completeness.prove(spool, half, body)
    assert completeness.proof == "framing+twice"


@pytest.mark.parametrize("end", End)
def test_no_range_may_reach_behind_the_audio(store: ObjectStore, spool: Spool, end: End) -> None:
    """Unless the API has told the length of the object, too."""
    sizing = Sizing(RUN, store, None, is_unverified=False)
    probe = Probe(len(CONTENT), CONTENT[:HEAD_BYTES], end, ranges=True, etag=None, modified_s=None)
    sizing.answered(probe)
    assert sizing.judge(spool) is True
    assert sizing.stored_ranges is (None if end in (End.PADDED, End.BROKEN) else probe)

    sizing.header(len(CONTENT), is_begun=True)
    assert sizing.stored_ranges is probe


@pytest.mark.parametrize("is_told", [False, True])
def test_a_zero_from_storage_is_proven_by_the_length_that_the_api_told(
    store: ObjectStore, spool: Spool, is_told: bool
) -> None:
    sizing, size = Sizing(RUN, store, None, is_unverified=False), len(CONTENT) + 1
    spool.write(len(CONTENT), bytes(1))
    spool.filled.add(len(CONTENT), size)
    sizing.answered(Probe(size, CONTENT[:HEAD_BYTES], End.PADDED, ranges=True, etag=None, modified_s=None))
    sizing.judge(spool)
    if is_told:
        sizing.header(size, is_begun=True)
    body: Any = SimpleNamespace(framed=True, is_stored=True)

    assert Completeness(RUN, sizing).prove(spool, size, body) is is_told


def test_a_probe_may_replace_the_end_while_another_thread_asks_for_the_size(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizing = Sizing(RUN, store, None, is_unverified=False)
    sizing.answered(Tail(_END_AT, len(CONTENT), CONTENT[_END_AT:], None, None))
    ends = iter([sizing.stored_end])
    monkeypatch.setattr(Sizing, "stored_end", property(lambda _: next(ends, None)), raising=False)

    assert sizing.expected_bytes == len(CONTENT)
