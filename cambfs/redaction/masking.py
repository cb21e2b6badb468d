"""Finds and masks the API key in texts from outside, however it is written there, whole or cut.

A server may repeat the key as it is, escaped for a URL, for JSON, for HTML or for a shell, escaped twice, or in base64.
The sender or a limit of ours may have cut it. So a text is searched as it is and in each unescaped form, and a piece
that begins or ends like the key counts as the key. The time grows with the length of the text, not with its square.

Not what else is taken out of a text (`response_text`). Pure functions, no threads.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

MASK = "…"
# So much of the beginning or the end of the key counts as the key; of its base64, about as much of the key.
_PIECE = 6
_BASE64_PIECE = 8
# How often a text can be escaped: a JSON text within a URL within a JSON text.
_MAX_ESCAPES = 3
_ESCAPES = (
    re.compile(r"%(?P<hex>[0-9A-Fa-f]{2})"),
    re.compile(r"\\(?:u(?P<hex>[0-9A-Fa-f]{4})|x(?P<byte>[0-9A-Fa-f]{2})|(?P<itself>[^A-Za-z0-9]))"),
    re.compile(r"(?P<html>&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});)"),
)


@dataclass(frozen=True)
class _Reading:
    """A text unescaped: character i of `text` stands at offsets[i] ≤ … < offsets[i + 1] of the original."""

    text: str
    offsets: range | list[int]


class Key(str):
    """The API key, hidden when its surroundings are printed, such as headers or the locals of a traceback. `former` are
    the keys that it replaces. Responses to requests made with them may still arrive, so they are masked as well."""

    former: tuple[str, ...] = ()

    def replaced_by(self, text: str) -> Key:
        key = Key(text)
        key.former = (str(self), *self.former)
        return key

    def __repr__(self) -> str:
        return "'…'"

    def mask(self, text: str) -> str:
        """`text` with `…` wherever it has the key, or a beginning or an end of it of six characters or more."""
        parts, position = [], 0
        for start, stop in _merged(self._found(text)):
            parts += [text[position:start], MASK]
            position = stop
        return "".join([*parts, text[position:]]) if parts else text

    def is_in(self, text: str) -> bool:
        """Whether `mask` would change it."""
        return next(self._found(text), None) is not None

    def is_whole_in(self, text: str) -> bool:
        """Whether the whole key is in it. For values that would be refused: some piece of a long signature looks like
        one of the key's by chance."""
        return next(self._found(text, whole=True), None) is not None

    def _found(self, text: str, *, whole: bool = False) -> Iterator[tuple[int, int]]:
        """The places of the key, or of a piece of it, in `text`: (start, stop), in no order."""
        needles = [needle for key in (str(self), *self.former) for needle in _needles(key)]
        for reading in _readings(text):
            for needle, piece in needles:
                for start, stop in _pieces(reading.text, needle, len(needle) if whole else piece):
                    yield reading.offsets[start], reading.offsets[stop]


@lru_cache
def _needles(key: str) -> Sequence[tuple[str, int]]:
    """How the key may be written, and the length of a piece of it that counts as the key."""
    return [(key, min(_PIECE, len(key))), *((core, _BASE64_PIECE) for core in _base64_cores(key))]


def _readings(text: str) -> Iterator[_Reading]:
    """The text itself, and its forms after unescaping it up to three times, in any order."""
    readings = [_Reading(text, range(len(text) + 1))]
    seen = {text}
    for _ in range(_MAX_ESCAPES + 1):
        yield from readings
        unescaped = (_unescaped(reading, escape) for reading in readings for escape in _ESCAPES)
        readings = [one for one in unescaped if one.text not in seen and not seen.add(one.text)]  # type: ignore[func-returns-value]


def _unescaped(reading: _Reading, escape: re.Pattern[str]) -> _Reading:
    parts: list[str] = []
    offsets: list[int] = []
    position = 0
    for match in escape.finditer(reading.text):
        character = _character(match)
        parts += [reading.text[position : match.start()], character]
        offsets += reading.offsets[position : match.start()]
        offsets += [reading.offsets[match.start()]] * len(character)
        position = match.end()
    if not parts:
        return reading
    return _Reading("".join([*parts, reading.text[position:]]), [*offsets, *reading.offsets[position:]])


def _character(match: re.Match[str]) -> str:
    found = match.groupdict()
    if found.get("html"):
        return html.unescape(found["html"])
    digits = found.get("hex") or found.get("byte")
    return chr(int(digits, 16)) if digits else found["itself"]


def _pieces(text: str, needle: str, piece: int) -> Iterator[tuple[int, int]]:
    """Where `text` has a beginning or an end of `needle` that has `piece` characters or more."""
    first, last = needle[:piece], needle[-piece:]
    place = text.find(first)
    while place >= 0:
        yield place, place + _common(text[place : place + len(needle)], needle)
        place = text.find(first, place + 1)
    place = text.find(last)
    while place >= 0:
        stop = place + piece
        yield stop - _common(text[max(0, stop - len(needle)) : stop][::-1], needle[::-1]), stop
        place = text.find(last, place + 1)


def _common(one: str, other: str) -> int:
    """Length of the common beginning."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _base64_cores(key: str) -> Iterator[str]:
    """The base64 of the key, as far as it does not depend on the bytes around the key: the number of bytes in front
    leaves 0, 1 or 2 when divided by three."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + key.encode()).decode().rstrip("=")
        whole = encoded[(0, 2, 3)[before] : (before + len(key)) // 3 * 4]
        if len(whole) >= _BASE64_PIECE:
            yield from {whole, whole.translate({ord("+"): "-", ord("/"): "_"})}


def _merged(found: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same places in order, with touching ones joined."""
    current: tuple[int, int] | None = None
    for start, stop in sorted(found):
        if current is not None and start <= current[1]:
            current = current[0], max(current[1], stop)
            continue
        if current is not None:
            yield current
        current = start, stop
    if current is not None:
        yield current
