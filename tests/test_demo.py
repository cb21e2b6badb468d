"""The embedded API: what arrives on the wire is what the profile, or the fault, says."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from cambfs.demo import samples
from cambfs.demo.faults import BEFORE_HEADERS, Fault
from cambfs.demo.profile import Profile
from cambfs.demo.server import Server

FLAC = b"fLaC" + bytes(range(256)) * 12
KEY = {"x-api-key": "demo-key"}
LIMIT_S = 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "result"
    path.write_bytes(FLAC)
    with Server({1: path, 2: path}, Profile(chunk_bytes=1000)) as running:
        yield running


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={**KEY, **headers}, timeout=LIMIT_S, allow_redirects=False)


def stream(server: Server, run_id: object = 1, **headers: str) -> requests.Response:
    return get(f"{server.base_url}/tts-result/{run_id}", **headers)


def sign(server: Server, run_id: object = 1) -> requests.Response:
    return get(f"{server.base_url}/tts-result/{run_id}?output_type=file_url")


def signed_url(server: Server) -> str:
    url = sign(server).json()["output_url"]
    assert isinstance(url, str)
    return url


def stored(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers=headers, timeout=LIMIT_S)


def bulk(server: Server, *run_ids: object) -> requests.Response:
    return requests.post(
        f"{server.base_url}/tts-results", json={"run_ids": run_ids}, headers=KEY, timeout=LIMIT_S, allow_redirects=False
    )


def set_profile(server: Server, **changes: Any) -> None:
    server.profile = replace(server.profile, **changes)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def connect(server: Server, path: str = "/tts-result/1") -> socket.socket:
    """A connection on which a stream has been asked for, without asking for the connection's end."""
    parts = urlsplit(server.base_url)
    link = socket.create_connection((str(parts.hostname), parts.port or 0), LIMIT_S)
    link.sendall(f"GET {parts.path}{path} HTTP/1.1\r\nHost: demo\r\nx-api-key: demo-key\r\n\r\n".encode())
    return link


def raw(server: Server, path: str = "/tts-result/1") -> tuple[bytes, bytes, type[BaseException] | None]:
    """Headers and body as they come over the wire until the connection ends, and how it ended: None for a FIN."""
    received = b""
    with connect(server, path) as link:
        try:
            while data := link.recv(65536):
                received += data
        except OSError as error:
            head, _, body = received.partition(b"\r\n\r\n")
            return head.lower(), body, type(error)
    head, _, body = received.partition(b"\r\n\r\n")
    return head.lower(), body, None


def opened(server: Server, path: str = "/tts-result/1") -> tuple[HTTPConnection, HTTPResponse]:
    parts = urlsplit(server.base_url)
    connection = HTTPConnection(str(parts.hostname), parts.port, timeout=LIMIT_S)
    connection.request("GET", parts.path + path, headers=KEY)
    return connection, connection.getresponse()


# The samples


def test_samples_are_five_seekable_flacs_of_speech() -> None:
    assert list(samples()) == [101, 102, 103, 104, 105]
    for path in samples().values():
        subprocess.run(["flac", "--test", "--silent", str(path)], check=True, timeout=LIMIT_S)
        head = path.read_bytes()[:42]
        rate_and_count, md5 = struct.unpack_from(">Q16s", head, 18)
        assert head[:4] == b"fLaC"
        assert rate_and_count >> 44 == 22050
        assert rate_and_count & 0xFFFFFFFFF > 4 * 22050
        assert md5 != bytes(16)


def test_the_package_is_imported_without_the_extra() -> None:
    code = "import sys, cambfs.demo, cambfs.demo.profile, cambfs.demo.faults; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"starlette", "uvicorn"} & set(loaded.stdout.split())


def test_the_server_without_the_extra_is_an_import_error() -> None:
    code = "import sys; sys.modules['uvicorn'] = None\ntry: import cambfs.demo.server\nexcept ImportError: print('so')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout == "so\n"


def test_a_sample_is_served_as_it_is() -> None:
    with Server(samples()) as server:
        for run_id, path in samples().items():
            answer = stream(server, run_id)
            assert answer.content == path.read_bytes()
            assert answer.headers["Content-Type"] == "audio/flac"


# Framing


def test_chunked(server: Server) -> None:
    connection, answer = opened(server)
    assert answer.getheader("Transfer-Encoding") == "chunked"
    assert answer.getheader("Content-Length") is None
    assert answer.read() == FLAC
    assert connection.sock is not None
    connection.close()


def test_content_length(server: Server) -> None:
    set_profile(server, length="content-length")
    connection, answer = opened(server)
    assert answer.getheader("Content-Length") == str(len(FLAC))
    assert answer.getheader("Transfer-Encoding") is None
    assert answer.read() == FLAC
    connection.close()


def test_ended_by_the_connection(server: Server) -> None:
    set_profile(server, length="close")
    head, body, error = raw(server)
    assert head.startswith(b"http/1.1 200")
    assert b"content-length" not in head
    assert b"transfer-encoding" not in head
    assert (body, error) == (FLAC, None)


def test_chunks_are_of_the_size_asked_for(server: Server) -> None:
    set_profile(server, chunk_bytes=2000)
    with connect(server) as link:
        received = b""
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += link.recv(65536)
    body = received.partition(b"\r\n\r\n")[2]
    assert body == b"7d0\r\n%s\r\n434\r\n%s\r\n0\r\n\r\n" % (FLAC[:2000], FLAC[2000:])


def test_the_rate_bounds_the_stream(server: Server) -> None:
    set_profile(server, rate=20000)
    began = time.monotonic()
    assert stream(server).content == FLAC
    assert time.monotonic() - began >= len(FLAC) / 20000


def test_the_latency_is_waited_out(server: Server) -> None:
    set_profile(server, latency_s=0.1)
    began = time.monotonic()
    assert stream(server).ok
    assert time.monotonic() - began >= 0.1


# Ranges of the stream


@pytest.mark.parametrize("length", ["chunked", "content-length", "close"])
def test_a_range_is_honoured_in_every_framing(server: Server, length: str) -> None:
    set_profile(server, ranges=True, length=length)
    answer = stream(server, Range="bytes=100-1999")
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes 100-1999/{len(FLAC)}"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.content == FLAC[100:2000]


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("0-0", 0, 1), ("3000-", 3000, 3076), ("-10", 3066, 3076), ("3000-9999", 3000, 3076)]
)
def test_forms_of_a_range(server: Server, asked: str, start: int, stop: int) -> None:
    set_profile(server, ranges=True)
    answer = stream(server, Range=f"bytes={asked}")
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(FLAC)}"
    assert answer.content == FLAC[start:stop]


def test_a_range_behind_the_end(server: Server) -> None:
    set_profile(server, ranges=True)
    answer = stream(server, Range="bytes=3076-")
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == "bytes */3076"


def test_if_range(server: Server) -> None:
    set_profile(server, ranges=True)
    etag = stream(server).headers["ETag"]
    assert etag.startswith('"')
    assert stream(server, **{"Range": "bytes=9-", "If-Range": etag}).status_code == 206
    answer = stream(server, **{"Range": "bytes=9-", "If-Range": '"another"'})
    assert (answer.status_code, answer.content) == (200, FLAC)


def test_the_etag_is_another_when_the_file_is(server: Server, tmp_path: Path) -> None:
    set_profile(server, ranges=True)
    etag = stream(server).headers["ETag"]
    server.results[1] = tmp_path / "newer"
    server.results[1].write_bytes(FLAC)
    assert stream(server).headers["ETag"] != etag


def test_a_range_is_ignored_otherwise(server: Server) -> None:
    answer = stream(server, Range="bytes=100-")
    assert (answer.status_code, answer.content) == (200, FLAC)
    assert not {"Accept-Ranges", "ETag", "Content-Range"} & set(answer.headers)


# Storage


def test_the_signed_url_says_how_long_it_lives(server: Server) -> None:
    set_profile(server, url_life_s=90)
    first, second = signed_url(server), signed_url(server)
    query = parse_qs(urlsplit(first).query)
    assert first != second
    assert first.startswith(server.storage_url)
    assert urlsplit(server.storage_url).netloc != urlsplit(server.base_url).netloc
    assert query["X-Amz-Expires"] == ["90"]
    assert time.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")


def test_storage_with_ranges(server: Server) -> None:
    answer = stored(signed_url(server), Range="bytes=0-99")
    assert (answer.status_code, answer.content) == (206, FLAC[:100])
    assert answer.headers["Content-Range"] == f"bytes 0-99/{len(FLAC)}"
    assert answer.headers["Content-Length"] == "100"
    assert answer.headers["ETag"].startswith('"')
    assert answer.headers["Last-Modified"].endswith("GMT")


def test_storage_without_ranges(server: Server) -> None:
    set_profile(server, storage="no-ranges")
    answer = stored(signed_url(server), Range="bytes=0-99")
    assert (answer.status_code, answer.content) == (200, FLAC)
    assert not {"Accept-Ranges", "Content-Range"} & set(answer.headers)


@pytest.mark.parametrize("storage", ["ranges", "no-ranges", "wav", "other"])
def test_storage_refuses_head(server: Server, storage: str) -> None:
    set_profile(server, storage=storage)
    assert requests.head(signed_url(server), timeout=LIMIT_S).status_code == 403
    assert [record.status for record in server.requests if record.method == "HEAD"] == [403]


def test_storage_refuses_a_wrong_signature(server: Server) -> None:
    url = signed_url(server)
    answer = stored(url.replace("audio_1.", "audio_2."))
    assert answer.status_code == 403
    assert answer.headers["Content-Type"] == "application/xml"
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.content
    assert stored(url.partition("?")[0]).status_code == 403


def test_a_signed_url_expires(server: Server) -> None:
    set_profile(server, url_life_s=0.05)
    url = signed_url(server)
    until(lambda: stored(url).status_code == 403)
    assert b"<Code>AccessDenied</Code>" in stored(url).content
    set_profile(server, url_life_s=3600)
    assert stored(signed_url(server)).status_code == 200


def test_storage_of_a_wav(server: Server) -> None:
    set_profile(server, storage="wav")
    content = stored(signed_url(server)).content
    riff, size, wave = struct.unpack_from("<4sI4s", content)
    assert (riff, size, wave) == (b"RIFF", len(content) - 8, b"WAVE")
    assert len(content) > len(FLAC)
    assert stored(signed_url(server), Range="bytes=40-50").content == content[40:51]


def test_storage_of_another_flac() -> None:
    with Server(samples(), Profile(storage="other")) as server:
        audio = samples()[101].read_bytes()
        url = sign(server, 101).json()["output_url"]
        content = stored(url).content
        assert stored(url, Range="bytes=20-40").content == content[20:41]
        assert stored(url, Range="bytes=-10").content == content[-10:]
    assert content[:26] == audio[:26]
    assert content[26:42] != audio[26:42]
    assert len(content) > len(audio)


def test_storage_that_cannot_be_reached(server: Server) -> None:
    set_profile(server, storage="unreachable")
    with pytest.raises(requests.ConnectionError, match="refused"):
        stored(signed_url(server))


def test_stream_and_storage_disagree_on_the_etag(server: Server) -> None:
    set_profile(server, ranges=True)
    assert stream(server).headers["ETag"] != stored(signed_url(server)).headers["ETag"]


# Redirect


def test_the_stream_is_redirected_to_the_other_origin(server: Server) -> None:
    set_profile(server, redirect=True)
    answer = stream(server)
    assert answer.status_code == 307
    assert answer.headers["Location"].startswith(server.storage_url)
    assert stored(answer.headers["Location"]).content == FLAC
    assert (server.count("stream"), server.count("redirected")) == (1, 1)


def test_a_key_that_follows_the_redirect_is_noticed(server: Server) -> None:
    set_profile(server, redirect=True)
    url = f"{server.base_url}/tts-result/1"
    assert requests.get(url, headers=KEY, timeout=LIMIT_S).content == FLAC
    assert [record.had_key for record in server.requests if record.origin == "storage"] == [True]
    stored(stream(server).headers["Location"])
    assert [record.had_key for record in server.requests if record.origin == "storage"] == [True, False]


def test_a_redirected_stream_is_framed_and_cut_into_ranges_as_others(server: Server) -> None:
    set_profile(server, redirect=True, ranges=True, length="content-length")
    answer = stored(stream(server).headers["Location"], Range="bytes=5-9")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (206, FLAC[5:10], "5")


# Bulk


def test_bulk_as_objects_and_as_strings(server: Server) -> None:
    objects = bulk(server, 1, 2).json()
    assert stored(objects["2"]["output_url"]).content == FLAC
    set_profile(server, bulk="strings")
    strings = bulk(server, 1, 2).json()
    assert stored(strings["2"]).content == FLAC
    assert list(objects) == list(strings) == ["1", "2"]


@pytest.mark.parametrize(("bulk_mode", "status"), [("fails", 400), ("absent", 404)])
def test_bulk_that_fails(server: Server, bulk_mode: str, status: int) -> None:
    set_profile(server, bulk=bulk_mode)
    assert bulk(server, 1, 2).status_code == status
    assert "detail" in bulk(server, 1, 2).json()


def test_an_unknown_run_in_bulk(server: Server) -> None:
    assert list(bulk(server, 1, 99).json()) == ["1"]
    set_profile(server, bulk_unknown="null")
    assert bulk(server, 1, 99).json()["99"] is None
    set_profile(server, bulk_unknown="text")
    assert isinstance(bulk(server, 1, 99).json()["99"], str)
    set_profile(server, bulk_unknown="fail")
    assert bulk(server, 1, 99).status_code == 400


@pytest.mark.parametrize("run_ids", [[], [1], [1, 2, 3, 4, 5, 6], ["x", 1], [True, 1]])
def test_bulk_takes_two_to_five_integers(server: Server, run_ids: list[object]) -> None:
    answer = bulk(server, *run_ids)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "run_ids"]


# Refusals


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "another"}])
def test_the_key_is_checked(server: Server, headers: dict[str, str]) -> None:
    for answer in (
        requests.get(f"{server.base_url}/tts-result/1", headers=headers, timeout=LIMIT_S),
        requests.post(f"{server.base_url}/tts-results", headers=headers, timeout=LIMIT_S),
    ):
        assert answer.status_code == 401
        assert answer.json() == {"error": "Invalid API key", "status": 401}
    assert not any(record.had_key for record in server.requests)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_unknown_run(server: Server, status: int) -> None:
    set_profile(server, unknown_status=status)
    for answer in (stream(server, 99), sign(server, 99)):
        assert answer.status_code == status
        detail = answer.json()["detail"]
        assert (detail[0]["msg"] if status == 422 else detail) == "Invalid run id"


def test_a_forbidden_run(server: Server) -> None:
    set_profile(server, forbidden=frozenset({1}))
    assert (stream(server, 1).status_code, stream(server, 2).status_code) == (403, 200)


def test_a_run_id_that_is_no_integer(server: Server) -> None:
    answer = stream(server, "8f14e45f-ceea-467f-a8c0-7c2b7c3f5a11")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["path", "run_id"]


def test_an_unknown_output_type(server: Server) -> None:
    assert get(f"{server.base_url}/tts-result/1?output_type=FILE_URL").status_code == 422


def test_other_methods_and_paths(server: Server) -> None:
    head = requests.head(f"{server.base_url}/tts-result/1", headers=KEY, timeout=LIMIT_S)
    assert (head.status_code, head.headers["Allow"]) == (405, "GET")
    assert get(f"{server.base_url}/tts-results").status_code == 405
    assert get(f"{server.base_url}/nothing").json() == {"detail": "Not Found"}


def test_the_first_requests_are_too_many(server: Server) -> None:
    set_profile(server, busy=2)
    answers = [stream(server) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "0"
    assert stream(server, 2).status_code == 429
    assert sign(server).status_code == 429


def test_a_file_that_is_gone(server: Server) -> None:
    url = signed_url(server)
    server.results[1].unlink()
    assert stream(server).status_code == 500
    assert stored(url).status_code == 404


# The log


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


# Faults


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


# Starting and stopping


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


def test_many_servers_at_a_time_and_again(tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(FLAC)
    first = Server({1: path})
    with first, Server({1: path}) as second:
        assert first.base_url != second.base_url
        assert stream(first).content == stream(second).content == FLAC
        old = first.base_url
    with first:
        assert stream(first).content == FLAC
        with pytest.raises(OSError, match="in use"):
            Server({}, port=urlsplit(first.base_url).port or 0).start()
        with pytest.raises(OSError, match="in use"):
            Server({}, storage_port=urlsplit(first.base_url).port or 0).start()
    port = urlsplit(old).port or 0
    with Server({1: path}, port=port) as third:
        assert third.base_url == old


def test_results_and_profile_change_while_it_runs(server: Server, tmp_path: Path) -> None:
    assert stream(server, 3).status_code == 400
    server.results[3] = tmp_path / "third"
    server.results[3].write_bytes(b"fLaC3")
    assert stream(server, 3).content == b"fLaC3"
    server.profile = Profile(unknown_status=404)
    assert stream(server, 4).status_code == 404


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"chunk_bytes": 0}, {"url_life_s": 0}, {"latency_s": -1}, {"busy": -1}])
def test_a_profile_that_makes_no_sense(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 1|above 0"):
        Profile(**wrong)


def test_it_runs_alone() -> None:
    command = [sys.executable, "-W", "error", "-m", "cambfs.demo", "--length", "close", "--forbidden", "101,102"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            settings = dict(part.split("=", 1) for part in process.stdout.readline().split())
            url = settings["CAMB_BASE_URL"] + "/tts-result/"
            assert settings["CAMB_API_KEY"] == "demo-key"
            assert get(url + "102").status_code == 403
            assert get(url + "103").content == samples()[103].read_bytes()
        finally:
            process.terminate()
        assert process.communicate(timeout=LIMIT_S)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("options", [["--rate", "0"], ["--result", "x"], ["--forbidden", "a"], ["--storage", "tape"]])
def test_bad_options_are_named(options: list[str]) -> None:
    command = [sys.executable, "-m", "cambfs.demo", *options]
    told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr
    assert options[0].strip("-") in told.stderr.splitlines()[-1]
