"""Reads the log of one run in the engine, frame after frame, and the facts beside it.

Not what follows from them (`follow`, `upload`, `tier`). One thread uses each; no lock.
"""

from __future__ import annotations

from typing import NamedTuple

from cambfs.names import RunId
from cambfs.shared.engine import Engine
from cambfs.tier.seals import Facts, Frames, Header, open_facts

# One read of the log.
_PAGE_BYTES = 1 << 20


class Account(NamedTuple):
    """What one API key has there: an engine with its names, and the key of its seals."""

    engine: Engine
    key: bytes


class RunLog:
    """`frames` is how far it has been read. `is_held`: a machine had the lease at the last look."""

    def __init__(self, account: Account, run_id: RunId) -> None:
        self.account = account
        self.run_id = run_id
        self.frames = Frames(account.key, run_id)
        self.is_held = False
        self._came = bytearray()  # of the log, and not opened yet
        self._first = b""  # the frame of the header
        self._sealed_facts: bytes | None = None
        self._facts: Facts | None = None

    @property
    def header(self) -> Header | None:
        return self.frames.header

    @property
    def facts(self) -> Facts | None:
        """Those of this upload, as they were at the last look."""
        header, facts = self.header, self._facts
        return facts if header is not None and facts is not None and facts.upload == header.upload else None

    @property
    def is_whole(self) -> bool:
        """Whether the facts of this upload say that all of it is there."""
        return self.facts is not None and self.facts.is_whole

    def read(self) -> bytes | None:
        """The data of the next frame, b"" of the header; None when not all of it is there. Raises SealBroken and
        EngineDown."""
        data = self._open()
        while data is None and self._fetch():
            data = self._open()
        return data

    def _open(self) -> bytes | None:
        before = self.frames.offset
        data = self.frames.open(self._came)
        if not before:
            self._first = bytes(self._came[: self.frames.offset])
        del self._came[: self.frames.offset - before]
        return data

    def _fetch(self) -> bool:
        """Whether another look is worth it. New facts may be newer than the data beside them (`engine.Page`)."""
        page = self.account.engine.read(self.run_id, self.frames.offset + len(self._came), _PAGE_BYTES)
        self._came += page.data
        self.is_held = page.is_held
        is_news = page.facts != self._sealed_facts
        if is_news:
            self._sealed_facts = page.facts
            self._facts = None if page.facts is None else open_facts(self.account.key, self.run_id, page.facts)
        return bool(page.data) or (is_news and page.facts is not None)

    def is_there(self) -> bool:
        """Whether the log begins as it did, so that it is the same upload. Raises EngineDown."""
        return self.account.engine.read(self.run_id, 0, len(self._first)).data == self._first
