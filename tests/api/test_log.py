"""The log of the tests' API."""

from __future__ import annotations

import requests

from tests.api.faults import Fault
from tests.api.server import Server
from tests.demo.asking import (
    FLAC,
    KEY,
    LIMIT_S,
    bulk,
    connect,
    set_profile,
    signed_url,
    stored,
    stream,
    until,
)


def test_a_key_that_follows_the_redirect_is_noticed(server: Server) -> None:
    set_profile(server, redirect=True)
    url = f"{server.base_url}/tts-result/1"
    assert requests.get(url, headers=KEY, timeout=LIMIT_S).content == FLAC
    assert [record.had_key for record in server.requests if record.origin == "storage"] == [True]
    stored(stream(server).headers["Location"])
    assert [record.had_key for record in server.requests if record.origin == "storage"] == [True, False]
    assert (server.count("stream"), server.count("redirected")) == (2, 2)


def test_another_key_is_not_the_key(server: Server) -> None:
    requests.get(f"{server.base_url}/tts-result/1", headers={"x-api-key": "another"}, timeout=LIMIT_S)
    requests.post(f"{server.base_url}/tts-results", timeout=LIMIT_S)
    assert [(record.status, record.had_key) for record in server.requests] == [(401, False), (401, False)]


def test_a_refused_head_is_in_the_log(server: Server) -> None:
    requests.head(signed_url(server), timeout=LIMIT_S)
    assert [(record.kind, record.method, record.status) for record in server.requests[1:]] == [("stored", "HEAD", 403)]


def test_the_log(server: Server) -> None:
    stream(server, Range="bytes=1-2")
    stored(signed_url(server))
    bulk(server, 1, 2)
    first = server.requests[0]
    assert (first.origin, first.method, first.path, first.query) == ("api", "GET", "/apis/tts-result/1", "")
    assert (first.kind, first.run_id, first.range, first.had_key) == ("stream", 1, "bytes=1-2", True)
    assert (first.status, first.sent) == (200, len(FLAC))
    assert [record.kind for record in server.requests] == ["stream", "sign", "stored", "bulk"]
    assert [server.requests[2].origin, server.requests[2].had_key] == ["storage", False]
    assert server.count("stream", 1) == server.count("stream") == 1
    assert server.count("stream", 2) == 0
    server.forget()
    assert server.requests == ()


def test_a_request_under_way_is_in_the_log(server: Server) -> None:
    server.fail(Fault("stall", after_bytes=1500))
    with connect(server):
        until(lambda: server.stalled == 1)
        assert [(record.kind, record.status, record.sent) for record in server.requests] == [("stream", 200, 1500)]
