"""The branch of the results: `/<run_id>.flac` and `/<run_id>.url`, and the attributes of the root, which lists them.

`open_files` has the open files, `library` the results. Threads: any. `_lock` guards what was returned to the kernel; no
other lock is taken under it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from threading import Lock
from typing import Any

from cambfs.deadline import Deadline
from cambfs.errors import MisplacedTask, NoSuchName
from cambfs.names import Kind, RunId, inode, names_and_inodes, parse_name, parse_task_id
from cambfs.remote.signer import Signature
from cambfs.runs.library import Library
from cambfs.vfs.nodes import (
    DIRECTORY_MODE,
    FILE_MODE,
    PROVISIONAL_SIZE,
    ROOT_INODE,
    SECRET_MODE,
    Attributes,
    Branch,
    Entry,
    Provisional,
)
from cambfs.vfs.open_files import OpenAudio, OpenFile, OpenText, Shown

_NAMES_KEPT = 4096


class UrlStyle(Enum):
    """The content of `.url` files."""

    JSON = "json"
    PLAIN = "plain"
    SHORTCUT = "shortcut"

    def text(self, response: Mapping[str, Any]) -> bytes:
        """The whole file for a file_url response."""
        url = response["output_url"]
        if self is UrlStyle.PLAIN:
            return f"{url}\n".encode()
        if self is UrlStyle.SHORTCUT:
            return f"[InternetShortcut]\r\nURL={url}\r\n".encode()
        # Control characters and all characters beyond ASCII are escaped: terminals obey some of them.
        return (json.dumps(response).replace("\x7f", "\\u007f") + "\n").encode()


class Results(Branch):
    """`url_style` None: there are no `.url` files. `timer`: seconds, as the kernel counts them."""

    def __init__(
        self, library: Library, url_style: UrlStyle | None, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._library = library
        self._url_style = url_style
        self._made_ns = time.time_ns()
        self._provisional = Provisional(timer)
        self._lock = Lock()  # guards all below
        self._urls_seen: set[RunId] = set()  # an expired URL has no size, but the kernel saw one before
        self._shown: dict[RunId, Shown] = {}

    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:
        if path == "/":
            return Attributes(ROOT_INODE, DIRECTORY_MODE, 2, 0, self._made_ns)
        run_id, kind = self._parse(path)
        size_and_mtime = self._known(run_id, kind)
        if size_and_mtime is None and is_lookup_possible and self._is_first_response(path, run_id, kind):
            size_and_mtime = PROVISIONAL_SIZE, self._made_ns
        if size_and_mtime is None:
            size_and_mtime = self._waited_for(run_id, kind, deadline)
        mode = SECRET_MODE if kind is Kind.URL else FILE_MODE
        return Attributes(inode(run_id, kind), mode, 1, *size_and_mtime)

    def _parse(self, path: str) -> tuple[RunId, Kind]:
        run_id, kind = _parse(path)
        if kind is Kind.URL and self._url_style is None:
            raise NoSuchName(f"{path!r}: this mount has no .url files")
        return run_id, kind

    def _known(self, run_id: RunId, kind: Kind) -> tuple[int, int] | None:
        if kind is Kind.URL:
            return self._known_url(run_id)
        info = self._library.info(run_id)
        return None if info is None else (info.size, info.mtime_ns)

    def _known_url(self, run_id: RunId) -> tuple[int, int] | None:
        with self._lock:
            if (shown := self._shown.get(run_id)) is not None:
                return len(shown.text), shown.mtime_ns
        signature = self._library.fresh_signature(run_id)
        return None if signature is None else self._of_url(run_id, signature)

    def _is_first_response(self, path: str, run_id: RunId, kind: Kind) -> bool:
        if kind is Kind.FLAC and self._library.was_reported(run_id):
            return False
        with self._lock:
            if kind is Kind.URL and run_id in self._urls_seen:
                return False
        return self._provisional.is_first(path)

    def _waited_for(self, run_id: RunId, kind: Kind, deadline: Deadline) -> tuple[int, int]:
        if kind is Kind.URL:
            signature = self._library.signature(run_id, deadline)
            return self._of_url(run_id, signature)
        info = self._library.wait_for_info(run_id, deadline)
        return info.size, info.mtime_ns

    def _of_url(self, run_id: RunId, signature: Signature) -> tuple[int, int]:
        with self._lock:
            self._urls_seen.add(run_id)
        return len(self._text(signature.signed.response)), signature.signed_ns

    def _text(self, response: Mapping[str, Any]) -> bytes:
        assert self._url_style is not None, "without a style there are no names of URLs"
        return self._url_style.text(response)

    def open(self, path: str, deadline: Deadline) -> OpenFile:
        run_id, kind = self._parse(path)
        if kind is Kind.FLAC:
            return OpenAudio(self._library.open(run_id, deadline))
        return self._open_text(run_id, self._library.signature(run_id, deadline))

    def _open_text(self, run_id: RunId, signature: Signature) -> OpenText:
        with self._lock:
            shown = self._shown.setdefault(run_id, Shown())
            shown.text, shown.mtime_ns = self._text(signature.signed.response), signature.signed_ns
            self._urls_seen.add(run_id)
            return OpenText(shown, lambda file: self._close_text(run_id, file))

    def _close_text(self, run_id: RunId, file: OpenText) -> None:
        with self._lock:
            if file.forget():
                del self._shown[run_id]

    def is_private(self, path: str) -> bool:
        return path.endswith(".url")

    def usage(self) -> tuple[int, int]:
        """The bytes of all results whose size is known, and the number of files."""
        files_per_run = 1 if self._url_style is None else 2
        return self._library.known_bytes(), files_per_run * len(self._library.listed())

    def names(self, _path: str) -> Iterator[Entry]:
        listed = self._library.begin_listing()
        with_url = self._library.with_url(listed) if self._url_style is not None else ()
        return ((name, ino, FILE_MODE) for name, ino in names_and_inodes(listed, with_url))


@lru_cache(_NAMES_KEPT)
def _parse(path: str) -> tuple[RunId, Kind]:
    found = parse_name(path.removeprefix("/"))
    if found is None:
        if parse_task_id(path[1:].partition(".")[0].lower()) is not None:
            raise MisplacedTask(f"{path[1:]!r} is a task's id, and files at the top have a run's")
        raise NoSuchName(f"{path!r} is not a run's file")
    return found
