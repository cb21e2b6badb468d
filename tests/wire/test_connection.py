"""The steps of making a connection, with a clock of the test's own."""

from __future__ import annotations

import socket
from contextlib import closing
from types import SimpleNamespace

import pytest

from cambfs.wire import connection
from cambfs.wire.connection import Made, TimedConnection


def test_each_step_counts_from_the_end_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, connected, made = 1.0, 3.0, 7.0
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=iter([begun, connected, made]).__next__))
    with socket.create_server(("127.0.0.1", 0)) as listener, closing(TimedConnection(*listener.getsockname())) as one:
        assert one.made is None
        one.connect()
    assert one.made == Made(connect_s=2.0, secure_s=4.0, tls="", certificate={})
