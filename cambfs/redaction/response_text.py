"""The texts of responses, cleaned for one line.

Every text comes from a server that may be broken or hostile. The cleaned text is short and has no control characters,
terminal escapes, key, or query of any URL. A text is cleaned as a whole and then cut, because half a key would not be
found. `headers` and `body` read good responses. Pure functions, no threads.
"""

from __future__ import annotations

import codecs
import html
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from cambfs.redaction.masking import Key

MAX_WORDS = 200
# The longest response that is shown as it came, in characters, and how deep it may be.
MAX_SHOWN = 16384
_MAX_DEPTH = 20
# So much of a page is searched for words: the time of the patterns below grows with its square.
_MAX_PAGE = 8192
_TERMINAL_ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.")
_MAYBE_URL = re.compile(r"[^\s\"'<>]+")
_QUERY = re.compile(r"[?#].*")
_SCRIPT = re.compile(r"<(script|style)\b.*?</\1\s*>", re.I | re.S)
_TITLE = re.compile(r"<title[^<>]*>([^<]*)<", re.I)
_TAG = re.compile(r"<[^<>]*>")
_STORAGE_CODE = re.compile(r"<Code>([A-Za-z]{1,60})</Code>")
# The texts that frameworks put into the JSON of a 404 by themselves.
_ABSENT = ("not found", "404 not found", "page not found")


def plain(text: str, hide: Key | None = None) -> str:
    """`text` on one line of at most 200 printable characters, without `hide` and without the queries of URLs."""
    text = _TERMINAL_ESCAPE.sub("", text)
    # Every C category is invisible or worse: controls, formats (bidirectional overrides), surrogates, unassigned.
    text = " ".join("".join(_printable(character) for character in text).split())
    if hide is not None:
        text = hide.mask(text)
    text = _MAYBE_URL.sub(_without_query, text)
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"


def _without_query(match: re.Match[str]) -> str:
    before, slashes, url = match[0].partition("://")
    return before + slashes + _QUERY.sub("?…", url, count=1)


def _printable(character: str) -> str:
    if character.isspace():
        return " "
    return "" if unicodedata.category(character).startswith("C") else character


def json_object(content: bytes) -> dict[str, Any] | None:
    """`content` as a JSON object; None when it is anything else."""
    value = _json(content)
    return value if isinstance(value, dict) else None


def _json(content: bytes) -> Any:
    try:
        return json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> Any:
    # NaN and Infinity: Python's reader accepts them, JSON does not, and texts that the mount shows must be JSON.
    raise ValueError(name)


def showable(response: Mapping[str, Any], hide: Key) -> Mapping[str, Any] | None:
    """`response`, if it can be shown as a JSON text of a moderate length, and without `hide`; None otherwise."""
    if not _is_shallow(response, _MAX_DEPTH):
        return None
    try:
        text = json.dumps(response, ensure_ascii=False, allow_nan=False)
    except ValueError:  # a number beyond all numbers, which the reader accepts
        return None
    return response if len(text) <= MAX_SHOWN and not hide.is_in(text) else None


def _is_shallow(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(part, depth - 1) for part in parts)


def message(content: bytes, hide: Key | None = None) -> str:
    """The message in the body of an error response, fit for one line, without `hide`; "" when there is none."""
    value = _json(content)
    if value is not None:
        return plain(_words(value), hide)
    text = _text(content, hide)
    return plain(_page_words(text[:_MAX_PAGE]) if text.startswith("<") else text, hide)


def is_page(content: bytes) -> bool:
    """Whether it is a web page or other XML. The API sends neither."""
    return _text(content, None).startswith("<")


def tells_of_no_run(content: bytes) -> bool:
    """Whether a 404 has the text that any web server gives for a path that it does not have."""
    words = _words(_json(content))
    return not words or words.strip(" .").casefold() in _ABSENT


def first_words(content: bytes, hide: Key | None = None) -> str:
    """As `message`, but the beginning of the body as it is when it has no message."""
    return message(content, hide) or plain(_text(content, hide), hide)


def _text(content: bytes, hide: Key | None) -> str:
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if is_utf_16 else "utf-8", "replace").lstrip("\ufeff \t\r\n")
    return text if hide is None else hide.mask(text)


def _words(value: Any, depth: int = 0) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth < 3:
        return "; ".join(filter(None, (_words(item, depth + 1) for item in value[:5])))
    if isinstance(value, dict) and depth < 3:
        found = (_words(value.get(name), depth + 1) for name in ("detail", "error", "message", "msg"))
        return _located(value.get("loc"), next(filter(None, found), ""))
    return ""


def _located(loc: Any, words: str) -> str:
    if not words or not isinstance(loc, list):
        return words
    return ".".join(str(part) for part in loc[:5] if isinstance(part, str | int)) + f": {words}"


def _page_words(page: str) -> str:
    title = _TITLE.search(page)
    return html.unescape(title[1] if title and title[1].strip() else _TAG.sub(" ", _SCRIPT.sub(" ", page)))


def storage_code(content: bytes) -> str:
    """The error code of an S3-like storage ("AccessDenied"), "" when there is none. Nothing else of such a response is
    shown anywhere, because it repeats the signature."""
    match = _STORAGE_CODE.search(content.decode("utf-8", "replace"))
    return match[1] if match else ""


def with_words(text: str, words: str) -> str:
    return f"{text}: {words}" if words else text
