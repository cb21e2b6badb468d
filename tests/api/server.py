"""The API of `cambfs.demo` with a log of its requests, and faults. Everything here may be used from any thread."""

from __future__ import annotations

from functools import cached_property
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from cambfs.demo import server as demo
from tests.api.faults import Fault, Faults, Kind
from tests.api.log import Record
from tests.api.misbehaving import Misbehaving


class Server(demo.Server):
    @cached_property
    def _misbehaving(self) -> Misbehaving:
        return Misbehaving(self.key)

    def application(self) -> ASGIApp:
        api, storage = (urlsplit(url).port or 0 for url in (self.base_url, self.storage_url))
        return self._misbehaving.wrap(super().application(), {api: "api", storage: "storage"})

    @property
    def requests(self) -> tuple[Record, ...]:
        """Every request since the start or `forget`, oldest first, also those under way."""
        return self._misbehaving.log.snapshot()

    def count(self, kind: Kind, run_id: int | None = None) -> int:
        """How many requests of a kind there were, for one run or for all, refused ones included."""
        return sum(record.kind == kind and run_id in (None, record.run_id) for record in self.requests)

    def forget(self) -> None:
        """Empties the log."""
        self._misbehaving.log.clear()

    @property
    def faults(self) -> Faults:
        return self._misbehaving.faults

    def fail(self, fault: Fault) -> None:
        """Lets a coming request go wrong."""
        self.faults.add(fault)

    def heal(self) -> None:
        """Removes the faults that have not happened yet, and releases stalled responses."""
        self.faults.clear()
        self.release()

    @property
    def stalled(self) -> int:
        """How many responses have stalled and are still connected."""
        return self._misbehaving.stalled.count

    def release(self) -> None:
        """Lets the responses go on that have stalled by now."""
        self._misbehaving.stalled.release()
