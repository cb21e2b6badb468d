"""Shared by all tests: short pauses, libraries that are closed, threads that must have ended.

With CAMBFS_NO_SKIPS=1, as `scripts/test` sets it, a skipped test or module is a failure. With CAMBFS_EXPLORE=1, as
`scripts/hostile` sets it, hypothesis looks for new examples; otherwise the same examples are tried every time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import hypothesis
import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.remote import retry, tasks
from cambfs.runs.library import Library
from tests.fakes import LIMIT_S, FakeSource
from tests.waiting import MakeLibrary, library_of, our_threads

hypothesis.settings.register_profile("same", derandomize=True)
if not os.environ.get("CAMBFS_EXPLORE"):
    hypothesis.settings.load_profile("same")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # An expected failure is reported as skipped, too, and is none.
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CAMBFS_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure here: {report.longrepr}"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of real networks, a hundred times shorter."""
    monkeypatch.setattr(retry, "_FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(retry, "_LONGEST_PAUSE_S", 0.05)
    monkeypatch.setattr(tasks, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(tasks, "_LONGEST_PAUSE_S", 0.15)


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
def make_library(source: FakeSource, request: pytest.FixtureRequest) -> Iterator[MakeLibrary]:
    """Libraries that are closed afterwards, as `library_of` makes them; in memory unless a cache is given. The options
    of `pytest.mark.tuning` are those of all in a test."""
    marker = request.node.get_closest_marker("tuning")
    libraries: list[Library] = []

    def make(
        cache: Cache | None = None, declared: Sequence[int] = (), *, limit_bytes: int = 1 << 20, **options: Any
    ) -> Library:
        options = {**(marker.kwargs if marker else {}), **options}
        libraries.append(library_of(source, cache or Cache(None, limit_bytes), declared, **options))
        return libraries[-1]

    yield make
    for library in libraries:
        library.close()
