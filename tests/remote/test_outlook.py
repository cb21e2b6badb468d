"""How a listing learns whether the API is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import create_autospec

import pytest

from cambfs.errors import Unreachable
from cambfs.names import RunId
from cambfs.remote import outlook as outlook_module
from cambfs.remote.outlook import Outlook
from cambfs.remote.source import Source
from cambfs.system.workers import Workers
from tests.fakes import FakeSource, Gate
from tests.waiting import eventually

RUN = RunId(1)


def test_it_looks_each_time(source: FakeSource) -> None:
    outlook = Outlook(source, Workers())
    assert outlook.is_api_there(RUN)
    source.look_error = Unreachable("gone")
    assert not outlook.is_api_there(RUN)
    source.look_error = None
    assert outlook.is_api_there(RUN)


def test_a_look_that_takes_long_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook_module, "_LOOK_S", 0.0)
    gate, source = Gate(), create_autospec(Source, instance=True)
    source.look.side_effect = lambda _run_id: gate.go_through()
    outlook = Outlook(source, Workers())
    assert not outlook.is_api_there(RUN)
    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(lambda _: outlook.is_api_there(RUN), range(8)))
    assert source.look.call_count == 1

    gate.open()
    monkeypatch.setattr(outlook_module, "_LOOK_S", 20.0)
    eventually(lambda: outlook.is_api_there(RUN), "it is there")
