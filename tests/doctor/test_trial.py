"""The checks of one run: against the embedded API in all its modes, and raw responses for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cambfs.demo import samples
from cambfs.demo.profile import Profile
from cambfs.doctor import trial
from cambfs.doctor.report import Finding, State
from cambfs.doctor.setup import Setup
from cambfs.names import RunId
from cambfs.remote.source import SignedUrl
from cambfs.settings.config import ApiKey, Settings
from tests.api.faults import Fault
from tests.api.server import Server as Demo
from tests.wire.raw_server import FLAC, KEY, OK, Server, send, sized

RUN = RunId(101)
SIZE = samples()[101].stat().st_size


@pytest.fixture(scope="module")
def shared() -> Iterator[Demo]:
    with Demo(samples(), key=KEY) as server:
        yield server


@pytest.fixture
def api(shared: Demo) -> Iterator[Demo]:
    yield shared
    shared.profile = Profile()
    shared.heal()
    shared.forget()


def settings(base_url: str, key: str = KEY) -> Settings:
    return Settings(base_url=base_url, timeout=20.0, key=ApiKey(key))


def tried(base_url: str, run_id: int = RUN, key: str = KEY) -> dict[str, Finding]:
    found = {finding.check: finding for finding in trial.examine(settings(base_url, key), RunId(run_id))}
    for finding in found.values():
        assert bool(finding.remedy) == (finding.state is not State.OK), "a remedy, unless all is well"
        assert KEY not in finding.found
        assert "X-Amz" not in finding.found
        assert "?" not in finding.found.replace("?…", "")
    return found


def test_a_run_of_an_api_as_it_is_believed_to_be(api: Demo) -> None:
    found = tried(api.base_url)
    assert list(found) == [
        "response",
        "length",
        "interim responses",
        "content",
        "times",
        "ranges",
        "file_url",
        "life of the URL",
        "storage",
        "storage times",
    ]
    assert {finding.state for finding in found.values()} == {State.OK}
    assert found["response"].found.startswith("200; it has ")
    assert "in chunks" in found["length"].found
    assert f"FLAC, labelled audio/flac, {SIZE} bytes" in found["content"].found
    assert "complete by its own structure" in found["content"].found
    assert "ignored by the API" in found["ranges"].found
    assert api.storage_url.removeprefix("http://") in found["file_url"].found
    assert "same first bytes and same length" in found["storage"].found
    assert "ranges are honoured" in found["storage"].found


def test_the_result_is_downloaded_once(api: Demo) -> None:
    tried(api.base_url)
    streams = [record for record in api.requests if record.kind == "stream"]
    assert [record.range for record in streams] == [None, "bytes=1-100"]
    assert [record.range for record in api.requests if record.kind == "stored"] == ["bytes=0-4095"]


def test_an_api_with_lengths_and_ranges(api: Demo) -> None:
    api.profile = Profile(length="content-length", ranges=True)
    found = tried(api.base_url)
    assert found["length"].found == f"Content-Length, {SIZE} bytes"
    assert found["ranges"].found == "honoured by the API, with an ETag"
    assert "ETag" in found["response"].found


def test_a_length_that_only_the_end_of_the_connection_tells(api: Demo) -> None:
    api.profile = Profile(length="close")
    assert tried(api.base_url)["length"].state is State.WARNING


def test_a_redirect(api: Demo) -> None:
    api.profile = Profile(redirect=True)
    assert "to which the API redirects" in tried(api.base_url)["response"].found


@pytest.mark.parametrize(
    ("storage", "state", "said"),
    [
        ("no-ranges", State.OK, "same length as the API's; ranges are ignored"),
        ("wav", State.WARNING, "another file"),
        ("unreachable", State.WARNING, "refuses the connection"),
    ],
)
def test_storage(api: Demo, storage: Any, state: State, said: str) -> None:
    api.profile = Profile(storage=storage)
    finding = tried(api.base_url)["storage"]
    assert finding.state is state
    assert said in finding.found


@pytest.mark.parametrize(
    ("is_head_same", "total", "state"),
    [(True, 9, State.OK), (True, 8, State.WARNING), (True, None, State.WARNING), (False, 9, State.WARNING)],
)
def test_what_storage_may_be(is_head_same: bool, total: int | None, state: State) -> None:
    assert trial.same(is_head_same, total, 9, "ranges").state is state


def test_storage_that_refuses(api: Demo) -> None:
    api.fail(Fault("status", target="stored", status=403, body=b"<Error><Code>AccessDenied</Code></Error>"))
    finding = tried(api.base_url)["storage"]
    assert finding.state is State.WARNING
    assert "says 403: AccessDenied" in finding.found


def test_an_api_that_does_not_sign(api: Demo) -> None:
    api.fail(Fault("status", target="sign", status=500))
    found = tried(api.base_url)
    assert found["storage"].state is State.BROKEN
    assert "the API says 500" in found["storage"].found
    assert found["content"].state is State.OK


def test_the_life_of_a_url(api: Demo) -> None:
    api.profile = Profile(url_life_s=20)
    assert tried(api.base_url)["life of the URL"].state is State.WARNING
    told = trial.life(SignedUrl("https://s/?X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600", {}, 3600.0))
    assert (told.state, told.found) == (State.OK, "3600 s")
    assert trial.life(SignedUrl("https://s/a", {}, 300.0)).found == "unknown; cambfs assumes 300 s"


@pytest.mark.parametrize("status", [400, 404, 422])
def test_an_unknown_run(api: Demo, status: Any) -> None:
    api.profile = Profile(unknown_status=status)
    (only,) = tried(api.base_url, 7).values()
    assert only.state is State.BROKEN
    assert f"says {status}" in only.found
    assert "run_id of a finished task" in only.remedy


@pytest.mark.parametrize(("key", "status"), [("wrong-key", 401), (KEY, 403)])
def test_a_run_that_may_not_be_read(api: Demo, key: str, status: int) -> None:
    api.profile = Profile(forbidden=frozenset({RUN}))
    (only,) = tried(api.base_url, RUN, key).values()
    assert only.state is State.BROKEN
    assert f"says {status}" in only.found
    assert "key of the account" in only.remedy


def test_an_api_that_has_trouble(api: Demo) -> None:
    api.fail(Fault("status", target="stream", status=503, body=b'{"detail": "down"}'))
    (only,) = tried(api.base_url).values()
    assert (only.state, only.remedy) == (State.BROKEN, "try again later")
    assert "503: down" in only.found


def test_a_body_that_breaks_off(api: Demo) -> None:
    api.fail(Fault("reset", target="stream", after_bytes=1000))
    found = tried(api.base_url)
    assert found["audio"].state is State.BROKEN
    assert "broke off" in found["audio"].found
    assert list(found)[-1] == "audio", "there is nothing to compare with"


def raw(*answers: bytes) -> Sequence[Finding]:
    with Server() as server:
        server.scripts += [send(response, keep=False) for response in answers]
        return list(tried(server.url).values())


def checked(check: str, findings: Sequence[Finding]) -> Finding:
    return next(finding for finding in findings if finding.check == check)


NO = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"


def test_interim_responses() -> None:
    finding = checked("interim responses", raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" + sized(FLAC), NO, NO))
    assert finding.state is State.WARNING


def test_an_error_in_place_of_audio_is_shown() -> None:
    finding = checked("content", raw(sized(b'{"detail": "see https://x.test/?k=1"}'), NO, NO))
    assert finding.state is State.BROKEN
    assert "not audio" in finding.found
    assert "see https://x.test/" in finding.found


def test_a_result_that_is_cut_off() -> None:
    whole = samples()[101].read_bytes()
    finding = checked("content", raw(sized(whole[:-1000]), NO, NO))
    assert finding.state is State.BROKEN
    assert "cut off" in finding.found


def test_a_wrong_label() -> None:
    whole = samples()[101].read_bytes()
    head = OK + b"Content-Type: audio/wav\r\nContent-Length: %d\r\n\r\n" % len(whole)
    finding = checked("content", raw(head + whole, NO, NO))
    assert finding.state is State.WARNING
    assert "labelled audio/wav" in finding.found


def test_a_range_with_other_bytes() -> None:
    part = b"HTTP/1.1 206 Part\r\nContent-Range: bytes 1-100/%d\r\nContent-Length: 100\r\n\r\n" % len(FLAC)
    assert checked("ranges", raw(sized(FLAC), part + bytes(100), NO)).state is State.BROKEN
    finding = checked("ranges", raw(sized(FLAC), part + FLAC[1:101], NO))
    assert (finding.state, finding.found) == (
        State.OK,
        "honoured by the API, but without an ETag, so they are not used",
    )
    assert checked("ranges", raw(sized(FLAC), NO, NO)).state is State.WARNING


def test_a_length_beside_the_chunks() -> None:
    head = OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(FLAC), FLAC)
    assert "with a Content-Length beside" in checked("length", raw(head + body, NO, NO)).found


def test_without_settings_or_a_key_there_is_no_trial() -> None:
    """And a line says so: the lines about the run are what was asked for."""
    for setup in (Setup(None), Setup(replace(settings("https://x.test"), key=None))):
        (check,) = trial.checks(setup, RUN)
        (finding,) = check.look()
        assert (check.group, finding.state) == (f"run {RUN}", State.WARNING)
        assert "not checked" in finding.found
