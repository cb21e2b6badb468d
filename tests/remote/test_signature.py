from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.remote.signature import DEFAULT_LIFE_S, MAX_LIFE_S, life_s, tells_life

NOW_S = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("query", "expected_s"),
    [
        ("X-Amz-Date=20260501T120000Z&X-Amz-Expires=3600", 3600),
        ("X-Amz-Date=20260501T115000Z&X-Amz-Expires=900&X-Amz-Signature=ab", 300),
        ("x-amz-expires=60&x-amz-date=20260501T120000Z", 60),
        ("X-Goog-Date=20260501T120000Z&X-Goog-Expires=86400", 86400),
        (f"AWSAccessKeyId=a&Signature=b%3D&Expires={NOW_S + 120:.0f}", 120),
        (f"EXPIRES={NOW_S + 7:.0f}", 7),
        ("sv=2024-01-01&se=2026-05-01T12%3A10%3A00Z&sig=c", 600),
        ("se=2026-05-01T14:10:00%2B02:00", 600),
        ("se=2026-05-01T12:10:00", 600),
        ("se=2026-05-02", 43200),
    ],
)
def test_life_is_read_from_the_query(query: str, expected_s: float) -> None:
    assert life_s(f"https://storage.example/a.flac?{query}", NOW_S) == expected_s
    assert tells_life(f"https://storage.example/a.flac?{query}")


@pytest.mark.parametrize("query", ["", "Signature=ab", "X-Amz-Expires=60", "Expires=never"])
def test_a_url_need_not_tell_its_life(query: str) -> None:
    assert not tells_life(f"https://storage.example/a.flac?{query}")


@pytest.mark.parametrize(
    "query",
    ["X-Amz-Date=20260501T110000Z&X-Amz-Expires=60", "Expires=1000000000", "Expires=0", "se=2020-01-01T00:00:00Z"],
)
def test_what_has_run_out_lives_no_more(query: str) -> None:
    assert life_s(f"https://storage.example/a.flac?{query}", NOW_S) == 0


def test_no_life_is_longer_than_signing_services_allow() -> None:
    assert life_s("https://storage.example/a?Expires=99999999999", NOW_S) == MAX_LIFE_S


@pytest.mark.parametrize(
    "query",
    [
        "",
        "token=x",
        "Expires=",
        "Expires=soon",
        "Expires=-5",
        "Expires=99999999999999999999",
        "Expires=١٢٣",
        "X-Amz-Expires=60",
        "X-Amz-Date=20260501T120000Z",
        "X-Amz-Date=20261301T120000Z&X-Amz-Expires=60",
        "X-Amz-Date=yesterday&X-Amz-Expires=60",
        "se=tomorrow",
        "&".join(f"a{i}=1" for i in range(200)),
    ],
)
def test_what_makes_no_sense_is_trusted_for_five_minutes(query: str) -> None:
    assert life_s(f"https://storage.example/a.flac?{query}", NOW_S) == DEFAULT_LIFE_S == 300


NAMES = st.sampled_from(["Expires", "se", "X-Amz-Date", "X-Amz-Expires", "X-Goog-Date", "X-Goog-Expires"])


@given(
    st.one_of(
        st.text(), st.lists(st.tuples(NAMES, st.text())).map(lambda p: "https://h/?" + "&".join(map("=".join, p)))
    )
)
def test_any_text_has_a_life_within_the_bounds(url: str) -> None:
    assert 0 <= life_s(url, NOW_S) <= MAX_LIFE_S
