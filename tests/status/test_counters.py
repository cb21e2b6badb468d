"""The counts of a mount's requests, and that counting changes nothing else."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields

import pytest

from cambfs.cache.cache import Cache
from cambfs.errors import BadResponse, BrokenBody, CambfsError, NotAudio, ServerError, UnknownRun, Unreachable
from cambfs.names import RunId, TaskId
from cambfs.remote.source import PENDING, Body, TaskKind
from cambfs.status.counters import NO_RESPONSE, Counters
from tests.fakes import FakeSource, Plan, Result, StorageManner, some_flac
from tests.waiting import library_of, read_all

SIZE = 20_000
CONTENT = some_flac(SIZE)
RUN = RunId(1)


@pytest.fixture
def counters(source: FakeSource) -> Counters:
    source.add(1, Result(CONTENT))
    return Counters()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "2xx"),
        (UnknownRun("no", 404), "4xx"),
        (ServerError("no", 503), "5xx"),
        (NotAudio("no", 200), "2xx"),
        (Unreachable("gone"), NO_RESPONSE),
    ],
)
def test_requests_are_counted_by_kind_and_class(
    error: CambfsError | None, status: str, source: FakeSource, counters: Counters
) -> None:
    source.plan("sign", 1, Plan(error=error))
    with suppress(CambfsError):
        counters.source(source).sign(RUN)
    assert counters.counts().requests == {("sign", status): 1}


def test_questions_about_tasks_are_counted(source: FakeSource, counters: Counters) -> None:
    task_id = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10")
    source.tasks[task_id, TaskKind.TRANSLATED] = [PENDING]
    with pytest.raises(UnknownRun):
        counters.source(source).task(task_id, TaskKind.SPEECH)
    assert counters.source(source).task(task_id, TaskKind.TRANSLATED) == PENDING
    assert counters.counts().requests == {("task", "4xx"): 1, ("task", "2xx"): 1}


def test_what_was_never_sent_is_no_request(source: FakeSource, counters: Counters) -> None:
    source.plan("stored", 1, Plan(error=BadResponse("the signed URL is no URL", 0)))
    counted = counters.source(source)
    with pytest.raises(BadResponse):
        counted.open_stored(counted.sign(RUN), 0, None)
    assert counters.counts().requests == {("sign", "2xx"): 1}


def test_only_what_failed_temporarily_and_is_asked_again_is_a_retry(source: FakeSource, counters: Counters) -> None:
    counted = counters.source(source)
    source.add(2, Result(CONTENT))
    source.plan("sign", 1, Plan(error=ServerError("busy", 503)), Plan(error=UnknownRun("no", 404)))
    for run_id in (2, 1, 2, 1, 1):
        try:
            counted.sign(RunId(run_id))
        except CambfsError:
            continue
    assert counters.counts().retries == 1


def test_a_body_that_breaks_is_retried(source: FakeSource, counters: Counters) -> None:
    source.storage = StorageManner.UNREACHABLE  # which would go on with it
    source.plan("stream", 1, Plan(break_after=5000, break_error=BrokenBody("broke")))
    library = library_of(counters.source(source), Cache(None, 1 << 20))
    assert read_all(library, 1) == CONTENT
    library.close()
    counts = counters.counts()
    assert (counts.requests["stream", "2xx"], counts.retries) == (2, 3)  # the head and the end in storage, too
    assert counts.received_bytes == 5000 + SIZE


def test_a_counted_body_shows_what_its_own_does(source: FakeSource, counters: Counters) -> None:
    source.add(1, Result(CONTENT, etag='"a"', ranges=True, has_length=False, framed=False))
    plain = source.open_stream(RUN)
    body: Body = counters.source(source).open_stream(RUN)
    names = list(Body.__annotations__)
    assert len(names) == 10
    assert [getattr(body, name) for name in names] == [getattr(plain, name) for name in names]
    assert body.read(100) == CONTENT[:100]
    body.close()
    with pytest.raises(BrokenBody):
        body.read(1)


def test_counts_are_of_one_moment(counters: Counters) -> None:
    before = counters.counts()
    counters.note_received(7)
    assert before.received_bytes == 0
    assert {field.name for field in fields(before)} == {"requests", "retries", "received_bytes"}
