"""A snapshot of a mount's state, made on demand.

Makes no request. Threads: any. It has no lock, and holds none while a file is written: the parts of a snapshot are
taken one by one, each right at its own moment. `files` shows it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from cambfs import __version__
from cambfs.cache.usage import CacheUsage
from cambfs.model import Progress
from cambfs.runs.library import Library
from cambfs.shared.counts import Usage
from cambfs.status.counters import Counters, Counts
from cambfs.transfers.ahead_counts import ReadAheadCounts

_ERRORS_SHOWN = 10


class OriginState(Protocol):
    """Whether an origin is considered down, why, and for how many seconds still."""

    @property
    def origin(self) -> str: ...

    @property
    def is_open(self) -> bool: ...

    @property
    def reason(self) -> str: ...

    @property
    def seconds_left(self) -> float: ...


@dataclass(frozen=True)
class Snapshot:
    """`started_s` is since the epoch. `shared` is None without a shared cache. `errors` are as `/.cambfs/errors` has
    them, the last at the end."""

    version: str
    pid: int
    mount_point: str
    base_url: str
    started_s: float
    uptime_s: float
    cache: CacheUsage
    transfers: Sequence[Progress]
    tasks_awaited: int
    counts: Counts
    read_ahead: ReadAheadCounts
    shared: Usage | None
    origins: Sequence[OriginState]
    runs_file: Sequence[str]
    errors: Sequence[Mapping[str, str]]

    def as_json(self) -> bytes:
        """As a JSON object. Sizes are in bytes, times in seconds, `started` and `since` are UTC."""
        requests: dict[str, dict[str, int]] = {}
        for (kind, status), count in sorted(self.counts.requests.items()):
            requests.setdefault(kind, {})[status] = count
        shown: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("version", "pid", "mount_point", "base_url")},
            "started": _utc(self.started_s),
            "uptime_s": round(self.uptime_s, 3),
            "cache": asdict(self.cache),
            "transfers": [asdict(one) for one in self.transfers],
            "tasks_awaited": self.tasks_awaited,
            "requests": requests,
            "received_bytes": self.counts.received_bytes,
            "retries": self.counts.retries,
            "read_ahead": asdict(self.read_ahead),
            "shared": None if self.shared is None else _shared(self.shared),
            "origins": [_origin(one) for one in self.origins],
            "runs_file": list(self.runs_file),
            "errors": list(self.errors),
        }
        return (json.dumps(shown, indent=2) + "\n").encode()


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _shared(usage: Usage) -> dict[str, Any]:
    shown = {name: value for name, value in asdict(usage).items() if name not in ("since_s", "refused_s")}
    refused_ago_s = _ago_s(usage.refused_s) if usage.refusal else None
    return {**shown, "since": _utc(usage.since_s), "for_s": _ago_s(usage.since_s), "refused_ago_s": refused_ago_s}


def _ago_s(seconds: float) -> float:
    return round(max(time.time() - seconds, 0.0), 3)


def _origin(state: OriginState) -> dict[str, Any]:
    left_s = round(state.seconds_left, 3)
    return {"origin": state.origin, "is_open": state.is_open, "reason": state.reason, "seconds_left": left_s}


class Monitor:
    """`errors` returns the last failures, masked; `origins` the states of the origins; `tasks_awaited` the number of
    tasks that have waiters; `runs_file` the problems of the runs file; `shared` the figures of the shared cache."""

    def __init__(
        self,
        library: Library,
        counters: Counters,
        mount_point: Path,
        base_url: str,
        errors: Callable[[], Sequence[Mapping[str, str]]],
        origins: Callable[[], Sequence[OriginState]] = tuple,
        tasks_awaited: Callable[[], int] = lambda: 0,
        runs_file: Callable[[], Sequence[str]] = tuple,
        shared: Callable[[], Usage | None] = lambda: None,
    ) -> None:
        self._library = library
        self._counters = counters
        self._mount_point = mount_point
        self._base_url = base_url
        self._errors = errors
        self._origins = origins
        self._tasks_awaited = tasks_awaited
        self._runs_file = runs_file
        self._shared = shared
        self._started_s = time.time()
        self._began_s = time.monotonic()

    def snapshot(self) -> Snapshot:
        return Snapshot(
            version=__version__,
            pid=os.getpid(),
            mount_point=os.fsencode(self._mount_point).decode(errors="replace"),
            base_url=self._base_url,
            started_s=self._started_s,
            uptime_s=time.monotonic() - self._began_s,
            cache=self._library.cache_usage(),
            transfers=self._library.progress(),
            tasks_awaited=self._tasks_awaited(),
            counts=self._counters.counts(),
            read_ahead=self._library.read_ahead_counts(),
            shared=self._shared(),
            origins=self._origins(),
            runs_file=self._runs_file()[:_ERRORS_SHOWN],
            errors=self._errors()[-_ERRORS_SHOWN:],
        )

    def known(self) -> Sequence[int]:
        """The runs that a listing shows."""
        return self._library.listed()
