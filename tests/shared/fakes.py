"""An engine in memory, which fails as a test wants.

A `FakeServer` has the memory, and one `FakeEngine` each machine that reaches it, so that a test can cut off one.
Threads: any; `FakeServer.lock` guards all that is stored. Faults are set by the test, and read without it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock

from cambfs.names import RunId
from cambfs.shared.engine import (
    LEASE_S,
    MAX_STRINGS,
    STRING_BYTES,
    UNFINISHED_S,
    EngineClosed,
    EngineDown,
    EngineFull,
    EngineState,
    Page,
)

_Key = tuple[str, RunId, str]  # account, run, name of one value
_FACTS, _LEASE = "f", "l"
_FROZEN_S = 0.25


@dataclass
class _Value:
    data: bytes
    expires_at: float = float("inf")


@dataclass
class FakeServer:
    """`is_down`: nothing is connected. `is_frozen`: every call takes a while, and fails. `is_full`: what needs memory
    fails. `calls` counts the calls that reached it, by method."""

    clock: Callable[[], float] = time.monotonic
    is_down: bool = False
    is_frozen: bool = False
    is_full: bool = False
    calls: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    _values: dict[_Key, _Value] = field(default_factory=dict)

    def restart(self) -> None:
        """It has lost everything."""
        with self.lock:
            self._values.clear()

    def evict(self, run_id: RunId, *names: str) -> None:
        """Removes what is stored of the run, of every account: `s0`, `s1` …, `f`, `l`; without names all but the
        lease."""
        with self.lock:
            for key in [*self._values]:
                if key[1] == run_id and (key[2] in names if names else key[2] != _LEASE):
                    del self._values[key]

    def poison(self, seed: int = 0) -> None:
        """Replaces all logs and facts by random bytes of the same length."""
        chance = random.Random(seed)
        with self.lock:
            for key, value in self._values.items():
                if key[2] != _LEASE:
                    value.data = chance.randbytes(len(value.data))

    def damage(self, run_id: RunId, offset: int) -> None:
        """Changes one byte of a run's first string."""
        with self.lock:
            for key, value in self._values.items():
                if key[1:] == (run_id, "s0"):
                    data = bytearray(value.data)
                    data[offset] ^= 1
                    value.data = bytes(data)

    # The rest is for FakeEngine, which holds the lock.

    def get(self, key: _Key) -> bytes | None:
        value = self._values.get(key)
        if value is None or self.clock() >= value.expires_at:
            self._values.pop(key, None)
            return None
        return value.data

    def runs_out(self, key: _Key) -> bool:
        """Whether it is there, and ends by itself."""
        return self.get(key) is not None and self._values[key].expires_at < float("inf")

    def put(self, key: _Key, data: bytes, for_s: float = float("inf")) -> None:
        self._values[key] = _Value(data, self.clock() + for_s)

    def remove(self, key: _Key) -> None:
        self._values.pop(key, None)


class FakeEngine:
    """One machine's way to the server. `is_cut_off` concerns this machine only."""

    def __init__(
        self, server: FakeServer | None = None, account: str = "account", string_bytes: int = STRING_BYTES
    ) -> None:
        self.server = server or FakeServer()
        self.is_cut_off = False
        self._account = account
        self._string_bytes = string_bytes
        self._closed = Event()

    def facts(self, run_ids: Sequence[RunId]) -> dict[RunId, bytes]:
        with self._call("facts"):
            found = {run_id: self._get(run_id, _FACTS) for run_id in run_ids}
        return {run_id: facts for run_id, facts in found.items() if facts is not None}

    def lease(self, run_id: RunId, token: bytes) -> bool:
        with self._call("lease", needs_memory=True):
            if self._is_held(run_id):
                return False
            self._put(run_id, _LEASE, token, LEASE_S)
            return True

    def append(self, run_id: RunId, token: bytes, offset: int, data: bytes) -> bool:
        with self._call("append", needs_memory=True):
            if self._get(run_id, _LEASE) != token or (offset and self._length(run_id) != offset):
                return False
            if offset + len(data) > MAX_STRINGS * self._string_bytes:
                return False
            log = (self._log(run_id) if offset else b"") + data
            self._remove_log(run_id)
            for at in range(0, len(log), self._string_bytes):
                name = f"s{at // self._string_bytes}"
                self._put(run_id, name, log[at : at + self._string_bytes], UNFINISHED_S)
            self._put(run_id, _LEASE, token, LEASE_S)
            return True

    def finish(self, run_id: RunId, token: bytes, facts: bytes) -> bool:
        with self._call("finish", needs_memory=True):
            if self._get(run_id, _LEASE) != token or not self._length(run_id):
                return False
            for name, data in [*self._strings(run_id), (_FACTS, facts)]:
                self._put(run_id, name, data)
            self.server.remove(self._key(run_id, _LEASE))
            return True

    def tell(self, run_id: RunId, token: bytes, facts: bytes) -> bool:
        with self._call("tell", needs_memory=True):
            if self._get(run_id, _LEASE) != token:
                return False
            self._put(run_id, _FACTS, facts, UNFINISHED_S)
            return True

    def release(self, run_id: RunId, token: bytes) -> None:
        with self._call("release"):
            if self._get(run_id, _LEASE) == token:
                self.server.remove(self._key(run_id, _LEASE))

    def read(self, run_id: RunId, offset: int, most_bytes: int) -> Page:
        with self._call("read"):
            string = self._get(run_id, f"s{offset // self._string_bytes}") or b""
            at = offset % self._string_bytes
            data = string[at : at + most_bytes]
            return Page(data, self._get(run_id, _FACTS), self._is_held(run_id))

    def drop(self, run_id: RunId) -> None:
        with self._call("drop"):
            self._remove_log(run_id)
            self.server.remove(self._key(run_id, _FACTS))

    def state(self) -> EngineState:
        try:
            with self._call("state"):
                return EngineState("fake://", "fake 1", 0, 0, "allkeys-lru")
        except EngineDown as error:
            return EngineState("fake://", problem=str(error), is_down=True)

    def close(self) -> None:
        self._closed.set()

    @contextmanager
    def _call(self, method: str, *, needs_memory: bool = False) -> Iterator[None]:
        """Held around each call: the faults, then the lock."""
        if self._closed.is_set():
            raise EngineClosed("fake://: not used any more")
        if self.is_cut_off or self.server.is_down:
            raise EngineDown("fake://: connection refused")
        if self.server.is_frozen:
            self._closed.wait(_FROZEN_S)
            raise EngineDown("fake://: no response")
        with self.server.lock:
            self.server.calls[method] = self.server.calls.get(method, 0) + 1
            if needs_memory and self.server.is_full:
                raise EngineFull("fake://: out of memory")
            yield

    def _key(self, run_id: RunId, name: str) -> _Key:
        return self._account, run_id, name

    def _get(self, run_id: RunId, name: str) -> bytes | None:
        return self.server.get(self._key(run_id, name))

    def _is_held(self, run_id: RunId) -> bool:
        return self.server.runs_out(self._key(run_id, _LEASE))

    def _put(self, run_id: RunId, name: str, data: bytes, for_s: float = float("inf")) -> None:
        self.server.put(self._key(run_id, name), data, for_s)

    def _strings(self, run_id: RunId) -> list[tuple[str, bytes]]:
        names = [f"s{number}" for number in range(MAX_STRINGS)]
        return [(name, data) for name in names if (data := self._get(run_id, name)) is not None]

    def _log(self, run_id: RunId) -> bytes:
        return b"".join(data for _, data in self._strings(run_id))

    def _length(self, run_id: RunId) -> int | None:
        """Bytes of the log; None when a piece is missing before its last."""
        strings = self._strings(run_id)
        is_gapless = all(name == f"s{number}" for number, (name, _) in enumerate(strings))
        is_filled = all(len(data) == self._string_bytes for _, data in strings[:-1])
        return len(self._log(run_id)) if is_gapless and is_filled else None

    def _remove_log(self, run_id: RunId) -> None:
        for name, _ in self._strings(run_id):
            self.server.remove(self._key(run_id, name))
