"""The tree: its nodes and their attributes.

`adapter` serves it through FUSE, `open_files` has the open files, `library` the results. Threads: any. `_lock` guards
what was returned to the kernel; no other lock is taken under it.
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
# The size in a response while the size is unknown. The kernel asks again before it shows a size to a program. Calls
# that read without asking (sendfile, splice) read until the end of the file, so a size that is too large does no harm.
PROVISIONAL_SIZE = 1 << 40
ROOT_INODE = 1
CONTROL = "/.cambfs"
# All other numbers belong to runs. This one, and those below it, belong to the last possible run ids.
_CONTROL_INODE = 2**64 - 1
_DIRECTORY_MODE = stat.S_IFDIR | 0o755  # a copy of the tree gets this mode, and can then be removed
_AUDIO_MODE = stat.S_IFREG | 0o444
_SECRET_MODE = stat.S_IFREG | 0o400  # a URL gives the audio to anyone without a key
_BLOCK_BYTES = 512
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
    """`url_style` None: there are no `.url` files. `controls` are the files of `/.cambfs`: name → a function that
    returns its content. They have the mode of the URLs, because both are private to the user."""

    def __init__(
        self,
        library: Library,
        url_style: UrlStyle | None,
        controls: Mapping[str, Callable[[], bytes]] | None = None,
    ) -> None:
        self._library = library
        self._url_style = url_style
        self._controls = {f"{CONTROL}/{name}": text for name, text in (controls or {}).items()}
        self._made_ns = time.time_ns()
        self._lock = Lock()  # guards all below
        # A name gets a provisional size at most once while the kernel may remember it: meanwhile the kernel requests
        # attributes without a lookup, and needs the true size.
        self._provisional: TTLCache[str, bool] = TTLCache(math.inf, ENTRY_TIMEOUT_S + 10, timer=time.monotonic)
        self._urls_seen: set[RunId] = set()  # an expired URL has no size, but the kernel saw one before
        self._shown: dict[RunId, Shown] = {}

    def attributes(self, path: str, deadline: Deadline, *, is_lookup_possible: bool = True) -> Attributes:
        """Waits for the node's attributes. A lookup must not wait, since the kernel makes one at a time in a directory.
        So when the request may be a lookup, the first response for a file of unknown size has PROVISIONAL_SIZE.

        Raises NoSuchName and other CambfsErrors.
        """
        if path == "/":
            return Attributes(ROOT_INODE, _DIRECTORY_MODE, 2, 0, self._made_ns)
        if path == CONTROL:
            return Attributes(_CONTROL_INODE, _DIRECTORY_MODE, 2, 0, self._made_ns)
        if path in self._controls:
            size = len(self._controls[path]())
            return Attributes(self._control_inode(path), _SECRET_MODE, 1, size, time.time_ns())
        run_id, kind = self._parse(path)
        size_and_mtime = self._known(run_id, kind)
        if size_and_mtime is None and is_lookup_possible and self._is_first_response(path, run_id, kind):
            size_and_mtime = PROVISIONAL_SIZE, self._made_ns
        if size_and_mtime is None:
            size_and_mtime = self._waited_for(run_id, kind, deadline)
        mode = _SECRET_MODE if kind is Kind.URL else _AUDIO_MODE
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
        if kind is Kind.FLAC and self._library.was_said(run_id):
            return False
        with self._lock:
            if path in self._provisional or (kind is Kind.URL and run_id in self._urls_seen):
                return False
            self._provisional[path] = True
            return True

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

    def check_exists(self, path: str, deadline: Deadline) -> None:
        """Waits until it is known that the file exists. Raises NoSuchName and other CambfsErrors."""
        self.attributes(path, deadline, is_lookup_possible=False)

    def open(self, path: str, deadline: Deadline) -> OpenFile:
        """Raises NoSuchName and other CambfsErrors."""
        if path in self._controls:
            return OpenControl(self._controls[path]())
        run_id, kind = self._parse(path)
        if kind is Kind.FLAC:
            return OpenAudio(self._library, run_id, deadline)
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

    def _control_inode(self, path: str) -> int:
        return _CONTROL_INODE - 1 - list(self._controls).index(path)

    def usage(self) -> tuple[int, int]:
        """The bytes of all results whose size is known, and the number of files."""
        files_per_run = 1 if self._url_style is None else 2
        return self._library.known_bytes(), files_per_run * len(self._library.listed())

    def names(self, path: str) -> Iterator[tuple[str, int]]:
        """A directory's files, each with its inode, as they are now. `/.cambfs` is not listed in `/`."""
        if path == CONTROL:
            return iter([(name.removeprefix(f"{CONTROL}/"), self._control_inode(name)) for name in self._controls])
        listed = self._library.begin_listing()
        return names_and_inodes(listed, self._library.with_url(listed) if self._url_style is not None else ())


@lru_cache(_NAMES_KEPT)
def _parse(path: str) -> tuple[RunId, Kind]:
    found = parse_name(path.removeprefix("/"))
    if found is None:
        raise NoSuchName(f"{path!r} is not a run's file")
    return found
