"""What the core's tests share: short pauses, libraries that are closed, and threads that must have ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import pytest

from cambfs import fetching, keeping, retry, run
from cambfs.cache import Cache
from cambfs.disk import Disk
from cambfs.library import Library
from cambfs.names import RunId
from tests.core.fakes import LIMIT_S, FakeSource

MakeLibrary = Callable[..., Library]
_OURS = ("stream-", "range-", "size-", "sign-", "keep")


def our_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(_OURS)]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of real networks, a hundred times shorter."""
    monkeypatch.setattr(keeping, "_QUIET_S", 0.002)
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(retry, "_LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(run, "LINGER_S", 0.02)


@pytest.fixture
def short_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand bytes ahead of the stream is far, and two thousand are fetched there; nothing is nearly finished."""
    monkeypatch.setattr(fetching, "_FAR_BYTES", 1000)
    monkeypatch.setattr(fetching, "_FAR_S", 0.0)
    monkeypatch.setattr(fetching, "_RATE_AFTER_S", 0.0)
    monkeypatch.setattr(fetching, "SPAN_BYTES", 2000)
    monkeypatch.setattr(run, "SPAN_BYTES", 2000)
    monkeypatch.setattr(run, "_NEARLY_BYTES", 0)


@pytest.fixture
def closing() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


@pytest.fixture(autouse=True)
def _no_thread_survives() -> Iterator[None]:
    yield
    deadline = time.monotonic() + LIMIT_S
    while (left := our_threads()) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not left


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "cache")


@pytest.fixture
def make_library(source: FakeSource) -> Iterator[MakeLibrary]:
    """Libraries that are closed afterwards; in memory unless a cache is given."""
    libraries: list[Library] = []

    def make(
        cache: Cache | None = None,
        declared: Sequence[int] = (),
        *,
        timeout_s: float = LIMIT_S,
        limit_bytes: int = 1 << 20,
        max_transfers: int = 64,
        max_result_bytes: int = 1 << 30,
    ) -> Library:
        cache = cache or Cache(None, limit_bytes)
        runs = [RunId(number) for number in declared]
        libraries.append(
            Library(
                source,
                cache,
                lambda: runs,
                timeout_s=timeout_s,
                max_transfers=max_transfers,
                max_result_bytes=max_result_bytes,
            )
        )
        return libraries[-1]

    yield make
    for library in libraries:
        library.close()
