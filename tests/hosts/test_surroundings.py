"""The environment's settings: each that cannot work is one line that names it, and shows no password."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import ssl
from pathlib import Path

import pytest

from cambfs.errors import ConfigError, LinkError, Unreachable
from cambfs.hosts.origins import origin_of
from cambfs.hosts.surroundings import Proxies, tls_context, usable_proxy
from cambfs.http.client import Client
from cambfs.remote.source import SignedUrl
from tests.wire.raw_server import CERTIFICATE, FLAC, KEY, RUN, WAIT_S, Server, send, sized

API = "https://client.camb.ai/apis"
PASSWORD = "a-password-of-the-proxy"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("all", "http", "https", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


# Proxies


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy:3128", "http://proxy:3128"),
        ("https://me:pw@proxy", "https://me:pw@proxy"),
        ("socks5://proxy:1080", "socks5://proxy:1080"),
        ("socks://proxy:1080/", "socks5h://proxy:1080/"),
        ("SOCKS://me:pw@[::1]:1080", "socks5h://me:pw@[::1]:1080"),
    ],
)
def test_proxies_that_can_be_used(said: str, meant: str) -> None:
    assert usable_proxy(said, "all_proxy") == meant


@pytest.mark.parametrize("url", ["http://h:abc", "http://h:99999", "http://h:0", "http://", "ftp://h:21", "quic://h"])
@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_is_one_line_that_names_the_setting(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url.replace("://", f"://me:{PASSWORD}@"))
    with pytest.raises(ConfigError, match=f"^{name} ") as caught:
        Client(API, KEY)
    assert PASSWORD not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_lower_case_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://upper:1")
    monkeypatch.setenv("https_proxy", "http://lower:1")
    origin = origin_of(API)

    assert Proxies().towards(origin) == {"https": "http://lower:1"}
    assert Proxies().setting(origin) == "https_proxy"


def test_without_pysocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("all_proxy", f"socks://me:{PASSWORD}@proxy:1080")
    with pytest.raises(ConfigError, match=r"^all_proxy names a SOCKS proxy, which needs PySocks") as caught:
        Client(API, KEY)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https", "socks", "socks4", "socks5h"])
def test_a_proxy_that_does_not_answer_is_named_by_its_setting(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("all_proxy", f"{scheme}://me:{PASSWORD}@127.0.0.1:{port}")
    # A literal address: socks4 would resolve a name here first.
    with Client("https://192.0.2.1/apis", KEY, timeout_s=WAIT_S) as client, pytest.raises(LinkError) as caught:
        client.open_stream(RUN)
    assert "through the proxy that all_proxy names" in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_a_bad_proxy_towards_storage_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://h:abc")
    monkeypatch.setenv("no_proxy", "client.camb.ai")
    url = "https://storage.example/a.flac"
    with Client(API, KEY) as client, pytest.raises(Unreachable, match=r"storage\.example .*https_proxy"):
        client.open_stored(SignedUrl(url, {"output_url": url}, 300), 0, None)


def test_a_proxy_is_nothing_to_an_api_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "http://h:abc")
    Client("http://127.0.0.1:8000/apis", KEY).close()


# Certificates


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(("content", "words"), [(None, "does not exist"), ("no certificate", "has no certificates")])
def test_certificates_that_cannot_be_had(
    name: str, content: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv(name, str(bundle))
    with pytest.raises(ConfigError, match=f"^{name} names .*ca.pem, which {words}; correct or unset it$"):
        Client(API, KEY)


def test_without_a_setting_those_of_requests_are_trusted() -> None:
    assert len(tls_context().get_ca_certs()) > 50


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_bundle_that_is_deleted_meanwhile_still_counts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    bundle = tmp_path / "ca.pem"
    shutil.copy(CERTIFICATE, bundle)
    monkeypatch.setenv(name, str(bundle))
    with Server(tls=tls) as server, Client(server.url, KEY, timeout_s=WAIT_S) as client:
        bundle.unlink()
        server.scripts += [send(sized(FLAC))]
        body = client.open_stream(RUN)
        assert body.read(4) == b"fLaC"
        body.close()
