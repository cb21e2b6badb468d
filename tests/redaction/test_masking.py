"""The key in texts from outside: however it is written, whole or cut."""

from __future__ import annotations

import base64
import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.redaction.masking import MASK, Key
from cambfs.redaction.response_text import message, plain, showable

KEY = Key("sk-9f3A-b7.Q2~x")
ODD = Key("a\"b\\c/d&e%41<f'g")

ENCODINGS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "percent": lambda key: quote(key, safe=""),
    "percent, all": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "percent, all, lower": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "percent, twice": lambda key: quote(quote(key, safe=""), safe=""),
    "json": lambda key: json.dumps(key)[1:-1],
    "json, slashes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "json, all": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "json, all, upper": lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
    "json, twice": lambda key: json.dumps(json.dumps(key))[3:-3],
    "python": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "shell": lambda key: "".join(c if c.isalnum() else f"\\{c}" for c in key),
    "html": lambda key: html.escape(key),
    "html, decimal": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "html, hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "html of json": lambda key: html.escape(json.dumps(key)[1:-1]),
    "json of percent": lambda key: json.dumps(quote(key, safe=""))[1:-1],
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64, url": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("key", [KEY, ODD], ids=["usual", "odd"])
def test_the_key_is_masked_in_every_encoding(encoding: str, key: Key) -> None:
    written = ENCODINGS[encoding](key)
    for text in (written, f"bad key {written} here", f'{{"x-api-key": "{written}"}}', f"k={written}&z=1"):
        masked = key.mask(text)
        assert MASK in masked
        assert key.is_in(text)
        assert not key.is_in(masked)
        # The last characters of base64 depend on what follows the key.
        assert len(masked) <= len(text) - len(written) + len(MASK) + (4 if "base64" in encoding else 0)


@pytest.mark.parametrize("before", range(4))
def test_the_key_within_a_base64_text(before: int) -> None:
    text = base64.b64encode(b"user:pass"[:before] + KEY.encode() + b":").decode()
    masked = KEY.mask(text)
    assert len(masked) < 12
    assert MASK in masked


@pytest.mark.parametrize("length", range(6, len(KEY)))
@pytest.mark.parametrize("encoding", ["raw", "percent, all", "json, all", "html, decimal"])
def test_a_cut_key_is_masked(length: int, encoding: str) -> None:
    for piece in (KEY[:length], KEY[-length:]):
        written = ENCODINGS[encoding](piece)
        for text in (written, f"…{written}…", f"a {written}, {written}"):
            assert not set(KEY.mask(text)) - set("…a, ")


@pytest.mark.parametrize(
    "text", ["", "sk-9f", "b7.Q2~", "a key", "%", "\\", "&amp;", "%41\\u0041&#65;", "f3A-b7.", "é%C3"]
)
def test_what_is_not_the_key_stays_as_it_is(text: str) -> None:
    assert KEY.mask(text) == text
    assert not KEY.is_in(text)


def test_a_short_key_counts_whole() -> None:
    assert Key("abc").mask("abcd ab bc abc") == "…d ab bc …"


def test_keys_that_repeat_themselves() -> None:
    assert Key("abababab").mask("xabababababababx") == "x…x"
    assert Key("aaaaaaaa").mask("a" * 100) == "…"


def test_a_masked_key_shows_nothing() -> None:
    assert KEY not in repr(KEY) + repr([KEY]) + repr({"x-api-key": KEY})


PARTS = st.sampled_from(
    [*(encode(KEY) for encode in ENCODINGS.values()), KEY[:7], KEY[-9:], "%", "\\", "&", "%25", "\\\\"]
)


@given(st.lists(PARTS | st.text(max_size=5), max_size=8).map("".join))
def test_nothing_of_the_key_is_left_in_any_text(text: str) -> None:
    masked = KEY.mask(text)
    assert KEY[:6] not in masked
    assert KEY[-6:] not in masked
    assert KEY.is_in(text) == (masked != text)


@pytest.mark.parametrize("unit", ["%25", "\\\\", "&amp;", "%5C", KEY[:6], KEY, "\\u005c", KEY[-6:] + "%", "&", "%2525"])
def test_the_time_grows_with_the_text(unit: str) -> None:
    """At its square, this would take minutes."""
    text = unit * (60_000 // len(unit))
    begin = time.process_time()
    KEY.mask(text)
    assert time.process_time() - begin < 5


# In messages


@pytest.mark.parametrize("place", [0, 100, 190, 199, 8180, 8190, 65_530])
def test_the_key_is_masked_before_anything_is_cut(place: int) -> None:
    page = b"x" * place + b" " + KEY.encode() + b" y"
    for content in (page, b"<p>" + page, json.dumps({"detail": page.decode()}).encode()):
        for words in (message(content, KEY), message(content[: place + 10], KEY)):
            assert KEY[:6] not in words


@pytest.mark.parametrize("begin", ["x", "<p>x"])
@pytest.mark.parametrize("shown", range(1, 6))
def test_not_even_a_few_characters_are_cut_off_a_key(begin: str, shown: int) -> None:
    page = f"{begin:<{8192 - shown}}{KEY}"
    for content in (page, json.dumps({"detail": page})):
        assert message(content.encode(), KEY).removeprefix("<p>") == "x …"


def test_an_echo_of_the_request_in_a_page() -> None:
    head = "".join(f"<tr><td>{name}<td>{KEY}" for name in ("x-api-key", "X-API-KEY"))
    assert message(f"<html><table>{head}</table></html>".encode(), KEY) == "x-api-key … X-API-KEY …"


def test_queries_are_left_out_of_every_url() -> None:
    text = plain('x?y https://h/p?sig=1#f "https://h/?a" https://h/p#frag <https://h>? a?b://c?d e')
    assert text == 'x?y https://h/p?… "https://h/?…" https://h/p?… <https://h>? a?b://c?… e'


@pytest.mark.parametrize("written", [KEY, KEY[:8], quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode()])
def test_an_answer_with_the_key_is_not_shown(written: str) -> None:
    assert showable({"output_url": "https://h/", "echo": written}, KEY) is None
    assert showable({"output_url": "https://h/", written: 1}, KEY) is None
    assert showable({"output_url": "https://h/", "echo": "none"}, KEY) is not None


def test_an_answer_with_an_odd_key_is_not_shown() -> None:
    assert showable({"output_url": "https://h/", "echo": str(ODD)}, ODD) is None


@pytest.mark.parametrize("written", [lambda text: text, quote, lambda text: base64.b64encode(text.encode()).decode()])
def test_a_piece_in_a_url_is_no_reason_to_refuse_it(written: Callable[[str], str]) -> None:
    """A signature of 64 hexadecimal digits has six of the key's by chance once in some ten thousand."""
    key = Key("0123456789abcdef+/0123456789")
    assert not key.is_whole_in(f"https://storage.example/{key[:12]}?X-Amz-Signature=ff{key[-8:]}")
    assert key.is_whole_in(f"https://storage.example/x?y={written(key)}")


def test_a_key_that_was_replaced_is_masked_as_well() -> None:
    key = KEY.replaced_by("new-key-1").replaced_by("new-key-2")
    assert key.mask(f"{KEY} new-key-1 new-key-2") == "… … …"
    assert key == "new-key-2"
