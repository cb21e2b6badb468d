"""When a whole result is put into the cache."""

from __future__ import annotations

from threading import Event, Thread
from unittest.mock import Mock

import pytest

from cambfs.errors import CambfsError
from cambfs.runs import commit_queue as keeping_module
from cambfs.runs.commit_queue import Keeping
from cambfs.system.workers import Workers
from tests.fakes import LIMIT_S


@pytest.fixture
def keeping(closing: Event) -> Keeping:
    return Keeping(Workers(), closing)


def _never_quiet(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "_QUIET_S", 10 * LIMIT_S)
    keeping.note_use()


def test_a_result_is_kept_when_nobody_reads(keeping: Keeping) -> None:
    kept = Event()
    keeping.note_use()
    keeping.add(kept.set)

    assert kept.wait(LIMIT_S)


def test_not_while_somebody_reads(keeping: Keeping, closing: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "_LATEST_S", 10 * LIMIT_S)
    _never_quiet(keeping, monkeypatch)
    kept = Event()
    keeping.add(kept.set)

    assert not kept.wait(0.1)
    closing.set()
    assert kept.wait(LIMIT_S), "nothing waits at the end"


def test_but_not_much_later(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping_module, "_LATEST_S", 0.05)
    _never_quiet(keeping, monkeypatch)
    kept = Event()
    keeping.add(kept.set)

    assert kept.wait(LIMIT_S)


def test_one_after_the_other_whatever_becomes_of_them(keeping: Keeping, caplog: pytest.LogCaptureFixture) -> None:
    kept: list[int] = []
    done = Event()
    keeping.add(lambda: kept.append(1))
    keeping.add(Mock(side_effect=ValueError("a mistake")))
    keeping.add(lambda: kept.append(2))
    keeping.add(done.set)

    assert done.wait(LIMIT_S)
    assert kept == [1, 2]
    assert "nobody foresaw" in caplog.text


def test_many_threads_add(keeping: Keeping) -> None:
    kept: list[int] = []
    threads = [Thread(target=keeping.add, args=(lambda place=place: kept.append(place),)) for place in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    done = Event()
    keeping.add(done.set)

    assert done.wait(LIMIT_S)
    assert sorted(kept) == list(range(50))


def test_without_a_thread_it_is_done_at_once(closing: Event, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers()
    monkeypatch.setattr(workers, "start", Mock(side_effect=CambfsError("no more threads")))
    kept = Mock()
    Keeping(workers, closing).add(kept)

    kept.assert_called_once_with()
