from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from cambfs.wire.headers import Head, Span, date_s, read_framing, read_head, retry_after_s, strong_etag


def head(status: int, asked: Span | None = None, /, **headers: str) -> Head:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_head(status, CaseInsensitiveDict(names), asked)


def test_a_whole_answer_with_its_length() -> None:
    found = head(
        200,
        content_length="10",
        content_type="Audio/FLAC; x=y",
        etag='"a"',
        accept_ranges="bytes",
        last_modified="Thu, 01 Jan 1970 00:01:00 GMT",
    )
    assert found == Head(0, None, 10, 10, False, '"a"', True, "audio/flac", 60.0)
    assert found.framed


def test_a_whole_answer_that_says_nothing() -> None:
    found = head(200)
    assert found == Head(0, None, None, None, False, None, False, "", None)
    assert not found.framed


def test_chunks_decide_where_both_are_there() -> None:
    found = head(200, transfer_encoding="chunked", content_length="7")
    assert (found.framed, found.length, found.total) == (True, None, None)


@pytest.mark.parametrize(
    "length", ["-1", "+5", "1_0", "5, 6", "5,, 5", "5, 05", "", "x", "\x0b5", "5\xa0", "1" * 19, "٥", "0x10", "1e3"]
)
def test_a_length_that_makes_no_sense(length: str) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        head(200, content_length=length)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "?"])
def test_content_encodings_were_not_asked_for(coding: str) -> None:
    with pytest.raises(ValueError, match="content encoding"):
        head(200, content_encoding=coding)
    assert head(200, content_encoding="Identity").length is None


@pytest.mark.parametrize(
    "coding",
    ["gzip, chunked", "chunked, gzip", "chunked, chunked", "chunked,", ",chunked", "", "identity", "gzip", "x",
     "chunked;q=1", "\x0bchunked", "chunked\x0b", "chunked\xa0", "\"chunked\"", "chunke", "chunkedx"],
)  # fmt: skip
def test_transfer_codings_were_not_asked_for(coding: str) -> None:
    with pytest.raises(ValueError, match="transfer coding"):
        head(200, transfer_encoding=coding)


@pytest.mark.parametrize("coding", ["chunked", "CHUNKED", "Chunked", " \tchunked \t"])
def test_chunks_in_any_spelling(coding: str) -> None:
    found = read_framing(CaseInsensitiveDict({"Transfer-Encoding": coding}))
    assert (found.chunked, found.is_odd, found.is_told) == (True, False, True)


@pytest.mark.parametrize("length", ["5, 5", "5,5", " 5 ,\t5"])
def test_a_length_said_twice_is_one_but_odd(length: str) -> None:
    found = read_framing({"Content-Length": length})
    assert (found.length, found.is_odd) == (5, True)
    assert not read_framing({"Content-Length": " 5 "}).is_odd


@pytest.mark.parametrize(
    ("asked", "said", "total"),
    [
        (Span(3), "bytes 3-9/10", 10),
        (Span(3), "bytes 3-9/*", None),
        (Span(3, 5), "bytes 3-4/10", 10),
        (Span(3, 50), "bytes 3-9/10", 10),
        (Span(3, 5), "Bytes 3-4/*", None),
    ],
)
def test_parts_that_are_what_was_asked_for(asked: Span, said: str, total: int | None) -> None:
    found = head(206, asked, content_range=said)
    assert (found.start, found.total, found.ranges, found.framed) == (3, total, True, True)
    assert found.stop == int(said.partition("-")[2].partition("/")[0]) + 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Span(3), "bytes 2-9/10"),
        (Span(3), "bytes 4-9/10"),
        (Span(3), "bytes 3-8/10"),
        (Span(3), "bytes 3-10/10"),
        (Span(3), "bytes 3-2/3"),
        (Span(3, 5), "bytes 3-3/10"),
        (Span(3, 5), "bytes 3-5/10"),
        (Span(3, 5), "bytes 3-3/*"),
        (Span(3, 5), "bytes 3-9/10"),
        (Span(3), "bytes */10"),
        (Span(3), "items 3-9/10"),
        (Span(3), "bytes 3-9"),
        (Span(3), "bytes -3-9/10"),
        (Span(3), ""),
        (None, "bytes 0-9/10"),
    ],
)
def test_other_parts_are_refused(asked: Span | None, said: str) -> None:
    with pytest.raises(ValueError, match="part of the result"):
        head(206, asked, content_range=said)


def test_a_part_whose_two_lengths_differ() -> None:
    assert head(206, Span(3), content_range="bytes 3-9/10", content_length="7").length == 7
    with pytest.raises(ValueError, match="differ"):
        head(206, Span(3), content_range="bytes 3-9/10", content_length="8")


def test_the_range_asked_for() -> None:
    assert Span(3).header == "bytes=3-"
    assert Span(0, 4096).header == "bytes=0-4095"


@pytest.mark.parametrize("etag", ["", "a", 'W/"a"', '""', '"a', '"a"b"', '"a\r\nX: y"', '"ü"', '"a b"'])
def test_only_strong_etags_count(etag: str) -> None:
    assert strong_etag({"ETag": etag}) is None


@pytest.mark.parametrize(
    ("said", "expected_s"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Thu, 01 Jan 1970 00:01:30 GMT", 30),
        ("Thu, 01 Jan 1970 00:00:30 GMT", 0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("9" * 10, None),
        ("Thu, 99 Jan 1970 00:01:30 GMT", None),
    ],
)
def test_retry_after(said: str, expected_s: float | None) -> None:
    assert retry_after_s({"Retry-After": said}, 60.0) == expected_s


@given(st.text())
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = date_s(text)
    assert found is None or isinstance(found, float)


HEADER_NAMES = st.sampled_from(
    [
        "Content-Length",
        "Content-Range",
        "Transfer-Encoding",
        "Content-Encoding",
        "ETag",
        "Last-Modified",
        "Content-Type",
    ]
)
HEADER_VALUES = st.one_of(
    st.text(max_size=30),
    st.integers().map(str),
    st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)).map(lambda t: "bytes {}-{}/{}".format(*t)),
)


@given(st.sampled_from([200, 206]), st.dictionaries(HEADER_NAMES, HEADER_VALUES), st.integers(0, 9))
def test_any_headers_give_a_consistent_head_or_a_value_error(status: int, headers: dict[str, str], start: int) -> None:
    try:
        found = read_head(status, CaseInsensitiveDict(headers), Span(start))
    except ValueError:
        return
    assert found.start == (start if status == 206 else 0)
    if found.total is not None and found.length is not None:
        assert found.start + found.length == found.total
