"""The lines of a runs file: text with one run or range per line, or a table as spreadsheets write it.

It splits lines and does not judge their items and names: `content` does. Pure functions, no threads.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cambfs.text import quoted

_RUN, _NAME = "run_id", "name"
_DELIMITERS = ",;\t"
# A range may have blanks around its dash. Otherwise the first blank ends the run, and a # begins a comment unless a
# name stands before it.
_LINE = re.compile(r"\s*([0-9]+\s*-\s*[0-9]+(?![^\s#])|[^\s#]*)\s*(.*)", re.ASCII | re.DOTALL)


class Line(NamedTuple):
    """`name` is empty when the line has none. `is_table` decides how a `#` in it was meant."""

    number: int
    item: str
    name: str
    is_table: bool


class Problem(NamedTuple):
    """What is wrong with one line."""

    number: int
    text: str


def decode(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 with its byte order mark, as a spreadsheet's "Unicode text". Bytes that are
    not UTF-8 become surrogates."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    return content.decode("utf-8-sig", "surrogateescape")


def split(text: str, *, is_csv: bool) -> Iterator[Line]:
    """The lines that are not empty. A text that begins with a header is a table, whatever its file is called.

    Raises ValueError when a CSV file has no such header, or its quotes do not match. A table ends there.
    """
    # Newlines are left as they are, so that the csv module sees those in quotes.
    first = io.StringIO(text, newline="").readline()
    delimiter = next((one for one in _DELIMITERS if _columns(_row(first, one)) is not None), None)
    if delimiter is not None:
        return _table(text, delimiter)
    if is_csv:
        raise ValueError(f"{quoted(first.strip())} is not a header; a CSV file needs the columns {_RUN} and {_NAME}")
    return _plain(text)


def _plain(text: str) -> Iterator[Line]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        match = _LINE.match(line)
        assert match is not None, "every part of the pattern may be empty"
        item, name = match[1], match[2].rstrip()
        if item:
            yield Line(number, item, "" if name.startswith("#") else name, is_table=False)


def _table(text: str, delimiter: str) -> Iterator[Line]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns = _columns(next(rows))
    assert columns is not None, "the header was found before"
    end = rows.line_num
    try:
        for row in rows:
            number, end = end + 1, rows.line_num  # a row may have several lines
            item, name = (row[column].strip() if column < len(row) else "" for column in columns)
            if item or name:
                yield Line(number, item, name, is_table=True)
    except csv.Error as error:
        raise ValueError(f"line {end + 1}: {error}; check the quotes") from None


def _row(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error:
        return []


def _columns(header: Sequence[str]) -> tuple[int, int] | None:
    """The places of the run and of the name."""
    titles = [title.strip().casefold() for title in header]
    return (titles.index(_RUN), titles.index(_NAME)) if _RUN in titles and _NAME in titles else None
