"""The faults of the tests' API: the bytes on the wire match the fault."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.demo.asking import (
    FLAC,
    LIMIT_S,
    bulk,
    connect,
    opened,
    raw,
    set_profile,
    sign,
    signed_url,
    stored,
    stream,
    until,
)


@pytest.mark.parametrize("after", [0, 1, 1500, len(FLAC)])
@pytest.mark.parametrize("length", ["content-length", "close"])
def test_reset_after_so_many_bytes(server: Server, length: str, after: int) -> None:
    set_profile(server, length=length)
    server.fail(Fault("reset", after_bytes=after))
    head, body, error = raw(server)
    assert head.startswith(b"http/1.1 200")
    assert (body, error) == (FLAC[:after], ConnectionResetError)


def test_reset_of_a_long_stream_loses_nothing_before_it(server: Server, tmp_path: Path) -> None:
    audio = FLAC * 3000
    server.results[1] = tmp_path / "long"
    server.results[1].write_bytes(audio)
    set_profile(server, length="close", chunk_bytes=1 << 18)
    server.fail(Fault("reset", after_bytes=len(audio) - 7))
    _, body, error = raw(server)
    assert (body == audio[:-7], error) == (True, ConnectionResetError)


@pytest.mark.parametrize("after", [0, 1500])
@pytest.mark.parametrize("length", ["content-length", "close"])
def test_cut_after_so_many_bytes(server: Server, length: str, after: int) -> None:
    set_profile(server, length=length)
    server.fail(Fault("cut", after_bytes=after))
    _, body, error = raw(server)
    assert (body, error) == (FLAC[:after], None)


def test_cut_within_a_chunk(server: Server) -> None:
    server.fail(Fault("cut", after_bytes=1500))
    _, body, error = raw(server)
    assert (body, error) == (b"3e8\r\n%s\r\n1f5\r\n%s" % (FLAC[:1000], FLAC[1000:1500]), None)
    assert stream(server).content == FLAC


def test_cut_before_the_last_chunk(server: Server) -> None:
    server.fail(Fault("cut", after_bytes=99999))
    connection, answer = opened(server)
    with pytest.raises(IncompleteRead):
        answer.read()
    connection.close()


@pytest.mark.parametrize(("kind", "error"), [("cut", None), ("reset", ConnectionResetError)])
def test_no_answer_at_all(server: Server, kind: Any, error: type[BaseException] | None) -> None:
    server.fail(Fault(kind, after_bytes=BEFORE_HEADERS))
    assert raw(server) == (b"", b"", error)
    assert server.requests[0].status == 0


@pytest.mark.parametrize("after", [BEFORE_HEADERS, 0, 1500, len(FLAC)])
def test_a_stall_lasts_until_released(server: Server, after: int) -> None:
    set_profile(server, length="close")
    server.fail(Fault("stall", after_bytes=after))
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(raw(server)[1]))
    reader.start()
    until(lambda: server.stalled == 1)
    assert server.requests[0].sent == max(after, 0)
    assert stream(server, 2).content == FLAC
    assert received == []
    server.release()
    reader.join(LIMIT_S)
    assert received == [FLAC]
    assert server.stalled == 0


def test_a_client_that_leaves_ends_its_stall(server: Server) -> None:
    server.fail(Fault("stall", after_bytes=10))
    with connect(server):
        until(lambda: server.stalled == 1)
    until(lambda: server.stalled == 0)


@pytest.mark.parametrize("lie", [7, -7])
def test_a_content_length_that_is_a_lie(server: Server, lie: int) -> None:
    set_profile(server, length="content-length")
    server.fail(Fault("length", lie_bytes=lie))
    with connect(server) as sock:
        sock.settimeout(LIMIT_S)
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < len(FLAC):
            data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    assert f"content-length: {len(FLAC) + lie}\r\n".encode() in head.lower() + b"\r\n"
    assert body == FLAC
    assert stream(server).content == FLAC


def test_drip(server: Server) -> None:
    server.fail(Fault("drip", after_bytes=len(FLAC) - 2, interval_s=0.001))
    body = b""
    with connect(server) as link:
        while not body.endswith(b"\r\n0\r\n\r\n"):
            body += link.recv(65536)
    assert body.endswith(b"\r\n4a\r\n%s\r\n1\r\n%s\r\n1\r\n%s\r\n0\r\n\r\n" % (FLAC[3000:-2], FLAC[-2:-1], FLAC[-1:]))


@pytest.mark.parametrize("target", ["stream", "sign", "bulk", "stored", "redirected"])
def test_another_status(server: Server, target: Any) -> None:
    set_profile(server, redirect=target == "redirected")
    fault = Fault("status", target, status=503, body=b"busy", content_type="text/html", headers={"Retry-After": "7"})
    ask: dict[str, Callable[[], requests.Response]] = {
        "stream": lambda: stream(server),
        "sign": lambda: sign(server),
        "bulk": lambda: bulk(server, 1, 2),
        "stored": lambda: stored(signed_url(server)),
        "redirected": lambda: stored(stream(server).headers["Location"]),
    }
    server.fail(fault)
    answer = ask[target]()
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (503, b"busy", "7")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert ask[target]().status_code in (200, 307)


@pytest.mark.parametrize("length", ["chunked", "content-length", "close"])
def test_other_content(server: Server, length: str) -> None:
    set_profile(server, length=length)
    body = json.dumps({"detail": "later"}).encode()
    server.fail(Fault("content", body=body, content_type="application/json"))
    answer = stream(server)
    assert (answer.status_code, answer.json()) == (200, {"detail": "later"})
    assert answer.headers["Content-Type"] == "application/json"
    assert ("Content-Length" in answer.headers) == (length == "content-length")


def test_faults_of_json_answers(server: Server) -> None:
    server.fail(Fault("cut", "sign", after_bytes=5))
    _, body, error = raw(server, "/tts-result/1?output_type=file_url")
    assert (body, error) == (b'{"out', None)


def test_faults_count_down_and_fit_their_run(server: Server) -> None:
    server.fail(Fault("status", run_id=1, times=2))
    assert stream(server, 2).status_code == 200
    assert [stream(server).status_code for _ in range(3)] == [500, 500, 200]
    server.fail(Fault("status", times=None))
    assert [stream(server, run_id).status_code for run_id in (1, 2, 1)] == [500, 500, 500]
    assert sign(server).status_code == 200
    server.heal()
    assert stream(server).status_code == 200


def test_stop_with_connections_under_way(server: Server) -> None:
    server.fail(Fault("stall", after_bytes=10))
    with requests.Session() as idle, connect(server), connect(server, "/tts-result/2"):
        idle.get(server.base_url, timeout=LIMIT_S)
        until(lambda: server.stalled == 1)
        server.stop()
    assert "cambfs-demo" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(requests.ConnectionError):
        stream(server)


def test_stop_while_a_client_does_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(bytes(32 << 20))
    with Server({1: path}) as server, connect(server):
        until(lambda: server.count("stream") == 1 and server.requests[0].sent > 0)
        server.stop()
    assert server.requests[0].sent < 32 << 20
