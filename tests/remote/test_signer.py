"""`cambfs.remote.signer`: signed URLs are requested once and shared, singly and in bulk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from threading import Barrier, Event
from unittest.mock import Mock

import pytest

from cambfs.errors import (
    BadResponse,
    CambfsError,
    Closing,
    NotRepeated,
    RateLimited,
    ServerError,
    TimedOut,
    UnknownRun,
    Unreachable,
)
from cambfs.names import RunId
from cambfs.remote.signer import Signature, Signer
from cambfs.remote.speculation import Speculation
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result
from tests.waiting import asleep, eventually, in_thread

MakeSigner = Callable[[], Signer]


@pytest.fixture
def speculation() -> Speculation:
    return Speculation()


@pytest.fixture
def signer(source: FakeSource, closing: Event, speculation: Speculation) -> Signer:
    for run_id in range(1, 13):
        source.add(run_id, Result(b"fLaC"))
    return Signer(speculation.source(source), Workers(), LIMIT_S, closing, speculation)


def _get(future: Future[Signature]) -> Signature:
    return future.result(LIMIT_S)


def _ask(signer: Signer, *run_ids: int) -> list[Future[Signature]]:
    return [signer.request(RunId(run_id)) for run_id in run_ids]


def test_one_request_for_many_who_ask_at_once(source: FakeSource, signer: Signer) -> None:
    gate = Gate()
    source.plan("sign", 1, Plan(gate=gate))
    barrier = Barrier(8)

    def ask() -> Signature:
        barrier.wait(LIMIT_S)
        return _get(signer.request(RunId(1)))

    answers = [in_thread(ask) for _ in range(8)]
    gate.wait_for_arrivals()
    gate.open()

    assert len({response.result(LIMIT_S).signed.url for response in answers}) == 1
    assert source.count("sign") == 1


def test_an_answer_is_shared_as_long_as_it_holds(source: FakeSource, signer: Signer) -> None:
    assert signer.fresh(RunId(1)) is None
    first = _get(signer.request(RunId(1)))

    assert signer.fresh(RunId(1)) is first
    assert _get(signer.request(RunId(1))) is first
    assert source.count("sign") == 1


def test_it_is_asked_for_anew_before_its_life_is_over(
    source: FakeSource, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.life_s = 10_000.0
    first = _get(signer.request(RunId(1)))
    asleep(monkeypatch, 7900)
    assert signer.fresh(RunId(1)) is first
    asleep(monkeypatch, 101)

    assert signer.fresh(RunId(1)) is None
    assert _get(signer.request(RunId(1))) is not first
    assert source.count("sign") == 2


def test_a_life_goes_on_while_the_machine_sleeps(
    source: FakeSource, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.life_s = 3600.0
    first = _get(signer.request(RunId(1)))
    asleep(monkeypatch, 2 * 3600)

    assert signer.fresh(RunId(1)) is None
    assert _get(signer.request(RunId(1))) is not first


def test_an_answer_without_life_is_given_all_the_same(source: FakeSource, signer: Signer) -> None:
    source.life_s = 0.0

    assert _get(signer.request(RunId(1))).signed.url
    assert signer.fresh(RunId(1)) is None


def test_a_failure_is_shared_and_the_next_asks_anew(source: FakeSource, signer: Signer) -> None:
    gate = Gate()
    source.plan("sign", 1, Plan(error=UnknownRun("no", 404), gate=gate))
    futures = _ask(signer, 1, 1, 1)
    gate.open()
    for future in futures:
        with pytest.raises(UnknownRun):
            _get(future)
    assert source.count("sign") == 1

    assert _get(signer.request(RunId(1))).signed.url
    assert source.count("sign") == 2


def test_a_temporary_failure_is_repeated(source: FakeSource, signer: Signer) -> None:
    source.plan("sign", 1, Plan(error=ServerError("down", 503)), Plan(error=Unreachable("gone")))

    assert _get(signer.request(RunId(1))).signed.url
    assert source.count("sign") == 3


def test_where_all_requests_fail_the_next_ones_are_not_repeated(source: FakeSource, closing: Event) -> None:
    speculation = Speculation()
    signer = Signer(speculation.source(source), Workers(), 0.4, closing, speculation)
    source.add(4, Result(b"fLaC"))
    for run_id in (1, 2, 3, 5):
        source.plan_always("sign", run_id, Plan(error=ServerError("down", 500)))

    for run_id in (1, 2, 3):
        with pytest.raises(ServerError):
            _get(signer.request(RunId(run_id)))
    assert source.count("sign", 1) > 1
    assert source.count("sign", 3) == 1

    assert _get(signer.request(RunId(4))).signed.url
    with pytest.raises(ServerError):
        _get(signer.request(RunId(5)))
    assert source.count("sign", 5) > 1


def test_a_run_that_does_not_exist_is_no_failure_to_sign(source: FakeSource, closing: Event) -> None:
    signer = Signer(source, Workers(), 0.4, closing, Speculation())
    for run_id in (1, 2, 4):
        source.plan_always("sign", run_id, Plan(error=ServerError("down", 500)))
    for run_id, error in ((1, ServerError), (2, ServerError), (3, UnknownRun), (4, ServerError)):
        with pytest.raises(error):
            _get(signer.request(RunId(run_id)))

    assert source.count("sign", 4) > 1


def test_an_api_that_is_silent_about_urls_is_left_alone_for_a_while(source: FakeSource, closing: Event) -> None:
    signer = Signer(source, Workers(), 0.1, closing, Speculation())
    for run_id in (1, 2, 3):
        source.plan_always("sign", run_id, Plan(error=TimedOut("silent")))
        with pytest.raises(TimedOut):
            _get(signer.request(RunId(run_id)))
    with pytest.raises(TimedOut, match="asked again in") as caught:
        _get(signer.request(RunId(4)))
    assert source.count("sign", 4) == 0
    assert caught.value.down_for_s

    source.add(5, Result(b"fLaC"))
    source.add(6, Result(b"fLaC"))
    source.add(7, Result(b"fLaC"))
    signer.request_many([RunId(5), RunId(6)])
    assert _get(signer.request(RunId(5))).signed.url
    assert _get(signer.request(RunId(7))).signed.url, "it signs again"


def test_what_nobody_foresaw_is_an_answer_too(source: FakeSource, signer: Signer) -> None:
    source.plan("sign", 1, Plan(error=ZeroDivisionError("oops")))

    with pytest.raises(Exception, match="internal error: ZeroDivisionError"):
        _get(signer.request(RunId(1)))


def test_a_refused_url_is_renewed_once_for_all_to_whom_that_happened(source: FakeSource, signer: Signer) -> None:
    refused = _get(signer.request(RunId(1))).signed
    gate = Gate()
    source.plan("sign", 1, Plan(gate=gate))

    def renew() -> Future[Signature]:
        signer.reject(RunId(1), refused)
        return signer.request(RunId(1))

    futures = [renew() for _ in range(5)]
    gate.open()
    renewed = {_get(future).signed.url for future in futures}
    late = _get(renew()).signed

    assert source.count("sign") == 2
    assert renewed == {late.url}
    assert refused.url not in renewed


def test_whoever_obtains_asks_in_its_own_thread_and_shares_it(source: FakeSource, signer: Signer) -> None:
    gate = Gate()
    source.plan("sign", 1, Plan(gate=gate))
    obtaining = in_thread(lambda: signer.obtain(RunId(1)))
    gate.wait_for_arrivals()
    shared = signer.obtain(RunId(1))

    assert not shared.done()
    assert not any(thread.name.startswith("sign-") for thread in threading.enumerate())
    gate.open()
    assert obtaining.result(LIMIT_S).result(0) is _get(shared)
    assert source.count("sign") == 1


def test_without_threads_all_who_ask_hear_of_it(
    source: FakeSource, closing: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers()
    signer = Signer(source, workers, LIMIT_S, closing, Speculation())
    with monkeypatch.context() as patch:
        patch.setattr(workers, "start", Mock(side_effect=CambfsError("no more threads")))
        for future in [signer.request(RunId(1)), *_request_many(signer, 2, 3)]:
            with pytest.raises(CambfsError, match="no more threads"):
                _get(future)
    source.add(1, Result(b"fLaC"))
    assert _get(signer.request(RunId(1))).signed.url, "nobody waits for a request that was never made"


# In bulk.


def _request_many(signer: Signer, *run_ids: int) -> list[Future[Signature]]:
    signer.request_many([RunId(run_id) for run_id in run_ids])
    return _ask(signer, *run_ids)


def test_five_at_a_time(source: FakeSource, signer: Signer) -> None:
    answers = [_get(future) for future in _request_many(signer, *range(1, 13))]

    assert [response.signed.url.partition("?")[0] for response in answers] == [
        f"https://storage.test/{run_id}" for run_id in range(1, 13)
    ]
    assert source.calls("bulk") == 3
    assert source.count("bulk") == 12
    assert source.calls("sign") == 0


def test_what_is_known_or_asked_for_is_not_asked_for_again(source: FakeSource, signer: Signer) -> None:
    _get(signer.request(RunId(1)))
    gate = Gate()
    source.plan("sign", 2, Plan(gate=gate))
    (asked,) = _ask(signer, 2)
    gate.wait_for_arrivals()
    futures = _request_many(signer, 1, 2, 3, 4)
    gate.open()
    for future in [asked, *futures]:
        _get(future)

    assert (source.count("bulk"), source.count("bulk", 1), source.count("bulk", 2)) == (2, 0, 0)
    assert source.calls("sign") == 2


def test_one_alone_is_not_asked_for_in_bulk(source: FakeSource, signer: Signer) -> None:
    for future in _request_many(signer, *range(1, 7)):
        _get(future)

    assert source.calls("bulk") == 1
    assert source.calls("sign") == 1


def test_what_a_bulk_answer_leaves_out_is_asked_for_alone(source: FakeSource, signer: Signer) -> None:
    source.bulk_leaves_out = frozenset({2})
    del source.results[3]
    one, two, three, four = _request_many(signer, 1, 2, 3, 4)

    assert _get(one).signed.url
    assert _get(two).signed.url
    assert _get(four).signed.url
    with pytest.raises(UnknownRun):
        _get(three)
    assert (source.calls("bulk"), source.count("sign", 1), source.count("sign", 2)) == (1, 0, 1)


def test_an_api_that_refuses_bulk_is_asked_so_once(source: FakeSource, signer: Signer) -> None:
    source.bulk_error = BadResponse("no such endpoint", 405)
    for future in _request_many(signer, 1, 2, 3):
        assert _get(future).signed.url
    for future in _request_many(signer, 4, 5, 6):
        assert _get(future).signed.url

    assert source.calls("bulk") == 1
    assert source.calls("sign") == 6


def test_a_bulk_answer_that_nobody_foresaw_leaves_nobody_waiting(source: FakeSource, signer: Signer) -> None:
    source.bulk_error = ZeroDivisionError("oops")

    for future in _request_many(signer, 1, 2):
        assert _get(future).signed.url


def test_one_that_stalls_does_not_hold_back_those_beside_it(source: FakeSource, signer: Signer) -> None:
    gate = Gate()
    source.bulk_error = BadResponse("no such endpoint", 405)
    source.plan("sign", 1, Plan(gate=gate))
    stalled, *others = _request_many(signer, 1, 2, 3)
    for future in others:
        assert _get(future).signed.url
    assert not stalled.done()
    gate.open()
    assert _get(stalled).signed.url


def test_retries_end_when_all_ends(source: FakeSource, signer: Signer, closing: Event) -> None:
    source.plan_always("sign", 1, Plan(error=Unreachable("gone")))
    future = signer.request(RunId(1))
    eventually(lambda: source.count("sign", 1) > 1)
    closing.set()

    with pytest.raises(Closing):
        _get(future)


def test_nobody_asks_again_while_the_api_is_down(source: FakeSource, signer: Signer) -> None:
    down = Unreachable("gone")
    down.down_for_s = 4.0
    source.plan_always("sign", 1, Plan(error=down))
    with pytest.raises(Unreachable):
        _get(signer.request(RunId(1)))
    assert source.count("sign", 1) == 1


def test_one_bad_id_does_not_end_bulk(source: FakeSource, signer: Signer) -> None:
    source.bulk_error = UnknownRun("a bad id", 400)
    for future in _request_many(signer, 1, 2):
        assert _get(future).signed.url
    source.bulk_error = None
    for future in _request_many(signer, 3, 4):
        assert _get(future).signed.url
    assert source.calls("bulk") == 2
    assert source.count("sign", 3) == 0


# Before a caller waits for it.


def _not_repeated(future: Future[Signature]) -> bool:
    with pytest.raises(NotRepeated):
        _get(future)
    return True


@pytest.mark.parametrize("busy", [RateLimited("busy", 429), ServerError("busy", 503)])
def test_a_busy_api_is_not_asked_again_ahead(busy: CambfsError, source: FakeSource, signer: Signer) -> None:
    source.bulk_error = busy

    assert all(_not_repeated(future) for future in _request_many(signer, 1, 2, 3, 4))
    assert (source.calls("bulk"), source.calls("sign")) == (1, 0)


def test_what_fails_ahead_is_not_repeated(source: FakeSource, signer: Signer) -> None:
    source.bulk_error = ServerError("broken", 500)
    source.plan_always("sign", 1, Plan(error=Unreachable("gone")))
    one, two = _request_many(signer, 1, 2)

    assert _not_repeated(one)
    assert _get(two).signed.url
    assert (source.calls("bulk"), source.count("sign", 1), source.count("sign", 2)) == (1, 1, 1)


def test_a_caller_asks_a_busy_api_until_it_responds(
    source: FakeSource, signer: Signer, speculation: Speculation
) -> None:
    source.bulk_error = RateLimited("busy", 429)
    assert all(_not_repeated(future) for future in _request_many(signer, 1, 2))
    source.plan("sign", 1, Plan(error=RateLimited("busy", 429)))

    assert not speculation.is_allowed
    assert _get(signer.request(RunId(1))).signed.url
    assert source.count("sign", 1) == 2


def test_it_is_repeated_while_it_is_awaited(source: FakeSource, signer: Signer) -> None:
    source.plan_always("sign", 1, Plan(error=ServerError("broken", 500)))

    assert _not_repeated(signer.obtain(RunId(1), lambda: source.count("sign", 1) < 3))
    assert source.count("sign", 1) == 3
