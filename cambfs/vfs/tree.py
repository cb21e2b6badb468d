"""The tree: its nodes and their attributes.

Not FUSE (`adapter`), nor open files (`open_files`), nor the results (`library`). Threads: any. `_lock` guards what was
answered; nothing is locked under it.
"""

from __future__ import annotations

import json
import math
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

from cachetools import TTLCache

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.names import Kind, RunId, inode, names_and_inodes, parse_name
from cambfs.remote.signer import Signature
from cambfs.runs.library import Library
from cambfs.vfs.open_files import OpenAudio, OpenControl, OpenFile, OpenText, Shown

# How long the kernel may remember a name. It only saves lookups.
ENTRY_TIMEOUT_S = 300
# The size in a response whose size is not known yet. The kernel asks again before it shows a size to anyone; what reads
# without asking (sendfile, splice) reads until a response ends, which is the end: so too large does no harm.
PROVISIONAL_SIZE = 1 << 40
ROOT_INODE = 1
CONTROL = "/.cambfs"
# No number is free beside the runs'. This one, and those below it, belong to the last run ids that there can be.
_CONTROL_INODE = 2**64 - 1
_BLOCK_BYTES = 512
_NAMES_KEPT = 4096


class UrlStyle(Enum):
    """What a `.url` file shows."""

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
        # Control characters are escaped, and all beyond ASCII: terminals obey some of them, too.
        return (json.dumps(response).replace("\x7f", "\\u007f") + "\n").encode()


class Attributes(NamedTuple):
    """`size` in bytes; `mtime_ns` since the epoch."""

    ino: int
    mode: int
    nlink: int
    size: int
    mtime_ns: int

    @property
    def blocks(self) -> int:
        """In the unit of stat(2), 512 bytes."""
        return -(-self.size // _BLOCK_BYTES)


class Tree:
    """`controls` are the files of `/.cambfs`: name → what it shows now. They have the mode of the URLs, `url_mode`:
    both say what is the user's own business."""

    def __init__(
        self,
        library: Library,
        url_style: UrlStyle,
        url_mode: int = 0o444,
        controls: Mapping[str, Callable[[], bytes]] | None = None,
    ) -> None:
        self._library = library
        self._url_style = url_style
        self._url_mode = url_mode
        self._controls = {f"{CONTROL}/{name}": text for name, text in (controls or {}).items()}
        self._made_ns = time.time_ns()
        self._lock = Lock()  # guards all below
        # One name is answered provisionally at most once as long as the kernel may remember it: while it does, it asks
        # for attributes without looking the name up, and such a question must get the truth.
        self._answered: TTLCache[str, bool] = TTLCache(math.inf, ENTRY_TIMEOUT_S + 10, timer=time.monotonic)
        self._urls_said: set[RunId] = set()  # an expired URL has no size, which the kernel saw before all the same
        self._shown: dict[RunId, Shown] = {}

    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool = True) -> Attributes:
        """The node's attributes, waited for. When the question may be a lookup, which must not wait (the kernel makes
        one at a time in a directory), the first response of a file whose size is unknown has PROVISIONAL_SIZE.

        Raises NoSuchName and other CambfsErrors.
        """
        if path == "/":
            return Attributes(ROOT_INODE, stat.S_IFDIR | 0o555, 2, 0, self._made_ns)
        if path == CONTROL:
            return Attributes(_CONTROL_INODE, stat.S_IFDIR | 0o555, 2, 0, self._made_ns)
        if path in self._controls:
            size = len(self._controls[path]())
            return Attributes(self._control_inode(path), stat.S_IFREG | self._url_mode, 1, size, time.time_ns())
        run_id, kind = _parse(path)
        size_and_mtime = self._known(run_id, kind)
        if size_and_mtime is None and is_lookup_possible and self._is_first_response(path, run_id, kind):
            size_and_mtime = PROVISIONAL_SIZE, self._made_ns
        if size_and_mtime is None:
            size_and_mtime = self._waited_for(run_id, kind, deadline)
        return Attributes(inode(run_id, kind), self._mode(kind), 1, *size_and_mtime)

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
        if kind is Kind.FLAC and self._library.was_said(run_id):
            return False
        with self._lock:
            if path in self._answered or (kind is Kind.URL and run_id in self._urls_said):
                return False
            self._answered[path] = True
            return True

    def _waited_for(self, run_id: RunId, kind: Kind, deadline: Deadline) -> tuple[int, int]:
        if kind is Kind.URL:
            signature = self._library.signature(run_id, deadline)
            return self._of_url(run_id, signature)
        info = self._library.wait_for_info(run_id, deadline)
        return info.size, info.mtime_ns

    def _of_url(self, run_id: RunId, signature: Signature) -> tuple[int, int]:
        with self._lock:
            self._urls_said.add(run_id)
        return len(self._text(signature.signed.response)), signature.signed_ns

    def _mode(self, kind: Kind) -> int:
        return stat.S_IFREG | (self._url_mode if kind is Kind.URL else 0o444)

    def _text(self, response: Mapping[str, Any]) -> bytes:
        return self._url_style.text(response)

    def check_exists(self, path: str, deadline: Deadline) -> None:
        """Waits until it is known that there is such a file. Raises NoSuchName and other CambfsErrors."""
        self.attributes(path, deadline, is_lookup_possible=False)

    def open(self, path: str, deadline: Deadline) -> OpenFile:
        """Raises NoSuchName and other CambfsErrors."""
        if path in self._controls:
            return OpenControl(self._controls[path]())
        run_id, kind = _parse(path)
        if kind is Kind.FLAC:
            return OpenAudio(self._library, run_id, deadline)
        return self._open_text(run_id, self._library.signature(run_id, deadline))

    def _open_text(self, run_id: RunId, signature: Signature) -> OpenText:
        with self._lock:
            shown = self._shown.setdefault(run_id, Shown())
            shown.text, shown.mtime_ns = self._text(signature.signed.response), signature.signed_ns
            self._urls_said.add(run_id)
            return OpenText(shown, lambda file: self._close_text(run_id, file))

    def _close_text(self, run_id: RunId, file: OpenText) -> None:
        with self._lock:
            if file.forget():
                del self._shown[run_id]

    def _control_inode(self, path: str) -> int:
        return _CONTROL_INODE - 1 - list(self._controls).index(path)

    def usage(self) -> tuple[int, int]:
        """The bytes of all results whose size is known, and the number of files."""
        return self._library.known_bytes(), len(Kind) * len(self._library.listed())

    def names(self, path: str) -> Iterator[tuple[str, int]]:
        """A directory's files, each with its inode, as they are now. `/.cambfs` is not listed in `/`."""
        if path == CONTROL:
            return iter([(name.removeprefix(f"{CONTROL}/"), self._control_inode(name)) for name in self._controls])
        return names_and_inodes(self._library.begin_listing())


@lru_cache(_NAMES_KEPT)
def _parse(path: str) -> tuple[RunId, Kind]:
    found = parse_name(path.removeprefix("/"))
    if found is None:
        raise NoSuchName(f"{path!r} is not a run's file")
    return found
