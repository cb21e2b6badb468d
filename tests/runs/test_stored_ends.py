"""Beside a stream, only the end of storage's object is asked for; and all of it where that is not enough."""

from __future__ import annotations

from contextlib import closing

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import BadResponse, CambfsError, RateLimited
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES, ObjectStore
from cambfs.remote.source import SignedUrl
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeBody, FakeSource, Gate, Plan, Result, some_flac
from tests.flac_files import make_flac
from tests.runs.results import RUN, breaks_when_told, open_run, stalls_at
from tests.waiting import (
    MakeLibrary,
    cached,
    context_of,
    deadline,
    eventually,
    in_thread,
    no_threads,
    our_threads,
    pieces,
    read_all,
    size_of,
)

SIZE = 50_000
CONTENT = some_flac(SIZE)
OTHER = some_flac(SIZE, seed=5)  # with as many samples
# Behind what `_stalled` lets through: with it the stream has the head and not the end.
_STALLED_AT = 5000
_END_BYTES = 1000


def _prove(source: FakeSource, library: Library, content: bytes | None = None) -> Library:
    """One result is compared. The ends of others are short, so that a stream has to go on until it is there."""
    source.add(999, Result(content or some_flac(5000, seed=999), has_length=False))
    assert size_of(library, 999) == len(source.results[999].content)
    eventually(no_threads)
    context_of(library).store._tail_bytes = _END_BYTES
    return library


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary, disk: Disk) -> Library:
    """Storage is proven in it."""
    return _prove(source, make_library(Cache(disk, 10 * SIZE)))


@pytest.fixture
def store(library: Library) -> ObjectStore:
    return context_of(library).store


@pytest.fixture
def stalled(source: FakeSource) -> Gate:
    """Run 1's stream waits behind its head."""
    source.piece_bytes = 1000
    source.add(1, Result(CONTENT, has_length=False))
    return stalls_at(source, _STALLED_AT)


def _asked(source: FakeSource, run_id: int = 1) -> list[int]:
    """Where the responses of storage began."""
    return sorted(source.starts("stored", run_id))


def test_the_end_beside_the_stream_tells_the_size(source: FakeSource, library: Library, stalled: Gate) -> None:
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        assert _asked(source) == [SIZE - _END_BYTES]
        assert context_of(library).store.trust.proven
        stalled.open()
        assert b"".join(pieces(handle)) == CONTENT
    eventually(lambda: cached(library) == [1, 999])

    assert _asked(source) == [SIZE - _END_BYTES]
    assert (source.count("stream", 1), source.count("sign", 1)) == (1, 1)


def test_many_unknown_results_copied_in_order(source: FakeSource, make_library: MakeLibrary) -> None:
    """As `cp *.flac` does: a stream and the end of an object for each, and the signatures in bulk."""
    count, contents = 300, [some_flac(5000 + seed, seed=seed) for seed in range(7)]
    library = _prove(source, make_library(declared=range(1, count + 1), read_ahead=4))
    for run_id in range(1, count + 1):
        source.add(run_id, Result(contents[run_id % 7], has_length=False))
    before = source.requests
    for run_id in range(1, count + 1):
        with closing(open_run(library, run_id)) as handle:
            eventually(lambda: "ahead" not in our_threads())
            assert handle.size(deadline()) == len(contents[run_id % 7])
            assert b"".join(pieces(handle)) == contents[run_id % 7]
    library.wait_until_kept(LIMIT_S)

    bulk = source.calls("bulk")
    assert source.requests - before - bulk <= 2.1 * count
    assert bulk <= count / 5 + 3


def test_a_bare_stat_asks_for_head_and_end(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))

    assert size_of(library, 1) == SIZE
    assert _asked(source) == [0, SIZE - _END_BYTES]


def test_a_zero_of_the_last_checksum_needs_no_stream(source: FakeSource, library: Library) -> None:
    source.add(1, Result(make_flac(5000, ends_in_zero=True), has_length=False))

    assert size_of(library, 1) == 5000
    assert source.count("stream", 1) == 0


def test_the_first_result_is_compared_by_its_head(source: FakeSource, make_library: MakeLibrary, stalled: Gate) -> None:
    """Storage that is not proven is asked for the head, also beside a stream."""
    library = make_library()
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        stalled.open()

    assert 0 in _asked(source)
    assert context_of(library).store.trust.proven


# What is wrong with the end.


def _longer() -> bytes:
    """With its head, and more frames behind it than that counts."""
    return CONTENT + some_flac(SIZE + 20_000, seed=2)[-20_000:]


@pytest.mark.parametrize(
    ("stored", "is_distrusted"),
    [
        (_longer(), False),
        (CONTENT[:30_000], False),
        (CONTENT + b"more", False),
        (CONTENT + bytes(700), False),
        (CONTENT + bytes(1), False),
        (some_flac(30_000, seed=5), True),
        (some_flac(70_000, seed=5), True),
    ],
    ids=[
        "longer",
        "shorter",
        "four bytes more",
        "zeros behind it",
        "a zero behind it",
        "another, shorter",
        "another, longer",
    ],
)
def test_another_length_is_never_the_size(
    stored: bytes, is_distrusted: bool, source: FakeSource, library: Library, stalled: Gate
) -> None:
    source.results[1].stored = stored
    with closing(open_run(library)) as handle:
        size = in_thread(lambda: handle.size(deadline()))
        eventually(lambda: 0 in _asked(source))
        assert library.info(RUN) is None
        stalled.open()
        assert size.result(LIMIT_S) == SIZE
        assert b"".join(pieces(handle)) == CONTENT
    eventually(lambda: cached(library) == [1, 999])

    assert context_of(library).store.trust.distrusted == is_distrusted
    assert source.count("stream", 1) == 1


@pytest.mark.parametrize(
    ("stored", "is_distrusted"),
    [(CONTENT[:-600] + OTHER[-600:], False), (OTHER, True)],
    ids=["another end", "another file"],
)
def test_an_end_of_other_bytes_is_compared_by_its_head(
    stored: bytes, is_distrusted: bool, source: FakeSource, library: Library, stalled: Gate
) -> None:
    """Its last frame has the last sample, so the size is that of both."""
    source.results[1].stored = stored
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        assert _asked(source) == [SIZE - _END_BYTES]
        stalled.open()
        assert b"".join(pieces(handle)) == CONTENT
    eventually(no_threads)

    assert _asked(source) == [0, SIZE - _END_BYTES, SIZE - _END_BYTES]
    assert context_of(library).store.trust.distrusted == is_distrusted


def test_an_end_that_comes_behind_the_streams_is_compared_too(source: FakeSource, library: Library) -> None:
    """Storage has another file, and nothing but this late response shows that."""
    gate = Gate()
    source.add(1, Result(CONTENT, has_length=False, stored=some_flac(30_000, seed=5)))
    source.plan("stored", 1, Plan(gate=gate))
    assert read_all(library, 1) == CONTENT
    gate.open()

    eventually(lambda: context_of(library).store.trust.distrusted)


def test_an_end_that_is_too_short_makes_the_next_ones_longer(
    source: FakeSource, library: Library, store: ObjectStore, stalled: Gate
) -> None:
    store._tail_bytes = 50
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        stalled.open()
    assert _asked(source)[0] == 0
    assert len(_asked(source)) == 4, "the end, the head, the end once more, and all of the last frame"
    gate = Gate()
    source.add(2, Result(OTHER, has_length=False))
    source.plan("stream", 2, Plan(stall_at=_STALLED_AT, stall_gate=gate))
    with closing(open_run(library, 2)) as handle:
        assert handle.size(deadline()) == SIZE
        assert len(_asked(source, 2)) == 1
        gate.open()


def test_results_that_count_no_samples_are_compared_by_their_heads(source: FakeSource, library: Library) -> None:
    """Nothing else shows that head and end are of one file. The first costs a request more, and the next ones none."""
    for run_id, requests in ((1, 3), (2, 2)):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id, counted=False), has_length=False))
        gate = Gate()
        source.plan("stream", run_id, Plan(stall_at=_STALLED_AT, stall_gate=gate))
        with closing(open_run(library, run_id)) as handle:
            assert handle.size(deadline()) == SIZE
            gate.open()
        assert len(_asked(source, run_id)) == requests
        assert 0 in _asked(source, run_id)


def test_a_storage_that_no_longer_counts_from_the_end(
    source: FakeSource, library: Library, stalled: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_stored, refused = FakeSource.open_stored, []

    def refuse(source: FakeSource, signed: SignedUrl, start: int, stop: int | None) -> FakeBody:
        if start < 0:
            refused.append(start)
            raise BadResponse("storage says 400", 400)
        return open_stored(source, signed, start, stop)

    monkeypatch.setattr(FakeSource, "open_stored", refuse)
    source.add(2, Result(OTHER, has_length=False))
    for run_id in (1, 2):
        with closing(open_run(library, run_id)) as handle:
            assert handle.size(deadline()) == SIZE
            stalled.open()
        assert len(_asked(source, run_id)) == 2
    assert len(refused) == 1


def test_an_object_that_is_gone_says_nothing_about_ranges(source: FakeSource, library: Library, stalled: Gate) -> None:
    source.plan_always("stored", 1, Plan(error=BadResponse("storage says 404", 404)))
    stalled.open()
    assert read_all(library, 1) == CONTENT

    assert context_of(library).store.ends_suffice


def test_a_url_that_has_expired_is_signed_once_more(source: FakeSource, library: Library, stalled: Gate) -> None:
    library.signature(RUN, deadline())
    source.expire_signatures()
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        stalled.open()

    assert (source.count("sign", 1), source.count("stored", 1)) == (2, 2)


# What is wrong with the stream.


def test_a_stream_that_ends_early(source: FakeSource, library: Library) -> None:
    """Its end is not the object's: that is compared by its head, and the API is asked again."""
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(end_at=30_000))

    assert read_all(library, 1) == CONTENT
    assert size_of(library, 1) == SIZE
    assert 0 in _asked(source)
    assert not context_of(library).store.trust.distrusted


def test_a_stream_that_ends_late(source: FakeSource, library: Library) -> None:
    """It was sent twice in one. The reader gets an error, or the bytes."""
    source.add(1, Result(CONTENT, has_length=False))
    source.plan("stream", 1, Plan(content=CONTENT + CONTENT))
    try:
        assert read_all(library, 1) == CONTENT
    except CambfsError:
        assert read_all(library, 1) == CONTENT

    assert size_of(library, 1) == SIZE
    assert not context_of(library).store.trust.distrusted


def test_a_stream_that_breaks_is_continued_from_storage(source: FakeSource, library: Library) -> None:
    """Which needs the head, because the end was not compared yet."""
    source.add(1, Result(CONTENT, has_length=False))
    gate = breaks_when_told(source)
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        assert _asked(source) == [SIZE - _END_BYTES]
        gate.open()
        assert b"".join(pieces(handle)) == CONTENT

    assert source.count("stream", 1) == 1
    assert set(_asked(source)) == {0, SIZE - _END_BYTES, 30_000 - HEAD_BYTES}


@pytest.mark.tuning(far_bytes=1000, far_s=0.0, rate_after_s=0.0)
def test_a_read_far_ahead_waits_for_the_head(source: FakeSource, library: Library, stalled: Gate) -> None:
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        assert 0 not in _asked(source)
        assert handle.read(30_000, 1000, deadline()) == CONTENT[30_000:31_000]
        assert 0 in _asked(source)
        stalled.open()


@pytest.mark.tuning(probe_takes_s=0.01)
def test_a_stream_that_brings_nothing_does_not_hold_up_a_stat(source: FakeSource, library: Library) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = stalls_at(source, 0)
    with closing(open_run(library)) as handle:
        assert handle.size(deadline()) == SIZE
        assert source.sent("stream", 1) == 0
        gate.open()


@pytest.mark.tuning(probe_takes_s=0.01, stalled_after_s=1000.0)
def test_a_stream_that_waits_for_its_turn_does_not_hold_up_a_stat(
    source: FakeSource, make_library: MakeLibrary, stalled: Gate
) -> None:
    library = _prove(source, make_library(max_transfers=1))
    source.add(2, Result(OTHER, has_length=False))
    with closing(open_run(library)):
        opening = in_thread(lambda: open_run(library, 2))
        eventually(lambda: RunId(2) in library.in_use)
        assert size_of(library, 2) == SIZE
        assert source.count("stream", 2) == 0
        stalled.open()
    opening.result(LIMIT_S).close()


@pytest.mark.tuning(end_takes_s=1000.0)
def test_a_stream_that_breaks_while_the_end_is_under_way(source: FakeSource, library: Library) -> None:
    """The end is not enough to go on from storage, so all that it knows is asked for next."""
    source.add(1, Result(CONTENT, has_length=False))
    breaks, end = breaks_when_told(source), Gate()
    source.plan("stored", 1, Plan(gate=end))
    with closing(open_run(library)) as handle:
        reading = in_thread(lambda: b"".join(pieces(handle)))
        end.wait_for_arrivals()
        breaks.open()
        eventually(lambda: source.sent("stream", 1) == 30_000)
        end.open()
        assert reading.result(LIMIT_S) == CONTENT

    assert source.count("stream", 1) == 1


def test_a_caller_asks_again_for_an_end_that_was_put_off_ahead(source: FakeSource, make_library: MakeLibrary) -> None:
    """The API was busy. The stream goes on, and takes long."""
    library = _prove(source, make_library(declared=range(1, 6), read_ahead=4))
    context_of(library).signer._bulk = False
    for run_id in range(1, 6):
        source.add(run_id, Result(some_flac(SIZE, seed=run_id), has_length=False))
    source.piece_bytes = 1000
    stream, sign = Gate(), Gate()
    source.plan("stream", 3, Plan(stall_at=_STALLED_AT, stall_gate=stream))
    source.plan("sign", 3, Plan(gate=sign, error=RateLimited("later", 429, 0.01)))
    for run_id in (1, 2):
        read_all(library, run_id)
    stream.wait_for_arrivals()
    sign.open()
    eventually(lambda: "size-3" not in our_threads())

    with closing(open_run(library, 3)) as handle:
        assert handle.size(deadline()) == SIZE
        assert source.count("sign", 3) == 2
        stream.open()
