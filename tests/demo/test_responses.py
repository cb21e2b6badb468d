"""The demo API's responses: samples, framing and pace, ranges, refusals."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path

import pytest
import requests

from cambfs.demo import samples
from cambfs.demo.server import Server
from tests.demo.asking import (
    FLAC,
    KEY,
    LIMIT_S,
    bulk,
    connect,
    get,
    opened,
    raw,
    set_profile,
    sign,
    signed_url,
    stored,
    stream,
)

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


def test_a_sample_is_served_as_it_is() -> None:
    with Server(samples()) as server:
        for run_id, path in samples().items():
            response = stream(server, run_id)
            assert response.content == path.read_bytes()
            assert response.headers["Content-Type"] == "audio/flac"


# Framing


def test_chunked(server: Server) -> None:
    connection, response = opened(server)
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert response.getheader("Content-Length") is None
    assert response.read() == FLAC
    assert connection.sock is not None
    connection.close()


def test_content_length(server: Server) -> None:
    set_profile(server, length="content-length")
    connection, response = opened(server)
    assert response.getheader("Content-Length") == str(len(FLAC))
    assert response.getheader("Transfer-Encoding") is None
    assert response.read() == FLAC
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
    response = stream(server, Range="bytes=100-1999")
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes 100-1999/{len(FLAC)}"
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.content == FLAC[100:2000]


@pytest.mark.parametrize(
    ("asked", "start", "stop"), [("0-0", 0, 1), ("3000-", 3000, 3076), ("-10", 3066, 3076), ("3000-9999", 3000, 3076)]
)
def test_forms_of_a_range(server: Server, asked: str, start: int, stop: int) -> None:
    set_profile(server, ranges=True)
    response = stream(server, Range=f"bytes={asked}")
    assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(FLAC)}"
    assert response.content == FLAC[start:stop]


def test_a_range_behind_the_end(server: Server) -> None:
    set_profile(server, ranges=True)
    response = stream(server, Range="bytes=3076-")
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */3076"


def test_if_range(server: Server) -> None:
    set_profile(server, ranges=True)
    etag = stream(server).headers["ETag"]
    assert etag.startswith('"')
    assert stream(server, **{"Range": "bytes=9-", "If-Range": etag}).status_code == 206
    response = stream(server, **{"Range": "bytes=9-", "If-Range": '"another"'})
    assert (response.status_code, response.content) == (200, FLAC)


def test_the_etag_is_another_when_the_file_is(server: Server, tmp_path: Path) -> None:
    set_profile(server, ranges=True)
    etag = stream(server).headers["ETag"]
    server.results[1] = tmp_path / "newer"
    server.results[1].write_bytes(FLAC)
    assert stream(server).headers["ETag"] != etag


def test_a_range_is_ignored_otherwise(server: Server) -> None:
    response = stream(server, Range="bytes=100-")
    assert (response.status_code, response.content) == (200, FLAC)
    assert not {"Accept-Ranges", "ETag", "Content-Range"} & set(response.headers)


# Refusals


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "another"}])
def test_the_key_is_checked(server: Server, headers: dict[str, str]) -> None:
    for response in (
        requests.get(f"{server.base_url}/tts-result/1", headers=headers, timeout=LIMIT_S),
        requests.post(f"{server.base_url}/tts-results", headers=headers, timeout=LIMIT_S),
    ):
        assert response.status_code == 401
        assert response.json() == {"error": "Invalid API key", "status": 401}


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_unknown_run(server: Server, status: int) -> None:
    set_profile(server, unknown_status=status)
    for response in (stream(server, 99), sign(server, 99)):
        assert response.status_code == status
        detail = response.json()["detail"]
        assert (detail[0]["msg"] if status == 422 else detail) == "Invalid run id"


def test_a_forbidden_run(server: Server) -> None:
    set_profile(server, forbidden=frozenset({1}))
    assert (stream(server, 1).status_code, stream(server, 2).status_code) == (403, 200)


def test_a_run_id_that_is_no_integer(server: Server) -> None:
    response = stream(server, "8f14e45f-ceea-467f-a8c0-7c2b7c3f5a11")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["path", "run_id"]


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
    assert [response.status_code for response in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "0"
    assert stream(server, 2).status_code == 429
    assert sign(server).status_code == 429


def test_a_file_that_is_gone(server: Server) -> None:
    url = signed_url(server)
    server.results[1].unlink()
    assert stream(server).status_code == 500
    assert stored(url).status_code == 404


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
    response = bulk(server, *run_ids)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "run_ids"]
