"""Reading settings again: changes take effect, and a mistake changes nothing. The kernel tests do it with a mount."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cambfs.errors import SettingError
from cambfs.reload import Reload
from cambfs.run_list import DeclaredRuns
from cambfs.settings.config import ApiKey, Password, Settings

BEGIN = Settings(key=ApiKey("old-key"), runs="1-3", options=("max_read=4096",))


class Changes:
    """A client and a cache that record calls."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def use_key(self, key: ApiKey) -> None:
        self.seen.append(key.reveal())

    def set_limit(self, limit_bytes: int) -> None:
        self.seen.append(limit_bytes)


class Mount:
    """Settings that are read again as `wanted`, or fail with it."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.declared = DeclaredRuns(BEGIN.runs)
        self.wanted: Settings | Exception = BEGIN
        self.reload = Reload(BEGIN, self._read, self.changes.use_key, self.changes, self.declared)  # type: ignore[arg-type]

    def _read(self) -> Settings:
        if isinstance(self.wanted, Exception):
            raise self.wanted
        return self.wanted


@pytest.fixture
def mount() -> Mount:
    return Mount()


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("cambfs", "fuse")]
    before = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_all_that_can_change_does_and_the_rest_waits(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    mount.wanted = replace(
        BEGIN, key=ApiKey("new-key"), runs="7", cache_size=5, log_level="error", timeout=1.0, url_style="plain"
    )
    mount.reload()
    assert sorted(map(str, mount.changes.seen)) == ["5", "new-key"]
    assert mount.declared() == (7,)
    assert logging.getLogger("cambfs").level == logging.ERROR
    assert caplog.messages == [
        "settings read again; changed: key, cache_size, runs, log_level; from the next mount on: timeout, url_style"
    ]


def test_the_shared_cache_waits_for_the_next_mount_and_its_password_is_not_logged(
    mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    mount.wanted = replace(
        BEGIN, shared_cache="valkey://farm", shared_cache_password=Password("s3cret"), shared_max_result=5
    )
    mount.reload()
    names = "shared_cache, shared_cache_password, shared_max_result"
    assert caplog.messages == [f"settings read again; from the next mount on: {names}"]


def test_the_options_of_the_mount_are_as_they_were_settled(mount: Mount, caplog: pytest.LogCaptureFixture) -> None:
    mount.wanted = replace(BEGIN, options=("ro", "max_read=4096"), log_level="info")
    mount.reload()
    assert caplog.messages == ["settings read again; nothing has changed"]


@pytest.mark.parametrize(
    "wanted",
    [
        SettingError("config.toml: timeout: 'soon' is not a time"),
        replace(BEGIN, key=None, cache_size=5),
        RuntimeError("of a kind that nobody expects"),
        replace(BEGIN, key=ApiKey("new-key"), cache_size=5, log_level="error", runs_file=Path("/nowhere/runs")),
    ],
)
def test_a_mistake_changes_nothing(
    mount: Mount, caplog: pytest.LogCaptureFixture, wanted: Settings | Exception
) -> None:
    logging.getLogger("cambfs").setLevel("INFO")
    mount.wanted = wanted
    mount.reload()
    assert mount.changes.seen == []
    assert mount.declared() == (1, 2, 3)
    assert logging.getLogger("cambfs").level == logging.INFO
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    mount.wanted = replace(BEGIN, cache_size=5)
    mount.reload()
    assert mount.changes.seen == [5], "what was not changed is changed the next time"
