"""The headers of a response that describe its body, believed only where they agree with each other.

`body` reads the body. Pure functions, no threads. Functions that can refuse raise ValueError with a text for users.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

# 18 digits fit 63 bits; a longer length is not one.
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII | re.I)
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]+"')
_CONTENT_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60}", re.ASCII)
# The times that every file system and archive can hold: from 1970 to 2106.
_LAST_TIME_S = 2**32 - 1
# A connection sends about so much at once from the beginning.
_SHORT_BYTES = 2**16
_DELAY = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(frozen=True)
class Framing:
    """How the end of a body is found: by marks in it, by a number, or (neither) by the end of the connection. `is_odd`:
    the framing is clear, but not written as it should be."""

    chunked: bool
    length: int | None
    is_odd: bool = False

    @property
    def is_told(self) -> bool:
        return self.chunked or self.length is not None


@dataclass(frozen=True)
class Head:
    """Facts for `cambfs.remote.source.Body`, and how the end of the body is to be recognised.

    length    bytes of this body by Content-Length or Content-Range; None when neither is there
    chunked   the end is marked in the body
    """

    start: int
    stop: int | None
    total: int | None
    length: int | None
    chunked: bool
    etag: str | None
    ranges: bool
    content_type: str
    modified_s: float | None

    @property
    def framed(self) -> bool:
        return self.chunked or self.length is not None


@dataclass(frozen=True)
class Span:
    """The bytes start ≤ i < stop (None: to the end) that were requested; when `start` is negative, the last -`start`
    bytes."""

    start: int
    stop: int | None = None

    @property
    def header(self) -> str:
        if self.start < 0:
            return f"bytes={self.start}"
        return f"bytes={self.start}-" + ("" if self.stop is None else str(self.stop - 1))

    @property
    def is_short(self) -> bool:
        """Whether it has few bytes, as far as the request tells."""
        count = -self.start if self.start < 0 or self.stop is None else self.stop - self.start
        return 0 < count <= _SHORT_BYTES


def read_head(status: int, headers: Mapping[str, str], asked: Span | None) -> Head:
    """The head of a 200 or a 206. `headers` is looked up without regard to case; `asked` is None when the request had
    no Range. Raises ValueError for a 206 that is not exactly the requested part, and for framing that cannot be
    trusted."""
    framing = read_framing(headers)
    _refuse_encoding(headers)
    length = total = framing.length
    start, stop = 0, None
    if status == 206:
        start, stop, total = _partial(headers, asked, length)
        length = stop - start
    return Head(
        start=start,
        stop=stop,
        total=total,
        length=length,
        chunked=framing.chunked,
        etag=strong_etag(headers),
        ranges=status == 206 or headers.get("Accept-Ranges", "").strip().lower() == "bytes",
        content_type=_content_type(headers),
        modified_s=_modified_s(headers),
    )


def read_framing(headers: Mapping[str, str]) -> Framing:
    """The framing. Where a header was there more than once, its values are joined by commas. Raises ValueError for
    framing that is not understood, or could be understood in more than one way."""
    coding, text = headers.get("Transfer-Encoding"), headers.get("Content-Length")
    lengths = [] if text is None else [one.strip(" \t") for one in text.split(",")]
    if len(set(lengths)) > 1 or not all(_NUMBER.fullmatch(one) for one in lengths):
        raise ValueError("a response with an invalid Content-Length")
    if coding is None:
        return Framing(chunked=False, length=int(lengths[0]) if lengths else None, is_odd=len(lengths) > 1)
    if coding.strip(" \t").lower() != "chunked":
        raise ValueError("a response in a transfer coding that was not asked for")
    # Where both are there the chunks decide, and the length proves nothing.
    return Framing(chunked=True, length=None, is_odd=bool(lengths))


def strong_etag(headers: Mapping[str, str]) -> str | None:
    text = headers.get("ETag", "").strip()
    return text if _STRONG_ETAG.fullmatch(text) else None


def date_s(text: str) -> float | None:
    """An HTTP date in seconds since the epoch; None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The seconds that Retry-After asks to wait, from 0 up; None when it is not there or makes no sense."""
    text = headers.get("Retry-After", "").strip()
    if _DELAY.fullmatch(text):
        return float(text)
    until_s = date_s(text)
    return None if until_s is None else max(until_s - now_s, 0.0)


def _content_type(headers: Mapping[str, str]) -> str:
    text = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return text if _CONTENT_TYPE.fullmatch(text) else ""


def _modified_s(headers: Mapping[str, str]) -> float | None:
    modified_s = date_s(headers.get("Last-Modified", ""))
    return modified_s if modified_s is not None and 0 <= modified_s <= _LAST_TIME_S else None


def _refuse_encoding(headers: Mapping[str, str]) -> None:
    if headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise ValueError("a response in a content encoding that was not asked for")


def _partial(headers: Mapping[str, str], asked: Span | None, length: int | None) -> tuple[int, int, int | None]:
    """Start and stop of the part, and the length of the whole if it is there."""
    if asked is None:
        raise ValueError("a part of the result although the whole was asked for")
    match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if match is None:
        raise ValueError("a part of the result that does not say which")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first != _first_of(asked, total) or last != _last_of(asked, total, last) or last < first:
        raise ValueError("another part of the result than was asked for")
    if length is not None and length != last - first + 1:
        raise ValueError("a part of the result whose Content-Length and Content-Range differ")
    return first, last + 1, total


def _first_of(asked: Span, total: int | None) -> int | None:
    """The offset of the first byte that the part must have; None where that is unknown."""
    if asked.start >= 0:
        return asked.start
    return None if total is None else max(total + asked.start, 0)


def _last_of(asked: Span, total: int | None, claimed: int) -> int:
    """The offset of the last byte that the part must have."""
    if total is None:
        return claimed if asked.stop is None else asked.stop - 1
    return total - 1 if asked.stop is None else min(asked.stop, total) - 1
