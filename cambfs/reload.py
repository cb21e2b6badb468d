"""Reads the settings of a running mount again, at SIGHUP.

A change takes effect if it can at run time: key, runs, size of the cache, log level. All settings are read and checked
before the first one changes, so a mistake changes nothing. Threads: `reload` calls it, one call after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from cambfs.errors import CambfsError, SettingError
from cambfs.settings.config import ApiKey, Settings
from cambfs.system import logs

if TYPE_CHECKING:
    from cambfs.cache.cache import Cache
    from cambfs.run_list import DeclaredRuns

_CAN_CHANGE = {"key", "runs", "runs_file", "cache_size", "log_level"}

_log = logging.getLogger(__name__)


class Reload:
    """`read` raises CambfsError for wrong settings; calling this object does not."""

    def __init__(
        self,
        settings: Settings,
        read: Callable[[], Settings],
        use_key: Callable[[ApiKey], None],
        cache: Cache,
        declared: DeclaredRuns,
    ) -> None:
        self._settings = settings
        self._read = read
        self._use_key = use_key
        self._cache = cache
        self._declared = declared

    def __call__(self) -> None:
        try:
            # The options of the mount are fixed at its start.
            wanted = replace(self._read(), options=self._settings.options, allow_other=self._settings.allow_other)
            if wanted.key is None:
                raise SettingError("there is no API key any more")
            changed = [one.name for one in fields(Settings) if self._differs(one.name, wanted)]
            self._apply(wanted, changed)
        except CambfsError as error:
            _log.error("settings not read again, nothing changed: %s", error)
        except Exception:
            _log.exception("unexpected error while reading the settings again")

    def _differs(self, name: str, wanted: Settings) -> bool:
        return bool(getattr(wanted, name) != getattr(self._settings, name))

    def _apply(self, wanted: Settings, changed: list[str]) -> None:
        if {"runs", "runs_file"} & {*changed}:
            self._declared.declare(wanted.runs, wanted.runs_file)  # the only one that can fail
        if "key" in changed and wanted.key is not None:
            self._use_key(wanted.key)
        if "cache_size" in changed:
            self._cache.set_limit(wanted.cache_size)
        now, later = [name for name in changed if name in _CAN_CHANGE], [*filter(_is_for_later, changed)]
        self._settings = replace(self._settings, **{name: getattr(wanted, name) for name in now})
        parts = [f"changed: {', '.join(now)}"] if now else []
        parts += [f"from the next mount on: {', '.join(later)}"] if later else []
        logs.set_level("info")  # logged at any level, old or new
        _log.info("settings read again; %s", "; ".join(parts) or "nothing has changed")
        logs.set_level(wanted.log_level)


def _is_for_later(name: str) -> bool:
    return name not in _CAN_CHANGE
