from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.errors import ConfigError
from cambfs.hosts.origins import Origin, Reach, allowed_origin, base_origin, origin_of

PUBLIC = Origin("https", "client.camb.ai", 443)
LOOPBACK = Origin("http", "127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://client.camb.ai/apis", PUBLIC),
        ("HTTPS://Client.CAMB.ai:443?x", PUBLIC),
        ("http://127.0.0.1:8000", LOOPBACK),
        ("https://[2001:DB8::1]:8443/", Origin("https", "[2001:db8::1]", 8443)),
        ("https://h/a b/ü", Origin("https", "h", 443)),
        ("https://" + "a" * 63 + ".my_bucket.example.", Origin("https", "a" * 63 + ".my_bucket.example.", 443)),
        ("https://[::ffff:8.8.8.8]/", Origin("https", "[::ffff:8.8.8.8]", 443)),
    ],
)
def test_origins(url: str, origin: Origin) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "client.camb.ai/apis",
        "//client.camb.ai/",
        "ftp://client.camb.ai/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        " https://client.camb.ai/",
        "https://",
        "https:///path",
        "https://user@client.camb.ai/",
        "https://user:word@client.camb.ai/",
        "https://client.camb.ai\\@evil.example/",
        "https://client.camb.ai%2eevil.example/",
        "https://clïent.camb.ai/",
        "https://.client.camb.ai/",
        "https://client..camb.ai/",
        "https://..../",
        "https://" + "a" * 64 + ".example/",
        "https://[:::::]/",
        "https://[......]/",
        "https://[::1.2]/",
        "https://[12]/",
        "https://client.camb.ai:0/",
        "https://client.camb.ai:65536/",
        "https://client.camb.ai:/",
        "https://client.camb.ai:44x/",
        "https://client.camb.ai/\nx",
        "https://client.camb.ai/\x1b[31m",
        "https://client.camb.ai/\u2028x",
        "https://client.camb.ai/\u202ex",
        "https://client.\tcamb.ai/",
    ],
)
def test_what_two_parsers_might_read_differently_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        origin_of(url)


PRIVATE_HOSTS = ["10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "[fd00::1]", "[64:ff9b::a00:1]"]
LOOPBACK_HOSTS = [
    "localhost", "localhost.", "api.localhost", "127.0.0.1", "127.9.9.9", "127.1", "0x7f.1", "2130706433", "0",
    "017700000001", "0.0.0.0", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[2002:7f00:1::]",
]  # fmt: skip
NEAREST_HOSTS = [
    "169.254.169.254", "0xa9fea9fe", "224.0.0.1", "240.0.0.1", "[fe80::1]", "[::ffff:a9fe:a9fe]", "[ff02::1]",
]  # fmt: skip
LOCAL_HOSTS = [
    *((host, Reach.PRIVATE) for host in PRIVATE_HOSTS),
    *((host, Reach.LOOPBACK) for host in LOOPBACK_HOSTS),
    *((host, Reach.NOWHERE_ELSE) for host in NEAREST_HOSTS),
]


@pytest.mark.parametrize(("host", "reach"), LOCAL_HOSTS)
@pytest.mark.parametrize("base", ["8.8.8.8", "10.0.0.1", "127.0.0.1", "169.254.1.1"])
def test_local_hosts_are_refused_unless_the_api_is_as_near(host: str, reach: Reach, base: str) -> None:
    api, url = Origin("https", base, 443), f"https://{host}/x"
    assert origin_of(url).reach is reach
    if reach <= api.reach:
        assert allowed_origin(url, api).host == host
    else:
        with pytest.raises(ValueError, match="local network"):
            allowed_origin(url, api)


def test_a_url_has_an_end() -> None:
    assert origin_of("https://h/" + "x" * 8000)
    with pytest.raises(ValueError, match="too long"):
        origin_of("https://h/" + "x" * 9000)


@pytest.mark.parametrize("host", ["storage.example", "8.8.8.8", "[2606:4700::1111]", "localhost.example", "10.example"])
def test_public_hosts_are_allowed(host: str) -> None:
    assert allowed_origin(f"https://{host}/x", PUBLIC).host == host


def test_http_is_allowed_only_beside_an_http_api() -> None:
    with pytest.raises(ValueError, match="not https"):
        allowed_origin("http://storage.example/x", PUBLIC)
    with pytest.raises(ValueError, match="not https"):
        allowed_origin("http://10.0.0.1/x", Origin("https", "10.0.0.1", 443))
    assert allowed_origin("http://127.0.0.1:9000/x", LOOPBACK).port == 9000


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("client.camb.ai", "https://client.camb.ai/apis"),
        ("https://user:secret@client.camb.ai", "https://client.camb.ai/apis"),
        ("https://client.camb.ai/apis?x=1", "query"),
        ("https://client.camb.ai/apis#x", "fragment"),
        ("http://client.camb.ai/apis", "https://"),
        ("http://10.0.0.1/apis", "unencrypted"),
    ],
)
def test_base_urls_that_cannot_be_sent_a_key(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        base_origin(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1:8000/apis", "http://[::1]:8000"])
def test_http_is_fine_on_this_machine(url: str) -> None:
    assert base_origin(url).is_loopback


@given(st.text())
def test_any_text_is_an_origin_or_a_value_error(text: str) -> None:
    for url in (text, f"https://{text}"):
        try:
            origin = allowed_origin(url, PUBLIC)
        except ValueError:
            continue
        assert origin.scheme == "https"
        assert origin.reach is Reach.PUBLIC
