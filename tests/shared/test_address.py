"""The URL of the setting `shared_cache`."""

from __future__ import annotations

import pytest

from cambfs.shared.address import Address, Layout, parse

SINGLE, SENTINEL, CLUSTER = Layout.SINGLE, Layout.SENTINEL, Layout.CLUSTER


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("valkey://cache", Address(SINGLE, (("cache", 6379),))),
        (" redis://10.0.0.7:7000/3 ", Address(SINGLE, (("10.0.0.7", 7000),), database=3)),
        ("rediss://[::1]:7000/", Address(SINGLE, (("::1", 7000),), is_tls=True)),
        ("VALKEYS://a%40b@cache", Address(SINGLE, (("cache", 6379),), is_tls=True, user="a@b")),
        ("valkey+sentinel://a,b:1/main/2", Address(SENTINEL, (("a", 26379), ("b", 1)), service="main", database=2)),
        ("rediss+sentinel://u@a/main", Address(SENTINEL, (("a", 26379),), is_tls=True, user="u", service="main")),
        ("valkey+cluster://a:7000,b/0", Address(CLUSTER, (("a", 7000), ("b", 6379)))),
    ],
)
def test_an_address_is_what_its_url_says(url: str, address: Address) -> None:
    assert parse(url) == address
    assert parse(str(address)) == address


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("cache:6379", "not the address of a Valkey or Redis server"),
        ("http://cache", "not the address of a Valkey or Redis server"),
        ("valkey://cache/0?timeout=5", "not the address of a Valkey or Redis server"),
        ("valkey+unix://cache", "not the address of a Valkey or Redis server"),
        ("valkey://", "'' is not a host and a port"),
        ("valkey://cache:0", "'cache:0' is not a host and a port"),
        ("valkey://cache:70000", "'cache:70000' is not a host and a port"),
        ("valkey://cache/main", "'main' is not the number of a database"),
        ("valkey://a,b", r"write valkey\+sentinel:// or valkey\+cluster://"),
        ("valkey+sentinel://a,b", "the name of the service is missing"),
        ("valkey+sentinel://a,b//2", "the name of the service is missing"),
        ("valkey+cluster://a,b/1", "a cluster has database 0 only"),
    ],
)
def test_another_url_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(url)


@pytest.mark.parametrize(
    "url", ["valkey://:secret@h", "valkey://u:sec@ret@h", "redis+cluster://u:sec/ret@h,i", "valkey://u:secret@h:x/?y"]
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"CAMBFS_SHARED_CACHE_PASSWORD, or .* --shared-cache-password-file") as raised:
        parse(url)

    assert "sec" not in str(raised.value)
