"""Several mounts with one shared tier: who asks the API, and what the others do without it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from cambfs.cache.cache import Cache
from cambfs.errors import ResultChanged, UnknownRun, Unreachable
from cambfs.intake.content import Content
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.shared.counts import Counts
from cambfs.sizes.sizing import UNKNOWN_TIME_NS, Sizing
from cambfs.tier import follow, upload
from cambfs.tier.run_log import Account, RunLog
from cambfs.tier.seals import FRAME_BYTES
from cambfs.tier.tier import Tier
from cambfs.transfers import transfer
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner, some_flac
from tests.runs.results import CONTENT, OTHER, RUN, SIZE, UNCOUNTED, open_run, read_at, stalls_at
from tests.shared.fakes import FakeEngine, FakeServer
from tests.tier.test_follow import Log
from tests.waiting import MakeLibrary, cached, context_of, deadline, eventually, in_thread, read_all, size_of

KEY = b"k" * 32
Mount = Callable[..., Library]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def mount(make_library: MakeLibrary, server: FakeServer) -> Mount:
    """Another mount with the same tier."""

    def new(engine: FakeEngine | None = None, **options: object) -> Library:
        shared = Tier(engine or FakeEngine(server), KEY, int(str(options.pop("most", 1 << 26))), Counts("fake://"))
        return make_library(Cache(None, 1 << 26), shared=shared, **options)

    return new


@pytest.fixture
def _short_lease(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    """A lease of a second, here and in the engine."""
    monkeypatch.setattr(upload, "_RENEW_AFTER_S", 0.1)
    monkeypatch.setattr(follow, "LEASE_S", 1.0)
    clock = server.clock
    server.clock = lambda: 3 * clock()


def settled(*libraries: Library) -> None:
    for library in libraries:
        library.wait_until_kept(LIMIT_S)


def test_a_result_is_fetched_once_and_kept_by_all(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    first, second = mount(), mount()

    assert read_all(first, 1) == CONTENT
    settled(first)
    requests = source.requests
    assert read_all(second, 1) == CONTENT
    settled(second)
    assert source.requests == requests
    assert cached(second) == [RUN]
    assert second.wait_for_info(RUN, deadline()) == first.wait_for_info(RUN, deadline())


def test_what_is_being_fetched_is_read_as_it_comes(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    gate = Gate()
    source.plan("stream", 1, Plan(stall_at=SIZE // 2, stall_gate=gate))
    first, second = mount(), mount()
    with open_run(first) as one, open_run(second) as two:
        assert two.read(0, 1000, deadline()) == CONTENT[:1000]
        assert two.read(SIZE // 2 - 1000, 1000, deadline()) == CONTENT[SIZE // 2 - 1000 : SIZE // 2]
        gate.open()
        assert two.read(0, SIZE + 1, deadline()) == one.read(0, SIZE + 1, deadline()) == CONTENT
    settled(first, second)
    assert source.count("stream") == 1
    assert cached(second) == [RUN]


@pytest.mark.parametrize("has_length", [True, False])
def test_many_that_begin_together_ask_once(source: FakeSource, mount: Mount, has_length: bool) -> None:
    runs = range(1, 6)
    for run_id in runs:
        source.add(run_id, Result(CONTENT, has_length=has_length))
    mounts = [mount() for _ in range(6)]
    reads = [in_thread(partial(read_all, one, run_id)) for run_id in runs for one in mounts]

    assert all(read.result(LIMIT_S) == CONTENT for read in reads)
    settled(*mounts)
    assert [source.count("stream", run_id) for run_id in runs] == [1] * len(runs)
    assert {tuple(sorted(cached(one))) for one in mounts} == {tuple(runs)}
    assert source.count("sign") < len(runs) * len(mounts), "a follower is told the size"


def test_it_is_fetched_without_the_tier_when_the_engine_is_down(
    source: FakeSource, mount: Mount, server: FakeServer
) -> None:
    server.is_down = True
    source.add(1, Result(CONTENT))

    assert read_all(mount(), 1) == read_all(mount(), 1) == CONTENT
    assert source.count("stream") == 2


def test_a_listing_of_what_a_colleague_has_fetched_costs_no_request(
    source: FakeSource, mount: Mount, server: FakeServer
) -> None:
    runs = list(range(1, 301))
    for run_id in runs:
        source.add(run_id, Result(CONTENT[: SIZE // 100] if run_id % 2 else OTHER[: SIZE // 100]))
    colleague, other = mount(), mount(declared=runs)
    for run_id in runs:
        colleague.open(RunId(run_id), deadline()).close()
    settled(colleague)
    requests = source.requests
    listed = other.begin_listing()

    assert [size_of(other, run_id) for run_id in listed] == [SIZE // 100] * len(runs)
    assert source.requests == requests
    assert server.calls["facts"] == 2


def test_a_run_that_the_tier_does_not_know_is_asked_for_once(
    source: FakeSource, mount: Mount, server: FakeServer
) -> None:
    source.add(1, Result(CONTENT))
    library = mount()

    assert size_of(library, 1) == size_of(library, 1) == SIZE
    assert server.calls["facts"] == 1


def test_the_bytes_of_another_machine_say_nothing_of_the_link_to_the_api(
    source: FakeSource, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = some_flac(3 * transfer._PIECE_BYTES)
    source.add(1, Result(content, etag='"e"', ranges=True))
    first, second = mount(), mount(rate_after_s=0.0)
    assert read_all(first, 1) == content
    settled(first)
    context, received = context_of(second), list[int]()
    monkeypatch.setattr(context.slots.link, "received", received.append)
    monkeypatch.setattr(context.slots.link, "outpaces", lambda *_: True)

    assert read_all(second, 1) == content
    settled(second)
    assert (received, context.api.bytes_per_s) == ([], None)
    assert context.shared is not None
    assert context.shared.usage().hits == 1, "it was not left for a faster connection"


# When another machine stops.


@pytest.fixture
def half(source: FakeSource) -> Gate:
    """Run 1's first stream brings half of it, and the rest when the gate opens."""
    source.add(1, Result(CONTENT))
    return stalls_at(source, SIZE // 2)


def await_half(*libraries: Library) -> None:
    """Until half of run 1 is there, in the engine and in all of these mounts."""

    def is_there(library: Library) -> bool:
        arrived = library.arrived(RUN)
        return arrived is not None and arrived.received >= SIZE // 2

    eventually(lambda: all(is_there(library) for library in libraries))


def is_shared(source: FakeSource, mount: Mount) -> bool:
    """Whether a mount that comes later reads all of run 1 without a request."""
    requests = source.requests
    library = mount()
    assert read_all(library, 1) == CONTENT
    settled(library)
    return source.requests == requests


def test_another_takes_over_from_one_that_wants_no_more(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    source.storage = StorageManner.UNREACHABLE
    source.piece_bytes = 1000
    gate = stalls_at(source, SIZE // 4)
    first, second = mount(nearly_bytes=0), mount()
    one, two = open_run(first), open_run(second)
    gate.wait_for_arrivals()
    one.close()
    gate.open()
    with two:
        assert read_at(two, 0, SIZE + 1) == CONTENT
    settled(first, second)
    assert source.count("stream") == 2
    assert is_shared(source, mount)


@pytest.mark.parametrize("use", ["stat", "open"])
def test_another_takes_over_from_one_that_lingers(
    source: FakeSource, mount: Mount, server: FakeServer, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setattr(follow, "LEASE_S", 10 * LIMIT_S)
    server.clock = lambda: 0.0  # the lease never lapses
    source.add(1, Result(CONTENT))
    source.piece_bytes = 1000
    first, second = mount(linger_s=10 * LIMIT_S, unopened_looks=1, nearly_bytes=0), mount()
    if use == "stat":
        assert size_of(first, 1) == SIZE
    else:
        open_run(first).close()
    assert in_thread(partial(read_all, second, 1)).result(LIMIT_S) == CONTENT
    assert source.count("stream") == 2


@pytest.mark.usefixtures("_short_lease")
def test_another_takes_over_from_one_that_is_gone(
    source: FakeSource, mount: Mount, server: FakeServer, half: Gate
) -> None:
    engine, source.storage = FakeEngine(server), StorageManner.UNREACHABLE
    first, second = mount(engine), mount()
    with open_run(first), open_run(second) as two:
        await_half(first, second)
        engine.is_cut_off = True
        assert read_at(two, 0, SIZE + 1) == CONTENT
        assert source.count("stream") == 2
        settled(second)
        assert is_shared(source, mount)
        half.open()


@pytest.mark.usefixtures("_short_lease")
@pytest.mark.parametrize("ranges", [True, False])
def test_another_takes_over_from_one_whose_response_stalls(source: FakeSource, mount: Mount, ranges: bool) -> None:
    source.add(1, Result(CONTENT, etag='"e"', ranges=ranges))
    gate = stalls_at(source, SIZE // 2)
    first, second = mount(), mount()
    with open_run(first) as one, open_run(second) as two:
        await_half(first, second)
        assert read_at(two, 0, SIZE + 1) == CONTENT
        assert source.starts("stream", 1) == [0, SIZE // 2 if ranges else 0]
        gate.open()
        assert read_at(one, 0, SIZE + 1) == CONTENT
    settled(first, second)
    assert is_shared(source, mount)


def test_a_response_that_breaks_is_resumed_by_the_same_machine(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    source.storage = StorageManner.UNREACHABLE
    source.plan("stream", 1, Plan(break_after=SIZE // 2))
    first, second = mount(), mount()
    reads = [in_thread(partial(read_all, one, 1)) for one in (first, second)]

    assert [read.result(LIMIT_S) for read in reads] == [CONTENT] * 2
    settled(first, second)
    assert source.count("stream") == 2
    assert is_shared(source, mount)


def test_a_machine_that_adds_nothing_is_not_followed_for_ever(
    source: FakeSource, mount: Mount, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LEASE_S", 0.1)
    server.clock = lambda: 0.0  # its lease never lapses
    Log(FakeEngine(server)).append(CONTENT[:1000])
    source.add(1, Result(CONTENT))
    assert in_thread(partial(read_all, mount(), 1)).result(LIMIT_S) == CONTENT


def test_a_machine_does_not_follow_itself(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    source.storage = StorageManner.UNREACHABLE
    source.plan("stream", 1, Plan(break_after=SIZE // 2))
    library = mount()
    assert read_all(library, 1) == CONTENT
    settled(library)
    shared = context_of(library).shared
    assert shared is not None
    usage = shared.usage()
    assert (usage.led, usage.followed, usage.hits, usage.sent_bytes) == (1, 0, 0, SIZE)


@pytest.mark.usefixtures("_short_lease")
def test_the_others_wait_for_the_first_response_to_one(source: FakeSource, mount: Mount, server: FakeServer) -> None:
    gate = Gate()
    source.add(1, Result(CONTENT))
    source.plan("stream", 1, Plan(gate=gate))
    first, second = mount(), mount()
    reads = [in_thread(partial(read_all, one, 1)) for one in (first, second)]
    eventually(lambda: server.calls.get("append", 0) > 12)  # the lease has been renewed for longer than it holds
    gate.open()
    assert [read.result(LIMIT_S) for read in reads] == [CONTENT] * 2
    assert source.count("stream") == 1


def test_what_a_colleague_has_fetched_is_read_while_the_api_is_down(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    first, second = mount(), mount()
    assert read_all(first, 1) == CONTENT
    settled(first)
    for kind in ("stream", "sign", "stored"):
        source.plan_always(kind, 1, Plan(error=Unreachable("no route")))
    assert size_of(second, 1) == SIZE
    assert read_all(second, 1) == CONTENT


def test_an_unknown_run_keeps_no_lease(source: FakeSource, mount: Mount, server: FakeServer) -> None:
    for library in (mount(), mount()):
        with pytest.raises(UnknownRun):
            open_run(library)
        settled(library)
    assert source.count("stream") == 2
    assert server.calls["release"] == 2


# When the engine fails, loses or changes what it has.


def half_read(mount: Mount, then: Callable[[], object], gate: Gate) -> tuple[Library, Library]:
    """Two mounts read run 1; `then` happens when both have half of it."""
    first, second = mount(), mount()
    with open_run(first) as one, open_run(second) as two:
        await_half(first, second)
        then()
        gate.open()
        reads = [in_thread(partial(read_at, handle, 0, SIZE + 1)) for handle in (one, two)]
        assert [read.result(LIMIT_S) for read in reads] == [CONTENT] * 2
    settled(first, second)
    assert cached(first) == cached(second) == [RUN]
    return first, second


def goes_down(server: FakeServer) -> None:
    server.is_down = True


def freezes(server: FakeServer) -> None:
    server.is_frozen = True


def is_full(server: FakeServer) -> None:
    server.is_full = True


def restarts(server: FakeServer) -> None:
    server.restart()


def loses_the_log(server: FakeServer) -> None:
    server.evict(RUN, "s0")


def loses_all(server: FakeServer) -> None:
    server.evict(RUN)


def is_poisoned(server: FakeServer) -> None:
    server.poison()


FAILURES = [goes_down, freezes, is_full, restarts, loses_the_log, loses_all, is_poisoned]


@pytest.mark.parametrize("happens", FAILURES)
def test_readers_notice_nothing_of_an_engine_that_fails_between(
    source: FakeSource, mount: Mount, server: FakeServer, half: Gate, happens: Callable[[FakeServer], None]
) -> None:
    half_read(mount, partial(happens, server), half)

    assert source.count("stream") <= 2


@pytest.mark.parametrize("happens", FAILURES)
def test_readers_notice_nothing_of_an_engine_that_fails_before(
    source: FakeSource, mount: Mount, server: FakeServer, happens: Callable[[FakeServer], None]
) -> None:
    source.add(1, Result(CONTENT))
    first, second = mount(), mount()
    happens(server)
    assert read_all(first, 1) == CONTENT
    settled(first)
    happens(server)
    assert read_all(second, 1) == CONTENT
    settled(second)
    assert source.count("stream") <= 2
    assert size_of(mount(), 1) == SIZE


def test_a_log_that_is_lost_is_begun_anew_without_another_request(
    source: FakeSource, mount: Mount, server: FakeServer, half: Gate
) -> None:
    source.storage = StorageManner.UNREACHABLE
    half_read(mount, partial(loses_the_log, server), half)

    assert source.count("stream") == 1
    assert is_shared(source, mount)


@pytest.mark.parametrize("lost", ["s0", "s1", "s6", "f"])
def test_a_finished_result_that_has_lost_a_part_is_read_and_mended(
    source: FakeSource, mount: Mount, server: FakeServer, lost: str
) -> None:
    source.add(1, Result(CONTENT))
    first = mount(FakeEngine(server, string_bytes=SIZE // 6))
    assert read_all(first, 1) == CONTENT
    settled(first)
    server.evict(RUN, lost)
    second = mount(FakeEngine(server, string_bytes=SIZE // 6))
    assert read_all(second, 1) == CONTENT
    settled(second)
    assert source.count("stream") == 2
    third = mount(FakeEngine(server, string_bytes=SIZE // 6))
    assert read_all(third, 1) == CONTENT
    assert source.count("stream") == 2


def test_one_changed_bit_is_noticed_logged_once_and_mended(
    source: FakeSource, mount: Mount, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    source.add(1, Result(CONTENT))
    first, second = mount(), mount()
    assert read_all(first, 1) == CONTENT
    settled(first)
    server.damage(RUN, SIZE // 2)
    with caplog.at_level(logging.WARNING):
        assert read_all(second, 1) == CONTENT
    settled(second)
    assert [record.message for record in caplog.records if "shared cache" in record.message] == [
        "run 1: the frame at byte 189 is not what was put there; dropped from the shared cache; "
        "check which other programs may write there"
    ]
    assert source.count("stream") == 2
    assert is_shared(source, mount)


def test_a_log_with_other_bytes_is_replaced(source: FakeSource, mount: Mount, server: FakeServer, half: Gate) -> None:
    engine = FakeEngine(server)
    first = mount(engine)
    with open_run(first):
        await_half(first)
        eventually(lambda: server.calls.get("append", 0) > 1)
        engine.is_cut_off = True
        source.add(1, Result(OTHER))
        server.evict(RUN, "l")
        second = mount()
        assert read_all(second, 1) == OTHER
        settled(second)
        half.open()
    third = mount()
    assert read_all(third, 1) == OTHER
    assert source.count("stream") == 2


@pytest.mark.parametrize("has_length", [True, False])
def test_large_results_are_not_shared(source: FakeSource, mount: Mount, server: FakeServer, has_length: bool) -> None:
    source.add(1, Result(CONTENT, has_length=has_length))
    first, second = mount(most=SIZE // 2), mount(most=SIZE // 2)
    assert read_all(first, 1) == read_all(second, 1) == CONTENT
    settled(first, second)
    assert source.count("stream") == 2
    assert server.calls["append"] > 0, "others are told that it is too large"
    assert server.calls.get("finish", 0) == 0


def test_what_another_machine_has_proven_needs_no_proof_here(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(UNCOUNTED, has_length=False))
    first, second = mount(), mount()
    assert read_all(first, 1) == UNCOUNTED
    settled(first)
    assert cached(first) == [RUN], "storage has confirmed its end, which the audio does not show"
    for kind in ("stream", "sign", "stored"):
        source.plan_always(kind, 1, Plan(error=Unreachable("no route")))
    assert read_all(second, 1) == UNCOUNTED
    settled(second)
    assert cached(second) == [RUN]
    shared = context_of(second).shared
    assert shared is not None
    assert shared.usage().hits == 1, "a second response would prove the end, too"


def test_bytes_that_turn_out_to_be_of_another_result_are_removed(
    source: FakeSource, mount: Mount, server: FakeServer
) -> None:
    source.add(1, Result(CONTENT, etag='"old"'))
    source.plan("stream", 1, Plan(break_after=SIZE // 2))
    gate = Gate()
    source.plan("stream", 1, Plan(gate=gate))
    library = mount()
    with open_run(library) as handle:
        eventually(lambda: FakeEngine(server).read(RUN, 0, 1000).data)
        source.add(1, Result(OTHER, etag='"new"'))
        gate.open()
        with pytest.raises(ResultChanged):
            read_at(handle, 0, SIZE + 1)
    settled(library)
    assert FakeEngine(server).read(RUN, 0, 1).data == b""


def test_what_storage_told_is_no_fact_of_the_stream(source: FakeSource, mount: Mount, server: FakeServer) -> None:
    """A range from storage goes on with a stream that another machine has begun."""
    source.add(1, Result(CONTENT))
    engine = FakeEngine(server)
    first, second = mount(engine), mount()
    gate = stalls_at(source, SIZE // 2)
    with open_run(first), open_run(second) as two:
        await_half(first, second)
        engine.is_cut_off = True
        server.evict(RUN)
        server.evict(RUN, "l")
        assert read_at(two, 0, SIZE + 1) == CONTENT
        gate.open()
    settled(first, second)
    assert source.count("stored") > 1, "the rest came from storage"
    header = RunLog(Account(FakeEngine(server), KEY), RUN)
    assert header.read() == b""
    assert header.header is not None
    assert (header.header.total, header.header.etag, header.header.ranges) == (None, None, False)


# Sizes.


@pytest.mark.parametrize("is_unverified", [True, False])
def test_a_size_that_only_storage_told_is_not_told_on(make_library: MakeLibrary, is_unverified: bool) -> None:
    context, info = context_of(make_library()), RunInfo(SIZE, 7)
    content = Content(RUN, context.cache, Sizing(RUN, context.store, info, is_unverified), SIZE)

    assert content.reach().info == (None if is_unverified else info)


def test_a_time_that_belongs_to_another_size_is_not_believed(make_library: MakeLibrary) -> None:
    sizing = Sizing(RUN, context_of(make_library()).store, None, is_unverified=False)
    sizing.header(SIZE, is_begun=False)
    sizing.hear(RunInfo(SIZE - 1, 7))
    assert sizing.info is None
    sizing.hear(RunInfo(SIZE, 7))
    assert sizing.info == RunInfo(SIZE, 7)


def test_the_size_is_told_before_the_end(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT, has_length=False))
    gate = stalls_at(source, SIZE // 2)
    first, second = mount(), mount()
    with open_run(first), open_run(second):
        told = second.wait_for_info(RUN, deadline())
        assert told == first.wait_for_info(RUN, deadline())
        assert told.size == SIZE
        assert source.count("sign") == 1
        gate.open()


def test_all_machines_show_the_time_that_the_first_one_finds(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT, stream_tells_time=False))
    stream, sign = stalls_at(source, SIZE // 2), Gate()
    source.plan("sign", 1, Plan(gate=sign))
    first, second = mount(), mount()
    with open_run(first), open_run(second):
        await_half(first, second)
        infos = [in_thread(partial(one.wait_for_info, RUN, deadline())) for one in (first, second)]
        sign.wait_for_arrivals()
        sign.open()
        one, two = (info.result(LIMIT_S) for info in infos)
        assert (one, one.mtime_ns > UNKNOWN_TIME_NS) == (two, True)
        stream.open()


def test_a_fact_from_another_machine_does_not_fall_with_storage(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT))
    first, second = mount(), mount()
    assert read_all(first, 1) == CONTENT
    settled(first)
    info = second.wait_for_info(RUN, deadline())
    context_of(second).store.trust.distrust(RUN)
    assert second.info(RUN) == info


def test_a_follower_asks_storage_itself_when_nothing_is_told(
    source: FakeSource, mount: Mount, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload.Upload, "_tell", lambda *_: None)
    source.add(1, Result(CONTENT, has_length=False))
    gate = stalls_at(source, SIZE // 2)
    first, second = mount(), mount(probe_takes_s=0.1)
    with open_run(first), open_run(second):
        assert size_of(second, 1) == SIZE
        assert source.count("sign") == 2
        assert server.calls["lease"] == 1, "it has not given up to follow"
        gate.open()


def test_a_read_far_ahead_of_the_other_machine_is_fetched(source: FakeSource, mount: Mount) -> None:
    source.add(1, Result(CONTENT, etag='"e"', ranges=True))
    gate = stalls_at(source, SIZE // 4)
    options = {"far_bytes": 1000, "far_s": 0.0, "rate_after_s": 0.0, "span_bytes": 2000}
    first, second = mount(), mount(**options)
    with open_run(first), open_run(second) as two:
        assert read_at(two, SIZE // 2, 1000) == CONTENT[SIZE // 2 : SIZE // 2 + 1000]
        assert SIZE // 2 in source.starts("stream", 1)
        gate.open()


def test_an_unmount_does_not_wait_for_the_other_machine(mount: Mount, half: Gate) -> None:
    first, second = mount(), mount(close_s=LIMIT_S)
    with open_run(first):
        await_half(first)
        with open_run(second):
            second.close()
        half.open()


def test_a_result_of_many_frames_and_strings(source: FakeSource, mount: Mount, server: FakeServer) -> None:
    content = some_flac(5 * FRAME_BYTES // 2)
    source.add(1, Result(content))
    source.piece_bytes = 100_000
    first, second, third = (mount(FakeEngine(server, string_bytes=FRAME_BYTES // 3)) for _ in range(3))
    reads = [in_thread(partial(read_all, one, 1, 1 << 17)) for one in (first, second)]
    assert [read.result(LIMIT_S) == content for read in reads] == [True] * 2
    settled(first, second)
    assert read_all(third, 1, 1 << 17) == content
    assert source.count("stream") == 1


def test_a_slow_leader_is_no_slow_connection(source: FakeSource, mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    gate = stalls_at(source, SIZE // 2)
    leader, follower = mount(), mount()
    link, counted = context_of(follower).slots.link, list[int]()
    monkeypatch.setattr(link, "outpaces", lambda *_: True)
    monkeypatch.setattr(link, "received", counted.append)
    with open_run(leader), open_run(follower) as handle:
        assert read_at(handle, SIZE // 2 - 1000, 1000) == CONTENT[SIZE // 2 - 1000 : SIZE // 2]
        gate.open()
        assert read_at(handle, 0, SIZE) == CONTENT
    settled(leader, follower)

    assert source.starts("stream", 1) == [0]
    assert counted == [], "what comes from the tier says nothing of the link to the API"


@pytest.fixture
def slow_leader(
    source: FakeSource, mount: Mount, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Library, Gate]]:
    """It has half of the result, and brings no more before the gate is open. Its lease lasts for ever."""
    monkeypatch.setattr(follow, "LEASE_S", 10 * LIMIT_S)
    monkeypatch.setattr(follow, "_WINDOW_S", 0.02)
    server.clock = lambda: 0.0
    source.add(1, Result(CONTENT, etag='"a"', ranges=True))
    gate, leader = stalls_at(source, SIZE // 2), mount()
    with open_run(leader) as handle:
        assert read_at(handle, SIZE // 2 - 1000, 1000) == CONTENT[SIZE // 2 - 1000 : SIZE // 2]
        yield leader, gate
        gate.open()


def test_a_reader_that_waits_leaves_a_slow_leader(
    source: FakeSource, mount: Mount, slow_leader: tuple[Library, Gate]
) -> None:
    leader, gate = slow_leader
    follower, third = mount(), mount()
    context_of(follower).api.bytes_per_s = 1e6

    assert in_thread(lambda: read_all(follower, 1)).result(LIMIT_S) == CONTENT
    settled(follower)
    assert source.count("stream") == 2, "one more"

    gate.open()
    settled(leader)
    assert read_all(third, 1) == CONTENT
    assert source.count("stream") == 2, "the log stays the leader's, and is finished"


@pytest.mark.parametrize(("api_bytes_per_s", "is_read"), [(None, True), (0.0, True), (1e6, False)])
def test_a_leader_is_not_left_without_need(
    source: FakeSource,
    mount: Mount,
    server: FakeServer,
    slow_leader: tuple[Library, Gate],
    api_bytes_per_s: float | None,
    is_read: bool,
) -> None:
    """The rate of the API is not known, or is that of the leader, or no reader waits."""
    _, gate = slow_leader
    follower = mount()
    with open_run(follower) as handle:
        assert read_at(handle, 0, 1000) == CONTENT[:1000]
        context_of(follower).api.bytes_per_s = api_bytes_per_s
        reading = in_thread(lambda: read_at(handle, 0, SIZE)) if is_read else None
        looks = server.calls["read"]
        eventually(lambda: server.calls["read"] > looks + 8)  # some windows have passed
        gate.open()
        assert (reading.result(LIMIT_S) if reading else read_at(handle, 0, SIZE)) == CONTENT
    assert source.count("stream") == 1


def test_a_machine_that_only_looks_does_not_hold_back_the_others(
    source: FakeSource, mount: Mount, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LEASE_S", 10 * LIMIT_S)
    server.clock = lambda: 0.0  # a lease lasts for ever
    source.piece_bytes = 1000
    source.add(1, Result(CONTENT))
    looking, reading = mount(unopened_looks=2, linger_s=10 * LIMIT_S, nearly_bytes=0), mount()

    assert size_of(looking, 1) == SIZE
    assert in_thread(lambda: read_all(reading, 1)).result(LIMIT_S) == CONTENT
