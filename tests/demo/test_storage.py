"""The storage of the demo, and streams that are redirected to it."""

from __future__ import annotations

import struct
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from cambfs.demo import samples
from cambfs.demo.profile import Profile
from cambfs.demo.server import Server
from tests.demo.asking import (
    FLAC,
    LIMIT_S,
    set_profile,
    sign,
    signed_url,
    stored,
    stream,
    until,
)

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
    response = stored(signed_url(server), Range="bytes=0-99")
    assert (response.status_code, response.content) == (206, FLAC[:100])
    assert response.headers["Content-Range"] == f"bytes 0-99/{len(FLAC)}"
    assert response.headers["Content-Length"] == "100"
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Last-Modified"].endswith("GMT")


def test_storage_without_ranges(server: Server) -> None:
    set_profile(server, storage="no-ranges")
    response = stored(signed_url(server), Range="bytes=0-99")
    assert (response.status_code, response.content) == (200, FLAC)
    assert not {"Accept-Ranges", "Content-Range"} & set(response.headers)


@pytest.mark.parametrize("storage", ["ranges", "no-ranges", "wav", "other"])
def test_storage_refuses_head(server: Server, storage: str) -> None:
    set_profile(server, storage=storage)
    assert requests.head(signed_url(server), timeout=LIMIT_S).status_code == 403


def test_storage_refuses_a_wrong_signature(server: Server) -> None:
    url = signed_url(server)
    response = stored(url.replace("audio_1.", "audio_2."))
    assert response.status_code == 403
    assert response.headers["Content-Type"] == "application/xml"
    assert b"<Code>SignatureDoesNotMatch</Code>" in response.content
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
    response = stream(server)
    assert response.status_code == 307
    assert response.headers["Location"].startswith(server.storage_url)
    assert stored(response.headers["Location"]).content == FLAC


def test_a_redirected_stream_is_framed_and_cut_into_ranges_as_others(server: Server) -> None:
    set_profile(server, redirect=True, ranges=True, length="content-length")
    response = stored(stream(server).headers["Location"], Range="bytes=5-9")
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (206, FLAC[5:10], "5")
