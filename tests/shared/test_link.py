"""`cambfs.shared.valkey_client.Link`: what a failed call means for the connections of the others."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from cambfs.shared import valkey_client
from cambfs.shared.address import parse
from cambfs.shared.engine import EngineDown, EngineFull
from cambfs.shared.valkey_client import Link, WriteRefused


class FakeConnections:
    """Stands for the connections of the library. `made` has all of them."""

    made: list[FakeConnections]

    def __init__(self, *_: object) -> None:
        self.is_ended = False
        self.failure: EngineDown | None = None
        self.made.append(self)

    def client(self) -> FakeConnections:
        return self

    def end(self, failure: EngineDown) -> None:
        self.is_ended, self.failure = True, failure

    def tidy(self) -> None: ...


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> Link:
    """Its calls are made at once, in the thread of the test."""
    monkeypatch.setattr(FakeConnections, "made", [], raising=False)
    monkeypatch.setattr(valkey_client, "Connections", FakeConnections)
    breaker: Any = SimpleNamespace(attempt=nullcontext)
    return Link(parse("valkey://localhost"), "", lambda _name, work: work(), breaker)


def _fail(client: Any) -> None:  # noqa: ARG001
    raise OSError("gone")


def _refuse(client: Any) -> None:  # noqa: ARG001
    raise WriteRefused("NOPERM")


def test_a_failed_call_ends_those_that_wait_beside_it(link: Link) -> None:
    with pytest.raises(EngineDown):
        link.call(_fail)
    old, new = FakeConnections.made
    assert (old.is_ended, new.is_ended) == (True, False)
    used: object = link.call(lambda client: client)
    assert used is new


def test_the_calls_that_it_ends_do_not_end_the_next_ones(link: Link) -> None:
    def fail_beside_another(client: Any) -> None:
        with pytest.raises(EngineDown):
            link.call(_fail)
        _fail(client)

    with pytest.raises(EngineDown):
        link.call(fail_beside_another)
    assert [one.is_ended for one in FakeConnections.made] == [True, False]


def test_a_full_server_keeps_its_connections(link: Link) -> None:
    with pytest.raises(EngineFull):
        link.call(_refuse)
    assert [one.is_ended for one in FakeConnections.made] == [False]
