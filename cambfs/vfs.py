"""The tree: its nodes, their attributes, and open files.

Not FUSE (`mount`), and not the results (`library`). Threads: any. `_lock` guards what was answered and is a leaf.
"""

from __future__ import annotations

import json
import math
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Any, Protocol

from cachetools import TTLCache

from cambfs.errors import CambfsError, NoSuchName
from cambfs.library import Library
from cambfs.names import Kind, RunId, file_name, inode, parse_name
from cambfs.patience import Patience
from cambfs.signer import Signature

# How long the kernel may remember a name. It only saves lookups.
ENTRY_TIMEOUT_S = 300
# The size in an answer whose size is not known yet. The kernel asks again before it shows a size to anyone; what reads
# without asking (sendfile, splice) reads until an answer ends, which is the end: so too large does no harm.
PROVISIONAL_SIZE = 1 << 40
# The kernel asks up to three times more, page by page, for what could not be read, before its caller hears of it. For
# so long after a failure nothing is waited for that is not there.
_SAME_FAILURE_S = 1.0
ROOT_INODE = 1
CONTROL = "/.cambfs"
# No number is free beside the runs'. This one, and those below it, belong to the last run ids that there can be.
_CONTROL_INODE = 2**64 - 1
_BLOCK_BYTES = 512


class UrlStyle(Enum):
    """What a `.url` file shows."""

    JSON = "json"
    PLAIN = "plain"
    SHORTCUT = "shortcut"

    def text(self, answer: Mapping[str, Any]) -> bytes:
        """The whole file for a file_url answer."""
        url = answer["output_url"]
        if self is UrlStyle.PLAIN:
            return f"{url}\n".encode()
        if self is UrlStyle.SHORTCUT:
            return f"[InternetShortcut]\r\nURL={url}\r\n".encode()
        # Control characters are escaped, and all beyond ASCII: terminals obey some of them, too.
        return (json.dumps(answer).replace("\x7f", "\\u007f") + "\n").encode()


@dataclass(frozen=True, slots=True)
class Attributes:
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


class OpenFile(Protocol):
    keep_pages: bool
    """The kernel may keep what it has of this file: it is what it was."""
    is_live: bool
    """The kernel must not keep anything, nor show what it kept: other opens show something else."""

    def read(self, offset: int, length: int, patience: Patience) -> bytes:
        """`length` bytes, or fewer only because the file ends there. Raises CambfsError."""

    def close(self) -> None:
        """Call once."""


class _OpenAudio:
    def __init__(self, library: Library, run_id: RunId, patience: Patience) -> None:
        self._handle = library.open(run_id, patience)
        self.keep_pages = self._handle.same_bytes
        # The kernel's pages belong to the name, not to the open: who has the former result open would get ours.
        self.is_live = self._handle.beside_other
        # One word, written by any thread: whichever failure comes last is right.
        self._failure: tuple[float, CambfsError] | None = None

    def read(self, offset: int, length: int, patience: Patience) -> bytes:
        failure = self._failure
        is_again = failure is not None and time.monotonic() < failure[0]
        try:
            return self._handle.read(offset, length, Patience(0) if is_again else patience)
        except CambfsError as error:
            if not error.temporary:
                raise
            if failure is not None and is_again:
                raise failure[1].with_traceback(None) from None
            self._failure = time.monotonic() + _SAME_FAILURE_S, error
            raise

    def close(self) -> None:
        self._handle.close()


class _OpenText:
    """One open `.url` file. All who have it open read the same text, that of the last open: the kernel's pages are
    shared by them, and so must the bytes be."""

    keep_pages = is_live = False

    def __init__(self, shown: _Shown, close: Callable[[], None]) -> None:
        self._shown = shown
        self.close = close

    def read(self, offset: int, length: int, _patience: Patience) -> bytes:
        return self._shown.text[offset : offset + length]


@dataclass(slots=True)
class _Shown:
    """What a `.url` file that is open shows."""

    text: bytes = b""
    mtime_ns: int = 0
    handles: int = 0


class _OpenControl:
    keep_pages, is_live = False, True

    def __init__(self, text: bytes) -> None:
        self._text = text

    def read(self, offset: int, length: int, _patience: Patience) -> bytes:
        return self._text[offset : offset + length]

    def close(self) -> None:
        pass


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
        self._shown: dict[RunId, _Shown] = {}

    def attributes(self, path: str, patience: Patience, *, is_lookup_possible: bool = True) -> Attributes:
        """The node's attributes, waited for. When the question may be a lookup, which must not wait (the kernel makes
        one at a time in a directory), the first answer of a file whose size is unknown has PROVISIONAL_SIZE.

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
        if size_and_mtime is None and is_lookup_possible and self._is_first_answer(path, run_id, kind):
            size_and_mtime = PROVISIONAL_SIZE, self._made_ns
        if size_and_mtime is None:
            size_and_mtime = self._waited_for(run_id, kind, patience)
        return Attributes(inode(run_id, kind), self._mode(kind), 1, *size_and_mtime)

    def _known(self, run_id: RunId, kind: Kind) -> tuple[int, int] | None:
        if kind is Kind.URL:
            shown, signature = self._shown.get(run_id), self._library.fresh_signature(run_id)
            if shown is not None:
                return len(shown.text), shown.mtime_ns
            return None if signature is None else self._of_url(run_id, signature)
        facts = self._library.facts(run_id)
        return None if facts is None else (facts.size, facts.mtime_ns)

    def _is_first_answer(self, path: str, run_id: RunId, kind: Kind) -> bool:
        with self._lock:
            was_said = run_id in self._urls_said if kind is Kind.URL else self._library.was_said(run_id)
            if was_said or path in self._answered:
                return False
            self._answered[path] = True
            return True

    def _waited_for(self, run_id: RunId, kind: Kind, patience: Patience) -> tuple[int, int]:
        if kind is Kind.URL:
            signature = self._library.signature(run_id, patience)
            return self._of_url(run_id, signature)
        facts = self._library.wait_for_facts(run_id, patience)
        return facts.size, facts.mtime_ns

    def _of_url(self, run_id: RunId, signature: Signature) -> tuple[int, int]:
        with self._lock:
            self._urls_said.add(run_id)
        return len(self._text(signature.signed.answer)), signature.signed_ns

    def _mode(self, kind: Kind) -> int:
        return stat.S_IFREG | (self._url_mode if kind is Kind.URL else 0o444)

    def _text(self, answer: Mapping[str, Any]) -> bytes:
        return self._url_style.text(answer)

    def check_exists(self, path: str, patience: Patience) -> None:
        """Waits until it is known that there is such a file. Raises NoSuchName and other CambfsErrors."""
        self.attributes(path, patience, is_lookup_possible=False)

    def open(self, path: str, patience: Patience) -> OpenFile:
        """Raises NoSuchName and other CambfsErrors."""
        if path in self._controls:
            return _OpenControl(self._controls[path]())
        run_id, kind = _parse(path)
        if kind is Kind.FLAC:
            return _OpenAudio(self._library, run_id, patience)
        return self._open_text(run_id, self._library.signature(run_id, patience))

    def _open_text(self, run_id: RunId, signature: Signature) -> _OpenText:
        with self._lock:
            shown = self._shown.setdefault(run_id, _Shown())
            shown.text, shown.mtime_ns = self._text(signature.signed.answer), signature.signed_ns
            shown.handles += 1
            self._urls_said.add(run_id)
        return _OpenText(shown, lambda: self._close_text(run_id, shown))

    def _close_text(self, run_id: RunId, shown: _Shown) -> None:
        with self._lock:
            shown.handles -= 1
            if not shown.handles:
                del self._shown[run_id]

    def _control_inode(self, path: str) -> int:
        return _CONTROL_INODE - 1 - list(self._controls).index(path)

    def usage(self) -> tuple[int, int]:
        """The bytes of all results whose size is known, and the number of files."""
        return self._library.known_bytes(), len(Kind) * len(self._library.listed())

    def names(self, path: str) -> Iterator[tuple[str, int]]:
        """A directory's files, each with its inode. `/.cambfs` is not listed in `/`."""
        if path == CONTROL:
            yield from ((name.removeprefix(f"{CONTROL}/"), self._control_inode(name)) for name in self._controls)
            return
        for run_id in self._library.begin_listing():
            for kind in Kind:
                yield file_name(run_id, kind), inode(run_id, kind)


def _parse(path: str) -> tuple[RunId, Kind]:
    found = parse_name(path.removeprefix("/"))
    if found is None:
        raise NoSuchName(f"{path!r} is not a run's file")
    return found
