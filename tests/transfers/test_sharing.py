"""`cambfs.transfers.sharing`: for how long the tier may tell a size, and how often a stream follows others."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from cambfs.names import RunId
from cambfs.remote.source import Body
from cambfs.tier.follow import SharedBody
from cambfs.tier.seals import Header
from cambfs.tier.upload import Lead
from cambfs.transfers import sharing
from cambfs.transfers.context import ObservedApi
from cambfs.transfers.sharing import Sharing

RUN = RunId(1)
TELLS_WITHIN_S = 5.0


class FakeTier:
    """`found` is what another machine has. The calls of `share` and `release` are noted."""

    def __init__(self) -> None:
        self.found: SharedBody | Lead | None = None
        self.is_enough: Callable[[float], bool] | None = None
        self.opened = 0
        self.during_open: Callable[[], None] = lambda: None

    def open(self, *arguments: Any) -> SharedBody | Lead | None:
        self.opened += 1
        self.is_enough = arguments[-1]
        self.during_open()
        return self.found

    def share(self, lead: Lead, response: Future[Header | None], owner: object) -> None: ...


class FakeRun:
    def __init__(self) -> None:
        self.unshared = 0
        self.has_waiters = True

    def hear(self, *_: object) -> None: ...

    def note_unshared(self) -> None:
        self.unshared += 1


class Parts:
    def __init__(self) -> None:
        self.tier, self.run, self.api, self.now_s = FakeTier(), FakeRun(), ObservedApi(), 1000.0
        tier: Any = self.tier
        run: Any = self.run
        self.works: list[Callable[[], None]] = []
        work: Any = lambda _, work: self.works.append(work)  # noqa: E731
        self.sharing = Sharing(RUN, tier, Event(), TELLS_WITHIN_S, 10.0, self.api, run, work)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    parts = Parts()
    monkeypatch.setattr(sharing, "time", SimpleNamespace(monotonic=lambda: parts.now_s))
    return parts


def a_body() -> SharedBody:
    return object.__new__(SharedBody)


def test_a_stream_that_is_about_to_begin_may_find_a_machine_that_tells_the_size(parts: Parts) -> None:
    assert not parts.sharing.is_size_to_come
    parts.sharing.expect()
    assert parts.sharing.is_size_to_come

    parts.now_s += sharing._TURN_TAKES_S
    assert not parts.sharing.is_size_to_come


def test_another_machine_has_a_while_to_tell_the_size(parts: Parts) -> None:
    """As long again once it is found, which may take a while."""
    seen: list[bool] = []

    def find() -> None:
        seen.append(parts.sharing.is_size_to_come)
        parts.now_s += 3.0

    parts.tier.during_open = find
    parts.tier.found = a_body()

    assert parts.sharing.open(0) is parts.tier.found
    assert seen == [True]
    assert parts.run.unshared == 0
    parts.now_s += TELLS_WITHIN_S - 0.1
    assert parts.sharing.is_size_to_come
    parts.now_s += 0.1
    assert not parts.sharing.is_size_to_come


def test_a_size_is_not_waited_for_when_the_stream_has_ended(parts: Parts) -> None:
    parts.tier.found = a_body()
    assert parts.sharing.open(0)
    parts.sharing.end()
    assert not parts.sharing.is_size_to_come


def test_a_machine_without_others_asks_storage_at_once(parts: Parts) -> None:
    parts.sharing.expect()
    assert parts.sharing.open(0) is None
    assert not parts.sharing.is_size_to_come
    assert parts.run.unshared == 1


def test_a_stream_follows_a_few_and_the_next_one_begins_anew(parts: Parts) -> None:
    parts.tier.found = a_body()
    for _ in range(2):
        parts.sharing.expect()
        followed = [parts.sharing.open(0) is not None for _ in range(sharing._MOST_FOLLOWED + 1)]
        assert followed == [True] * sharing._MOST_FOLLOWED + [False]


def test_a_machine_that_was_left_is_not_followed_again_by_that_stream(parts: Parts) -> None:
    parts.tier.found, parts.api.bytes_per_s = a_body(), 1e6
    parts.sharing.expect()
    assert parts.sharing.open(0)
    assert parts.tier.is_enough is not None
    assert parts.tier.is_enough(250_000.0)
    assert not parts.tier.is_enough(249_000.0)

    assert parts.sharing.open(9) is None
    assert (parts.tier.opened, parts.works) == (1, []), "and it does not lead"
    parts.sharing.expect()
    assert parts.sharing.open(9)


@pytest.mark.parametrize("is_stored", [True, False])
def test_only_a_response_of_the_api_tells_of_the_stream(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    told: list[Header | None] = []
    monkeypatch.setattr(parts.tier, "share", lambda _, response, __: told.append(response.result(0)))
    parts.tier.found = object.__new__(Lead)
    assert parts.sharing.open(0) is None
    body: Any = SimpleNamespace(
        is_stored=is_stored, content_type="audio/flac", total=7, etag='"a"', ranges=True, modified_s=5.0
    )
    response: Body = body
    parts.sharing.begin(response)
    [work] = parts.works
    work()

    of_api = Header("", "audio/flac", 7, '"a"', ranges=True, modified_s=5.0)
    assert told == [Header("", "", None, None, ranges=False, modified_s=None) if is_stored else of_api]
