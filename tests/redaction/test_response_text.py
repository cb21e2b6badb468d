from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.redaction.masking import Key
from cambfs.redaction.response_text import MAX_WORDS, json_object, message, plain, storage_code


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"detail": "Invalid run id"}', "Invalid run id"),
        (b'{"error": "Forbidden", "status": 401}', "Forbidden"),
        (b'{"message": "no"}', "no"),
        (b'{"error": {"message": "nested"}}', "nested"),
        (
            b'{"detail": [{"loc": ["path", "run_id"], "msg": "not an integer", "type": "x"}]}',
            "path.run_id: not an integer",
        ),
        (b'{"detail": [{"msg": "a"}, {"msg": "b"}]}', "a; b"),
        (b'["a", "b"]', "a; b"),
        (b'"just text"', "just text"),
        (b"plain text\n", "plain text"),
        (b"<html><title>502 Bad\n Gateway</title><body>x", "502 Bad Gateway"),
        (b"<!DOCTYPE html><p>A &amp; <b>B</b></p><script>let x = '<p>no</p>'</script>", "A & B"),
        (b"\xef\xbb\xbf  <h1>Oops</h1>", "Oops"),
        (b"", ""),
        (b"{}", ""),
        (b"[]", ""),
        (b"7", ""),
        (b'{"detail": {"other": 1}}', ""),
        (b'{"detail": 7, "message": "m"}', "m"),
        (b"[" * 60000, "[" * (MAX_WORDS - 1) + "…"),
        (b"\xff\xfd\xfc", "\N{REPLACEMENT CHARACTER}" * 3),
    ],
)
def test_the_words_of_an_answer(content: bytes, expected: str) -> None:
    assert message(content) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\n\tb\x00c", "a bc"),
        ("a\x1b[31;1mred\x1b[0m", "ared"),
        ("a\x9b31mred", "ared"),
        ("a\x1b]0;title\x07b", "ab"),
        ("a\u202eb\u2066c\u200bd", "abcd"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("see https://h/p?X-Amz-Signature=abc&y=1 now", "see https://h/p?… now"),
        ("\ud800x", "x"),
        ("x" * 500, "x" * (MAX_WORDS - 1) + "…"),
    ],
)
def test_texts_are_made_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


def test_the_key_is_not_repeated_even_when_it_is_disguised() -> None:
    assert plain("bad key sk-12345.", hide=Key("sk-12345")) == "bad key …."
    assert plain("bad key sk-\x0012345", hide=Key("sk-12345")) == "bad key …"
    assert plain("bad key sk-\u200b12345", hide=Key("sk-12345")) == "bad key …"
    assert "sk-12345" not in message(b'{"detail": "bad key sk-\\u002d12345 sk\\u002d12345"}', hide=Key("sk-12345"))


@given(st.text())
def test_any_text_becomes_one_short_harmless_line(text: str) -> None:
    found = plain(text, hide=Key("secret"))
    assert len(found) <= MAX_WORDS
    assert "secret" not in found
    assert not [c for c in found if unicodedata.category(c).startswith("C") or unicodedata.category(c) in ("Zl", "Zp")]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["detail", "error", "message", "msg", "loc", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.binary() | JUNK.map(lambda value: json.dumps(value).encode()))
def test_any_content_has_words_or_none(content: bytes) -> None:
    assert len(message(content)) <= MAX_WORDS


@pytest.mark.parametrize(
    "content", [b"", b"7", b"[]", b'"x"', b"{", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b"[" * 9**6]
)
def test_what_is_no_json_object(content: bytes) -> None:
    assert json_object(content) is None


def test_a_json_object() -> None:
    assert json_object(b'{"a": [1, null]}') == {"a": [1, None]}


def test_of_storage_only_the_code_is_shown() -> None:
    body = b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>AWS4 secret</StringToSign></Error>"
    assert storage_code(body) == "SignatureDoesNotMatch"
    assert storage_code(b"<Code>secret/123</Code>") == ""
    assert storage_code(b"X-Amz-Signature=1") == ""
