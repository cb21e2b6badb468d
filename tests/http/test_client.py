"""The client's requests, its results from responses, and where the key goes. The wire itself is test_body's."""

from __future__ import annotations

import errno
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import urllib3.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from responses import matchers

from cambfs import __version__
from cambfs.errors import (
    BadResponse,
    BrokenBody,
    CambfsError,
    ConfigError,
    ConnectTimedOut,
    KeyRefused,
    LinkError,
    NotAudio,
    RateLimited,
    RemoteError,
    ResultChanged,
    ServerError,
    SignatureExpired,
    TimedOut,
    TooManyOpenFiles,
    UnknownPath,
    UnknownRun,
    Unreachable,
)
from cambfs.http.client import Client
from cambfs.names import RunId
from cambfs.remote.source import Body, SignedUrl, Source

BASE = "https://client.camb.ai/apis"
STREAM = f"{BASE}/tts-result/5"
BULK = f"{BASE}/tts-results"
STORED = "https://storage.example/a.flac?X-Amz-Signature=s3cr3t-signature"
KEY = "sk-very-secret-key"
FLAC = b"fLaC" + bytes(range(96))
RUN = RunId(5)
SIGNED = SignedUrl(STORED, {"output_url": STORED}, 300)


@pytest.fixture
def api() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE, KEY, timeout_s=5) as made:
        yield made


def content(body: Body, piece: int = 7) -> bytes:
    """All of a body; closes it."""
    found = b""
    while data := body.read(piece):
        found += data
    body.close()
    return found


def sent(api: responses.RequestsMock, index: int = 0) -> Any:
    return api.calls[index].request.headers


def test_it_is_a_source(client: Client) -> None:
    source: Source = client
    assert source is client


# The request


def test_a_stream_is_one_plain_get_with_the_key(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC, content_type="audio/flac", match=[matchers.query_param_matcher({})])
    body = client.open_stream(RUN)
    assert content(body) == FLAC
    assert dict(sent(api)) == {
        "User-Agent": f"cambfs/{__version__}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "x-api-key": KEY,
    }


@pytest.mark.parametrize("base", [BASE + "/", BASE + "//", "HTTPS://CLIENT.camb.ai:443/apis"])
def test_spellings_of_the_base_url(api: responses.RequestsMock, base: str) -> None:
    api.get(f"{base.lower().rstrip('/')}/tts-result/5", FLAC)
    with Client(base, KEY) as client:
        assert content(client.open_stream(RUN)) == FLAC
    assert sent(api)["x-api-key"] == KEY


def test_cookies_are_neither_kept_nor_sent(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC, headers={"Set-Cookie": "session=1; Path=/"})
    for _ in range(2):
        content(client.open_stream(RUN))
    assert "Cookie" not in sent(api, 1)


def test_netrc_is_not_read(
    api: responses.RequestsMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password other-secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    api.get(STREAM, FLAC)
    content(client.open_stream(RUN))
    assert "Authorization" not in sent(api)


def send_options(api: responses.RequestsMock, index: int = 0) -> dict[str, Any]:
    return api.calls[index].request.req_kwargs  # type: ignore[attr-defined, no-any-return]


def test_proxies_come_from_the_environment_once_a_host(
    api: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", "storage.example")
    api.get(STREAM, FLAC)
    api.get(STORED, FLAC)
    with Client(BASE, KEY, timeout_s=30) as client:
        content(client.open_stream(RUN))
        content(client.open_stored(SIGNED, 0, None))
        monkeypatch.delenv("HTTPS_PROXY")
        content(client.open_stream(RUN))
    first, second, third = (send_options(api, i) for i in range(3))
    assert first["proxies"]["https"] == third["proxies"]["https"] == "http://proxy.example:3128"
    assert "https" not in second["proxies"]
    assert first["timeout"] == (10, 30)


def test_this_machine_is_never_asked_through_a_proxy(
    api: responses.RequestsMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    api.get("http://127.0.0.1:8000/tts-result/5", FLAC)
    with Client("http://127.0.0.1:8000", KEY) as client:
        content(client.open_stream(RUN))
    assert send_options(api)["proxies"] == {}


# Construction


@pytest.mark.parametrize("base", ["", "client.camb.ai", "ftp://x/", "http://client.camb.ai/apis", "https://u@h/"])
def test_base_urls_that_cannot_be(base: str) -> None:
    with pytest.raises(ConfigError, match="base URL") as caught:
        Client(base, KEY)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["", " ", "sk-1 sk-2", "sk-1\n", "sk-1\r\nX-Evil: 1", "sk-schlüssel"])
def test_keys_that_cannot_be(key: str) -> None:
    with pytest.raises(ConfigError, match="API key") as caught:
        Client(BASE, key)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf")])
def test_timeouts_that_cannot_be(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        Client(BASE, KEY, timeout_s)


def test_the_key_is_not_in_repr(client: Client) -> None:
    assert repr(client) == "Client('client.camb.ai')"


# The key


def test_the_key_is_checked_with_one_question(api: responses.RequestsMock, client: Client) -> None:
    asked = f"{BASE}/tts-result/0"
    api.get(
        asked,
        status=401,
        json={"error": f"bad key {KEY}"},
        match=[matchers.query_param_matcher({"output_type": "file_url"})],
    )
    with pytest.raises(KeyRefused, match=r"the key: the API says 401: bad key …$"):
        client.check_key()
    assert len(api.calls) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, "null"),
        (200, '{"output_url": "https://storage.example/a"}'),
        (400, '{"detail": "Invalid run id"}'),
        (400, ""),
        (404, '{"detail": "Run not found"}'),
        (404, '{"error": "no such run", "status": 404}'),
        (422, '{"detail": [{"loc": ["path", "run_id"], "msg": "too small", "type": "x"}]}'),
    ],
)
def test_answers_of_an_api_that_takes_the_key(
    api: responses.RequestsMock, client: Client, status: int, body: str
) -> None:
    api.get(f"{BASE}/tts-result/0", status=status, body=body)
    client.check_key()
    assert len(api.calls) == 1


@pytest.mark.parametrize("status", [204, 302, 418, 429, 500, 503])
def test_answers_from_which_nothing_is_learnt_of_the_key(
    api: responses.RequestsMock, client: Client, status: int
) -> None:
    api.get(f"{BASE}/tts-result/0", status=status, body=b"{}")
    with pytest.raises(RemoteError) as caught:
        client.check_key()
    assert not isinstance(caught.value, UnknownRun | KeyRefused)
    assert len(api.calls) == 1


def test_no_answer_to_the_key_check(api: responses.RequestsMock, client: Client) -> None:
    api.get(f"{BASE}/tts-result/0", body=requests.ConnectionError("x"))
    with pytest.raises(LinkError):
        client.check_key()


ABSENT = ['{"detail": "Not Found"}', "<html><h1>404 Not Found</h1></html>", "404 page not found", "", "[]"]


@pytest.mark.parametrize("body", ABSENT)
@pytest.mark.parametrize(
    ("status", "said"), [(404, '{"detail":"Not Found"}'), (405, "<html>"), (200, "<!doctype html>")]
)
def test_a_path_that_is_not_the_apis(
    api: responses.RequestsMock, client: Client, body: str, status: int, said: str
) -> None:
    api.get(f"{BASE}/tts-result/0", status=404, body=body)
    api.post(BULK, status=status, body=said)
    with pytest.raises(ConfigError, match=r"^no CAMB.AI API at https://client.camb.ai/apis; does the base URL end in"):
        client.check_key()


def test_a_web_site_for_every_path_is_not_the_api(api: responses.RequestsMock, client: Client) -> None:
    api.get(f"{BASE}/tts-result/0", status=200, body="\n <!DOCTYPE html><title>Welcome</title>")
    api.post(BULK, status=405)
    with pytest.raises(ConfigError, match=r"no CAMB.AI API"):
        client.check_key()


def test_a_host_that_has_not_seen_the_key_proves_nothing(api: responses.RequestsMock, client: Client) -> None:
    api.get(f"{BASE}/tts-result/0", status=302, headers={"Location": "https://elsewhere.example/login"})
    api.get("https://elsewhere.example/login", body="{}")
    with pytest.raises(BadResponse, match=r"elsewhere\.example"):
        client.check_key()


@pytest.mark.parametrize("status", [200, 400, 422])
@pytest.mark.parametrize("body", ABSENT)
def test_an_api_that_says_as_little_of_a_run_as_of_a_path(
    api: responses.RequestsMock, client: Client, status: int, body: str
) -> None:
    api.get(f"{BASE}/tts-result/0", status=404, body=body)
    api.post(BULK, status=status, body="{}")
    client.check_key()


@pytest.mark.parametrize(("status", "kind"), [(401, KeyRefused), (503, ServerError), (429, RateLimited)])
def test_what_the_second_question_tells(
    api: responses.RequestsMock, client: Client, status: int, kind: type[RemoteError]
) -> None:
    api.get(f"{BASE}/tts-result/0", status=404, body="Not Found")
    api.post(BULK, status=status, body="{}")
    with pytest.raises(kind):
        client.check_key()


@pytest.mark.parametrize("body", ABSENT)
def test_a_404_that_tells_of_no_run_is_told_apart(api: responses.RequestsMock, client: Client, body: str) -> None:
    api.get(STREAM, status=404, body=body)
    with pytest.raises(UnknownPath):
        client.open_stream(RUN)


@pytest.mark.parametrize(("status", "body"), [(404, '{"detail": "Invalid run id"}'), (400, "Not Found"), (422, "")])
def test_what_tells_of_a_run(api: responses.RequestsMock, client: Client, status: int, body: str) -> None:
    api.get(STREAM, status=status, body=body)
    with pytest.raises(UnknownRun) as caught:
        client.open_stream(RUN)
    assert not isinstance(caught.value, UnknownPath)


def test_the_key_does_not_follow_a_redirect_to_another_host(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, status=302, headers={"Location": STORED})
    api.get(STORED, FLAC)
    assert content(client.open_stream(RUN)) == FLAC
    assert sent(api, 0)["x-api-key"] == KEY
    assert KEY not in str(sent(api, 1))


@pytest.mark.parametrize("other", ["https://client.camb.ai:8443/x", "https://evil.example/client.camb.ai/x"])
def test_another_port_or_host_is_another_origin(api: responses.RequestsMock, client: Client, other: str) -> None:
    api.get(STREAM, status=307, headers={"Location": other})
    api.get(other, FLAC)
    content(client.open_stream(RUN))
    assert KEY not in str(sent(api, 1))


def test_once_dropped_the_key_is_not_taken_up_again(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, status=302, headers={"Location": "https://evil.example/"})
    api.get("https://evil.example/", status=302, headers={"Location": f"{BASE}/account"})
    api.get(f"{BASE}/account", FLAC)
    content(client.open_stream(RUN))
    assert KEY not in str(sent(api, 2))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_origin_keeps_key_and_range(
    api: responses.RequestsMock, client: Client, status: int
) -> None:
    api.get(STREAM, status=status, headers={"Location": "/other/5"})
    api.get("https://client.camb.ai/other/5", FLAC[4:], status=206, headers={"Content-Range": "bytes 4-99/100"})
    assert content(client.open_stream(RUN, 4, '"e"')) == FLAC[4:]
    assert sent(api, 1)["x-api-key"] == KEY
    assert sent(api, 1)["Range"] == "bytes=4-"


@pytest.mark.parametrize(
    "location",
    [
        "http://storage.example/a.flac",
        "ftp://storage.example/a.flac",
        "file:///etc/passwd",
        "https://127.0.0.1/a",
        "https://localhost/a",
        "https://169.254.169.254/latest",
        "https://[::1]/a",
        "https://u:p@storage.example/",
        f"https://storage.example/a?k={KEY}",
        f"/elsewhere/{KEY}",
        "https://client.camb.ai\\@evil.example/",
        "//10.0.0.1/a",
        "\xff",
        "\u0100",
        "https://[",
        "",
    ],
)
def test_redirects_that_are_not_followed(api: responses.RequestsMock, client: Client, location: str) -> None:
    api.get(STREAM, status=302, headers={"Location": location})
    with pytest.raises(BadResponse, match=r"run 5: client\.camb.ai redirects to"):
        client.open_stream(RUN)
    assert len(api.calls) == 1


def test_five_redirects_are_followed_and_no_more(api: responses.RequestsMock, client: Client) -> None:
    for hop in range(5):
        api.get(f"{BASE}/hop{hop}" if hop else STREAM, status=302, headers={"Location": f"{BASE}/hop{hop + 1}"})
    last = api.get(f"{BASE}/hop5", FLAC)
    assert content(client.open_stream(RUN)) == FLAC
    api.replace("GET", last.url, status=302, headers={"Location": STREAM})
    with pytest.raises(BadResponse, match="more than 5 times"):
        client.open_stream(RUN)


def test_a_post_is_not_redirected(api: responses.RequestsMock, client: Client) -> None:
    api.post(BULK, status=307, headers={"Location": f"{BASE}/other"})
    with pytest.raises(BadResponse, match="307"):
        client.sign_many([RUN])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_host_redirected_to_knows_neither_runs_nor_keys(
    api: responses.RequestsMock, client: Client, status: int
) -> None:
    api.get(STREAM, status=302, headers={"Location": STORED})
    api.get(STORED, status=status)
    with pytest.raises(BadResponse, match=f"storage.example, .* says {status}"):
        client.open_stream(RUN)


# The stream


def test_what_a_body_tells(api: responses.RequestsMock, client: Client) -> None:
    headers = {
        "Content-Length": "100",
        "ETag": '"e"',
        "Accept-Ranges": "bytes",
        "Last-Modified": "Thu, 01 Jan 1970 00:01:00 GMT",
    }
    api.get(STREAM, FLAC, headers=headers, content_type="Audio/Flac; q=1")
    body = client.open_stream(RUN)
    assert (body.start, body.total, body.framed, body.etag, body.ranges) == (0, 100, True, '"e"', True)
    assert (body.content_type, body.modified_s) == ("audio/flac", 60)
    assert content(body, 1000) == FLAC


def test_what_a_body_does_not_tell(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC, headers={"ETag": 'W/"e"'}, content_type="")
    body = client.open_stream(RUN)
    assert (body.start, body.total, body.framed, body.etag, body.ranges) == (0, None, False, None, False)
    assert (body.content_type, body.modified_s) == ("", None)


def test_going_on_from_an_offset(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC[40:], status=206, headers={"Content-Range": "bytes 40-99/100", "ETag": '"e"'})
    body = client.open_stream(RUN, 40, '"e"')
    assert (body.start, body.stop, body.total, body.framed, body.ranges) == (40, 100, 100, True, True)
    assert content(body) == FLAC[40:]
    assert (sent(api)["Range"], sent(api)["If-Range"]) == ("bytes=40-", '"e"')


def test_a_part_that_does_not_tell_the_whole_says_where_it_stops(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC[40:50], status=206, headers={"Content-Range": "bytes 40-49/*", "ETag": '"e"'})
    body = client.open_stream(RUN, 40, '"e"')
    assert (body.start, body.stop, body.total, body.framed) == (40, 50, None, True)
    assert content(body) == FLAC[40:50]


def test_a_label_with_the_key_is_none(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC, content_type=f"x/{KEY}")
    body = client.open_stream(RUN)
    assert body.content_type == ""
    body.close()


def test_a_range_that_is_ignored_gives_the_whole(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC)
    body = client.open_stream(RUN, 40, '"e"')
    assert (body.start, body.stop) == (0, None)
    assert content(body) == FLAC


def test_without_an_etag_no_part_is_asked_for(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC)
    assert client.open_stream(RUN, 40).start == 0
    assert not {"Range", "If-Range"} & set(sent(api))


def test_a_part_of_another_result(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC[40:], status=206, headers={"Content-Range": "bytes 40-99/100", "ETag": '"f"'})
    with pytest.raises(ResultChanged, match="run 5"):
        client.open_stream(RUN, 40, '"e"')


def test_a_part_that_was_not_asked_for(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, FLAC, status=206, headers={"Content-Range": "bytes 0-99/100"})
    with pytest.raises(BadResponse, match=r"run 5: client\.camb.ai sent a part"):
        client.open_stream(RUN)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 39-99/100"},
        {"Content-Range": "bytes 40-98/100"},
        {"Content-Range": "bytes 40-99/100", "Content-Length": "59"},
        {},
    ],
)
def test_parts_that_are_not_what_was_asked_for(
    api: responses.RequestsMock, client: Client, headers: dict[str, str]
) -> None:
    api.get(STREAM, FLAC[40:], status=206, headers=headers)
    with pytest.raises(BadResponse):
        client.open_stream(RUN, 40, '"e"')


@pytest.mark.parametrize("part", [FLAC[40:99], FLAC[39:]])
def test_a_part_that_has_another_length_than_it_said(api: responses.RequestsMock, client: Client, part: bytes) -> None:
    headers = {"Content-Range": "bytes 40-99/100", "Transfer-Encoding": "chunked"}
    api.get(STREAM, part, status=206, headers=headers)
    body = client.open_stream(RUN, 40, '"e"')
    with pytest.raises(BrokenBody):
        content(body)
    with pytest.raises(BrokenBody):
        body.read(1)


@pytest.mark.parametrize(
    "headers", [{"Content-Length": "-1"}, {"Content-Length": "9" * 30}, {"Content-Encoding": "gzip"}]
)
def test_headers_that_cannot_be_trusted(api: responses.RequestsMock, client: Client, headers: dict[str, str]) -> None:
    api.get(STREAM, FLAC, headers=headers)
    with pytest.raises(BadResponse):
        client.open_stream(RUN)


@pytest.mark.parametrize(
    ("page", "kind", "words"),
    [
        (b'{"detail": "still running"}', "application/json", "still running"),
        (b'{"detail": "mislabelled"}', "audio/flac", "mislabelled"),
        (b'  \n [{"msg": "a list"}]', "audio/flac", "a list"),
        (b"<html><title>Sign in</title>", "", "Sign in"),
        (b"oops", "text/html; charset=utf-8", "oops"),
        (b"null", "application/json", "null"),
        (b"7", "audio/flac", "7"),
        (b'"not yet"', "application/octet-stream", "not yet"),
        (b"upstream connect error", "text/plain", "upstream connect error"),
        (b"data: {}\n\n", "text/event-stream", "data: {}"),
        (b"\xef\xbb\xbfoops", "audio/flac", "oops"),
        ("sorry".encode("utf-16"), "audio/flac", "sorry"),
        ("sorry".encode("utf-16-le"), "audio/flac", "sorry"),
        (b"<?xml version='1.0'?><Error><Message>Denied</Message></Error>", "audio/flac", "Denied"),
        (b"fe\r\nfLaC", "audio/flac", "fe fLaC"),
        (b"\0" * 4096, "audio/flac", "something other"),
        (b"\n" * 600, "", "something other"),
        (b"RIFF\0\0\0\0AVI ", "audio/wav", "RIFF"),
        (b"OggSetc", "audio/ogg", "OggSetc"),
        (b"ID3", "audio/mpeg", "ID3"),
        (b"\xff\xfb", "audio/mpeg", "something other"),
        (b"f", "audio/flac", "f"),
        (b"<" + b"x" * 200_000, "audio/flac", "x"),
    ],
)
def test_a_200_that_is_not_audio(
    api: responses.RequestsMock, client: Client, page: bytes, kind: str, words: str
) -> None:
    api.get(STREAM, page, content_type=kind, headers={"Content-Length": str(len(page))})
    with pytest.raises(NotAudio, match=f"run 5: the API sent .*{re.escape(words)}") as caught:
        client.open_stream(RUN)
    assert caught.value.status == 200


def test_a_200_with_nothing(api: responses.RequestsMock, client: Client) -> None:
    """Only a length says that nothing was meant; the end of the connection may have come too early."""
    api.get(STREAM, b"", headers={"Content-Length": "0"})
    with pytest.raises(NotAudio, match="run 5: the API sent an empty response"):
        client.open_stream(RUN)
    api.get(STREAM, b"")
    with pytest.raises(BrokenBody, match="before the type of the response was clear"):
        client.open_stream(RUN)


@pytest.mark.parametrize("cut", [b"f", b"fLa", b"R", b"RIFF\0\0", b"ID3", b"\0\0\0\x20", b"\xff\xfb\x90"])
def test_what_the_end_of_the_connection_cut_may_be_audio(
    api: responses.RequestsMock, client: Client, cut: bytes
) -> None:
    api.get(STREAM, cut)
    with pytest.raises(BrokenBody):
        client.open_stream(RUN)
    api.replace("GET", STREAM, cut, headers={"Content-Length": str(len(cut))})
    with pytest.raises(NotAudio):
        client.open_stream(RUN)


MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)


@pytest.mark.parametrize(
    "audio",
    [
        FLAC,
        b"ID3\4\0\0\0\0\0\2xx" + FLAC,
        b"RIFF\0\0\0\0WAVEfmt ",
        b"OggS" + bytes(30),
        MP3_FRAME * 6,
        b"\0\0\0\x20ftypM4A " + bytes(30),
    ],
)
@pytest.mark.parametrize("label", ["", "application/json", "text/html"])
def test_audio_is_taken_whatever_its_label(
    api: responses.RequestsMock, client: Client, audio: bytes, label: str
) -> None:
    api.get(STREAM, audio, content_type=label)
    assert content(client.open_stream(RUN)) == audio


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UnknownRun), (404, UnknownRun), (422, UnknownRun), (401, KeyRefused), (403, KeyRefused),
        (429, RateLimited), (408, ServerError), (500, ServerError), (502, ServerError), (416, BadResponse),
        (405, BadResponse), (300, BadResponse),
    ],
)  # fmt: skip
def test_statuses(api: responses.RequestsMock, client: Client, status: int, kind: type[RemoteError]) -> None:
    api.get(STREAM, status=status, json={"detail": "Invalid run id"})
    with pytest.raises(RemoteError) as caught:
        client.open_stream(RUN)
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert str(caught.value) == f"run 5: the API says {status}: Invalid run id"


@pytest.mark.parametrize("status", [202, 204, 304, 305])
def test_statuses_that_make_no_sense(api: responses.RequestsMock, client: Client, status: int) -> None:
    api.get(STREAM, status=status)
    with pytest.raises(BadResponse, match=rf"run 5: the API says {status}$"):
        client.open_stream(RUN)


def test_how_long_to_wait(api: responses.RequestsMock, client: Client) -> None:
    date, later = "Thu, 01 Jan 2026 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:20 GMT"
    api.get(STREAM, status=429, headers={"Retry-After": "7"})
    api.get(STREAM, status=503, headers={"Retry-After": later, "Date": date})
    api.get(STREAM, status=503, headers={"Retry-After": "soon"})
    waits = []
    for _ in range(3):
        with pytest.raises((RateLimited, ServerError)) as caught:
            client.open_stream(RUN)
        waits.append(caught.value.retry_after_s)
    assert waits == [7, 20, None]


def test_what_an_error_says_is_made_harmless(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, status=400, json={"detail": f"a\x1b[31m\n{KEY} https://s.example/x?sig=1 {'y' * 300}"})
    with pytest.raises(UnknownRun) as caught:
        client.open_stream(RUN)
    words = str(caught.value).removeprefix("run 5: the API says 400: ")
    assert words.startswith("a … https://s.example/x?… yyy")
    assert len(words) == 200


def test_an_error_in_an_encoding_keeps_its_status(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, b"\x1f\x8b", status=404, headers={"Content-Encoding": "gzip"})
    with pytest.raises(UnknownRun, match=r"run 5: the API says 404$"):
        client.open_stream(RUN)


# Signing


def test_an_answer_is_kept_whole(api: responses.RequestsMock, client: Client) -> None:
    response = {"output_url": STORED, "extra": {"a": [1]}}
    match = [matchers.query_param_matcher({"output_type": "file_url"})]
    api.get(STREAM, json=response, match=match)
    signed = client.sign(RUN)
    assert (signed.url, signed.response, signed.life_s) == (STORED, response, 300)
    assert "s3cr3t" not in repr(signed)
    assert sent(api)["x-api-key"] == KEY


def test_a_life_is_counted_by_the_clock_of_the_server(api: responses.RequestsMock, client: Client) -> None:
    url = "https://storage.example/a?X-Amz-Date=20000101T000000Z&X-Amz-Expires=600"
    api.get(STREAM, json={"output_url": url}, headers={"Date": "Sat, 01 Jan 2000 00:01:00 GMT"})
    assert client.sign(RUN).life_s == 540


def test_without_a_clock_of_the_server_ours_serves(api: responses.RequestsMock, client: Client) -> None:
    url = f"https://storage.example/a?Expires={int(time.time()) + 1000}"
    api.get(STREAM, json={"output_url": url})
    assert 900 < client.sign(RUN).life_s <= 1000


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"not json",
        b"[]",
        b'"https://storage.example/a"',
        b"{}",
        b'{"output_url": null}',
        b'{"output_url": {"output_url": "https://storage.example/a"}}',
        b'{"output_url": ""}',
        b'{"output_url": "http://storage.example/a"}',
        b'{"output_url": "file:///etc/passwd"}',
        b'{"output_url": "https://127.0.0.1/a"}',
        b'{"output_url": "https://storage.example/a\\nb"}',
        b'{"output_url": "https://storage.example/\\ud800"}',
        b'{"output_url": "https://storage.example/", "x": NaN}',
        b'{"output_url": "https://storage.example/", "x": "' + b"x" * 2**20 + b'"}',
        b"[" * 10**6,
    ],
)
def test_answers_without_a_url_that_can_be_used(api: responses.RequestsMock, client: Client, response: bytes) -> None:
    api.get(STREAM, response)
    with pytest.raises(BadResponse, match="run 5: the API"):
        client.sign(RUN)


def test_the_words_of_an_answer_without_a_url(api: responses.RequestsMock, client: Client) -> None:
    api.get(STREAM, json={"detail": "not yet"})
    with pytest.raises(BadResponse, match=r"output_url: not yet$"):
        client.sign(RUN)


def test_many_are_signed_at_once_in_either_shape(api: responses.RequestsMock, client: Client) -> None:
    url = "https://storage.example/{}".format
    response: dict[str, object] = {
        "1": {"output_url": url(1), "extra": 1},
        "2": url(2),
        "3": None,
        "4": "Invalid run id",
        "5": {"detail": "unknown"},
        "6": {"output_url": "https://127.0.0.1/"},
        "7": [],
        "99": url(99),
        "x": {},
    }
    api.post(BULK, json=response, match=[matchers.json_params_matcher({"run_ids": [1, 2, 3, 4, 5, 6, 7, 8]})])
    signed = client.sign_many([RunId(i) for i in range(1, 9)])
    assert {run_id: (one.url, one.response) for run_id, one in signed.items()} == {
        1: (url(1), {"output_url": url(1), "extra": 1}),
        2: (url(2), {"output_url": url(2)}),
    }
    assert sent(api)["x-api-key"] == KEY


def test_a_url_for_several_runs_is_believed_for_none(api: responses.RequestsMock, client: Client) -> None:
    one, other = "https://storage.example/1", "https://storage.example/2"
    api.post(BULK, json={"1": one, "2": {"output_url": other}, "3": {"output_url": one}})

    assert [*client.sign_many([RunId(1), RunId(2), RunId(3)])] == [2]


@pytest.mark.parametrize(("status", "kind"), [(400, UnknownRun), (200, BadResponse), (500, ServerError)])
def test_many_that_fail_as_a_whole(
    api: responses.RequestsMock, client: Client, status: int, kind: type[RemoteError]
) -> None:
    api.post(BULK, status=status, json=["no"])
    with pytest.raises(kind, match=r"runs 1, 2: .*: no$"):
        client.sign_many([RunId(1), RunId(2)])


# Storage


def test_storage_is_asked_without_the_key(api: responses.RequestsMock, client: Client) -> None:
    api.get(STORED, FLAC[8:12], status=206, headers={"Content-Range": "bytes 8-11/100", "ETag": '"s"'})
    body = client.open_stored(SIGNED, 8, 12)
    assert (body.start, body.total, body.framed, body.ranges, body.etag) == (8, 100, True, True, '"s"')
    assert content(body) == FLAC[8:12]
    assert sent(api)["Range"] == "bytes=8-11"
    assert KEY not in str(sent(api))


def test_storage_on_the_apis_own_origin_gets_no_key_either(api: responses.RequestsMock, client: Client) -> None:
    api.get(f"{BASE}/file", FLAC[8:], status=206, headers={"Content-Range": "bytes 8-99/100"})
    content(client.open_stored(SignedUrl(f"{BASE}/file", {}, 1), 8, None))
    assert sent(api)["Range"] == "bytes=8-"
    assert KEY not in str(sent(api))


@pytest.mark.parametrize("asked", [(8, 12), (0, None), (0, 4096)])
def test_storage_without_ranges(api: responses.RequestsMock, client: Client, asked: tuple[int, int | None]) -> None:
    api.get(STORED, FLAC, headers={"Content-Length": "100", "Accept-Ranges": "bytes"})
    body = client.open_stored(SIGNED, *asked)
    assert (body.start, body.total, body.ranges) == (0, 100, False)
    assert content(body) == FLAC


def test_a_range_beyond_the_end_is_cut_there(api: responses.RequestsMock, client: Client) -> None:
    api.get(STORED, FLAC, status=206, headers={"Content-Range": "bytes 0-99/100"})
    assert content(client.open_stored(SIGNED, 0, 4096)) == FLAC


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, SignatureExpired), (404, BadResponse), (410, BadResponse), (416, BadResponse), (400, BadResponse),
        (429, RateLimited), (503, ServerError), (500, ServerError),
    ],
)  # fmt: skip
def test_statuses_of_storage(api: responses.RequestsMock, client: Client, status: int, kind: type[RemoteError]) -> None:
    page = f"<Error><Code>TheCode</Code><Message>s3cr3t-signature {STORED}</Message></Error>"
    api.get(STORED, page, status=status, headers={"Content-Range": "bytes */100", "Retry-After": "3"})
    with pytest.raises(RemoteError, match=rf"storage: storage.example says {status}.*: TheCode$") as caught:
        client.open_stored(SIGNED, 0, 4096)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.retry_after_s) == (status, 3)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://10.0.0.1/a?sig=s3cr3t", "http://storage.example/a?sig=s3cr3t", "file:///x"])
def test_signed_urls_that_are_not_asked(client: Client, url: str) -> None:
    with pytest.raises(BadResponse, match="storage: the signed URL") as caught:
        client.open_stored(SignedUrl(url, {}, 1), 0, 10)
    assert "s3cr3t" not in str(caught.value)


def test_storage_may_redirect(api: responses.RequestsMock, client: Client) -> None:
    api.get(STORED, status=307, headers={"Location": f"{BASE}/tts-result/7"})
    api.get(f"{BASE}/tts-result/7", FLAC)
    assert content(client.open_stored(SIGNED, 0, None)) == FLAC
    assert KEY not in str(sent(api, 1))


# No response

LEAKY = "HTTPSConnectionPool(host='storage.example'): /a.flac?X-Amz-Signature=s3cr3t-signature"


def nested(inner: BaseException, outer: type[requests.RequestException] = requests.ConnectionError) -> Exception:
    reason = urllib3.exceptions.ProtocolError(LEAKY, inner)
    return outer(urllib3.exceptions.MaxRetryError(None, LEAKY, reason))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind", "code", "words"),
    [
        (nested(socket.gaierror(-2, LEAKY)), Unreachable, errno.EHOSTUNREACH, "not resolved"),
        (nested(ConnectionRefusedError(errno.ECONNREFUSED, "x")), Unreachable, errno.ECONNREFUSED, "refuses"),
        (nested(OSError(errno.EMFILE, "x")), TooManyOpenFiles, None, "Too many open files"),
        (nested(OSError(errno.ENETUNREACH, "x")), Unreachable, errno.ENETUNREACH, "no network"),
        (nested(OSError(errno.EHOSTUNREACH, "x")), Unreachable, errno.EHOSTUNREACH, "no route"),
        (requests.exceptions.SSLError(LEAKY), Unreachable, errno.EHOSTUNREACH, "TLS"),
        (requests.exceptions.ProxyError(LEAKY), Unreachable, errno.EHOSTUNREACH, "proxy"),
        (
            nested(ConnectionRefusedError(errno.ECONNREFUSED, "x"), requests.exceptions.ProxyError),
            Unreachable,
            errno.ECONNREFUSED,
            "proxy",
        ),
        (requests.ConnectTimeout(LEAKY), ConnectTimedOut, None, "in time"),
        (requests.ReadTimeout(LEAKY), TimedOut, None, "in time"),
        (nested(TimeoutError(errno.ETIMEDOUT, "x")), TimedOut, None, "in time"),
        (nested(ConnectionResetError(errno.ECONNRESET, "x")), LinkError, None, "closed the connection"),
        (requests.ConnectionError(LEAKY), LinkError, None, "no response"),
        (requests.exceptions.InvalidHeader(LEAKY), BadResponse, None, "HTTP"),
        (requests.exceptions.InvalidURL(LEAKY), BadResponse, None, "HTTP"),
        (UnicodeError(LEAKY), BadResponse, None, "HTTP"),
    ],
)
def test_why_there_is_no_answer(
    api: responses.RequestsMock,
    client: Client,
    error: Exception,
    kind: type[CambfsError],
    code: int | None,
    words: str,
) -> None:
    api.get(STORED, body=error)
    with pytest.raises(CambfsError, match=words) as caught:
        client.open_stored(SIGNED, 0, 10)
    assert type(caught.value) is kind
    assert getattr(caught.value, "errno", None) == code
    assert "storage.example" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# Anything

VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Content-Length",
            "Content-Range",
            "Content-Encoding",
            "Transfer-Encoding",
            "Location",
            "ETag",
            "Date",
            "Retry-After",
        ]
    ),
    VALUES,
    max_size=4,
)
ANSWERS = st.binary(max_size=60) | st.builds(
    lambda value: json.dumps(value).encode(),
    st.dictionaries(
        st.sampled_from(["5", "output_url", "detail", "error"]),
        st.none() | st.text(max_size=20) | st.lists(st.text(max_size=5)) | st.just(STORED),
    ),
)


def failure(ask: Callable[[], object]) -> str:
    try:
        ask()
    except CambfsError as error:
        return str(error)
    return ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.sampled_from([200, 206, 302, 400, 403, 429, 500]), HEADERS, ANSWERS)
def test_any_answer_is_a_result_or_an_error_of_ours(
    client: Client, status: int, headers: dict[str, str], response: bytes
) -> None:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as api:
        for method, url in (("GET", STREAM), ("GET", STORED), ("POST", BULK)):
            api.add(method, url, response, status=status, headers=headers)
        for ask in (
            lambda: content(client.open_stream(RUN)),
            lambda: content(client.open_stream(RUN, 3, '"e"')),
            lambda: content(client.open_stored(SIGNED, 3, 9)),
            lambda: client.sign(RUN),
            lambda: client.sign_many([RUN]),
        ):
            text = failure(ask)
            assert len(text.splitlines()) <= 1
            assert KEY not in text
            assert "s3cr3t" not in text
