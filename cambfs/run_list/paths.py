"""The names in a runs file: a path of folders and a title. Checks what a file system and its programs can do with it.

Pure functions, no threads.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from cambfs.text import quoted

ENDING = ".flac"
# Only files have these endings, only folders have others. So no name is a file now and a folder after a change of the
# runs file: the kernel remembers which of them a name was.
_FILE_ENDINGS = (ENDING, ".wav", ".m3u8")
_MAX_NAME_BYTES = 255
# With the path of the mount in front, and ../ for every folder, it stays below PATH_MAX (4096).
_MAX_PATH_BYTES = 1024
_MAX_DEPTH = 32
_BREAKS_LINES = ("Cc", "Zl", "Zp")  # control characters, line and paragraph separators
# Characters that turn the direction of writing or have no width, but not those that join letters or emoji.
_UNSEEN = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff")


class NamePath(NamedTuple):
    """`title` has no ending."""

    folders: tuple[str, ...]
    title: str

    def __str__(self) -> str:
        return "/".join((*self.folders, self.title))


def parse_path(text: str) -> NamePath:
    """A path like `Book/01 The harbour`; an ending `.flac` is not part of the title. Raises ValueError."""
    *folders, title = text.split("/")
    if title.casefold().endswith(ENDING):
        title = title[: -len(ENDING)]
    path = NamePath(tuple(folders), title)
    if not text.isprintable():
        _check_characters(text)
    if len(text.encode()) > _MAX_PATH_BYTES:
        raise ValueError(f"{quoted(text)} is longer than {_MAX_PATH_BYTES:,} bytes")
    if len(folders) > _MAX_DEPTH:
        raise ValueError(f"{quoted(text)} has {len(folders)} folders; a path can have {_MAX_DEPTH}")
    if text.startswith("/"):
        raise ValueError(f"{quoted(text)} begins with /; write the path without it")
    for folder in folders:
        _check_name(text, folder, folder)
        if folder.casefold().endswith(_FILE_ENDINGS):
            raise ValueError(f"{quoted(text)}: the name of a folder must not end like a file")
    _check_name(text, title, title + ENDING)
    return path


def _check_characters(text: str) -> None:
    categories = {unicodedata.category(character) for character in text}
    if "Cs" in categories:
        raise ValueError(f"{quoted(text)} is not UTF-8; save the file as UTF-8")
    if categories.intersection(_BREAKS_LINES):
        raise ValueError(f"{quoted(text)} has a tab, a line break or another control character in it")


def _check_name(text: str, name: str, file_name: str) -> None:
    if not name:
        raise ValueError(f"{quoted(text)} has an empty part; each folder and the title need a name")
    if name in (".", ".."):
        raise ValueError(f"{quoted(text)}: {name} cannot be a name")
    if (length := len(file_name.encode())) > _MAX_NAME_BYTES:
        raise ValueError(f"{quoted(file_name)} has {length} bytes; a name can have {_MAX_NAME_BYTES}")


def surprises(path: NamePath, *, is_table: bool) -> list[str]:
    """What works, but perhaps not as the user expects."""
    parts, text = (*path.folders, path.title), str(path)
    found = {
        "has a blank at the beginning or end of a name": any(part != part.strip() for part in parts),
        "has a name that begins with a dot, so ls does not show it": any(part.startswith(".") for part in parts),
        "has a backslash in it; folders end with /": "\\" in text,
        "has a character that cannot be seen": not _UNSEEN.isdisjoint(text),
        "has a replacement character; was the file saved as UTF-8?": "\ufffd" in text,
        "has a # in it, which begins no comment behind a name": not is_table and " # " in text,
    }
    return [f"{quoted(text)} {surprise}" for surprise, is_so in found.items() if is_so]


def twin_key(path: str) -> str:
    """The same for paths that differ only in case, or in how accents are encoded."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
