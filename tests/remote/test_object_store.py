"""How long an unreachable storage gets no requests, and which of them come first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from threading import Event

import pytest

from cambfs.audio import End
from cambfs.errors import CambfsError, LinkError, NotRepeated, ServerError, StorageUseless, TimedOut, Unreachable
from cambfs.names import RunId
from cambfs.remote import object_store
from cambfs.remote.object_store import ObjectStore
from cambfs.remote.retry import always
from cambfs.remote.signer import Signature, Signer
from cambfs.remote.speculation import Speculation
from cambfs.system.workers import Workers
from tests.fakes import FakeSource, Plan, Result, some_flac

RUN = RunId(1)


@pytest.fixture
def store(source: FakeSource) -> ObjectStore:
    source.add(RUN, Result(some_flac(5000)))
    workers, closing = Workers(), Event()
    return ObjectStore(source, Signer(source, workers, 0.1, closing, Speculation()), workers, 0.1, closing)


class Recorder(Event):
    """`waits_s` has the seconds of each wait, which takes no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits_s: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits_s.append(timeout)
        return False


@pytest.mark.parametrize("is_awaited", [True, False])
def test_requests_that_callers_wait_for_come_first(is_awaited: bool, source: FakeSource) -> None:
    """They take the connections that are open."""
    source.add(RUN, Result(some_flac(5000)))
    workers, closing = Workers(), Recorder()
    store = ObjectStore(source, Signer(source, workers, 0.1, closing, Speculation()), workers, 0.1, closing)
    store.probe(RUN, lambda: is_awaited)
    assert closing.waits_s == ([] if is_awaited else [object_store._CALLERS_FIRST_S])


def _down(seconds: float) -> CambfsError:
    error = Unreachable("gone")
    error.down_for_s = seconds
    return error


def test_an_api_that_is_down_says_nothing_against_storage(source: FakeSource, store: ObjectStore) -> None:
    source.plan_always("sign", RUN, Plan(error=_down(4.0)))
    for _ in range(5):
        with pytest.raises(Unreachable):
            store.probe(RUN)
    assert store.trust.usable


def test_an_api_that_does_not_sign_is_left_alone_for_a_while(source: FakeSource, store: ObjectStore) -> None:
    source.plan_always("sign", RUN, Plan(error=TimedOut("silent")))
    for _ in range(3):
        assert store.trust.usable
        with pytest.raises(TimedOut):
            store.probe(RUN)
    assert not store.trust.usable


@pytest.mark.parametrize(("error", "is_usable"), [(_down(0.0), True), (_down(20.0), False), (TimedOut("x"), False)])
def test_a_storage_that_is_down_is_asked_again_when_it_is_tried_again(
    error: CambfsError, is_usable: bool, source: FakeSource, store: ObjectStore
) -> None:
    source.plan_always("stored", RUN, Plan(error=error))
    with pytest.raises(StorageUseless):
        store.probe(RUN)
    assert store.trust.usable == is_usable


def test_a_silence_while_storage_responds_to_others_is_about_one_request(
    source: FakeSource, store: ObjectStore
) -> None:
    error = TimedOut("x")
    error.is_host_heard = True
    source.plan_always("stored", RUN, Plan(error=error))
    with pytest.raises(StorageUseless):
        store.probe(RUN)
    assert store.trust.usable


@pytest.mark.parametrize(("is_spare", "ahead"), [(True, 1), (False, 0)])
def test_a_spare_connection_leaves_one_to_the_next_request(
    is_spare: bool, ahead: int, source: FakeSource, store: ObjectStore
) -> None:
    source.add(RUN, Result(some_flac(5000)))
    store.open(RUN, store.probe(RUN), 100, None, is_spare=is_spare)
    assert source.connects_ahead == ahead


@pytest.mark.parametrize("is_spare", [True, False])
def test_a_spare_connection_that_fails_says_nothing_about_storage(
    is_spare: bool, source: FakeSource, store: ObjectStore
) -> None:
    source.add(RUN, Result(some_flac(5000)))
    probe = store.probe(RUN)
    source.plan_always("stored", RUN, Plan(error=TimedOut("x")))
    with pytest.raises(StorageUseless):
        store.open(RUN, probe, 100, None, is_spare=is_spare)
    assert store.trust.usable == is_spare


@pytest.mark.parametrize("error", [LinkError("closed without a response"), Unreachable("fails to set up TLS")])
@pytest.mark.parametrize(("failures", "is_usable"), [(1, True), (2, False)])
def test_one_lost_connection_says_nothing_against_storage(
    failures: int, is_usable: bool, error: CambfsError, source: FakeSource, store: ObjectStore
) -> None:
    """A busy server may close one of many. Without storage, each look at a size would fetch the whole result."""
    for _ in range(failures):
        source.plan("stored", RUN, Plan(error=error))
    with nullcontext() if is_usable else pytest.raises(StorageUseless):
        store.probe_end(RUN)
    assert store.trust.usable == is_usable
    assert source.count("stored") == 2


@pytest.mark.parametrize(("tail_bytes", "requests"), [(4000, 2), (50, 3)])
def test_an_end_is_found_where_the_last_frame_begins_before_the_tail(
    tail_bytes: int, requests: int, source: FakeSource, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_tail_bytes", tail_bytes)
    source.add(RUN, Result(some_flac(5000)))

    assert store.probe(RUN).end is End.WHOLE
    assert len(source.starts("stored", RUN)) == requests


@pytest.mark.parametrize("operation", ["sign", "stored"])
def test_a_probe_that_no_caller_waits_for_is_made_once(operation: str, source: FakeSource, store: ObjectStore) -> None:
    source.plan_always(operation, RUN, Plan(error=ServerError("broken", 500)))
    for _ in range(5):  # which say nothing about storage
        with pytest.raises(NotRepeated):
            store.probe(RUN, lambda: False)

    assert store.trust.usable
    assert 5 <= source.count(operation) <= 10, "the head and the end once each"


def test_the_end_of_a_refuted_run_is_not_asked_for(source: FakeSource, store: ObjectStore) -> None:
    store.probe_end(RUN)
    asked = source.count("stored")
    store.refute(RUN)

    with pytest.raises(StorageUseless, match="another length"):
        store.probe_end(RUN)
    assert source.count("stored") == asked


def test_a_caller_that_waits_does_not_share_the_end_of_an_attempt_without_one(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt was begun for a caller that does not wait any more, so it was not repeated."""
    given_up: Future[Signature] = Future()
    given_up.set_exception(NotRepeated("no caller waited"))
    obtain, asked = store._signer.obtain, [0]

    def obtain_after_another(run_id: RunId, is_awaited: Callable[[], bool] = always) -> Future[Signature]:
        asked[0] += 1
        return given_up if asked[0] == 1 else obtain(run_id, is_awaited)

    monkeypatch.setattr(store._signer, "obtain", obtain_after_another)
    assert store.probe(RUN).total
    assert asked[0] > 1
