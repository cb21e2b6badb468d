"""What the shared tier needs from an engine: a place in memory that many machines reach.

An engine keeps three things for each run. The *log* is a flat sequence of bytes that only grows. The *facts* are one
short record. The *lease* says which machine writes: it is held under a token, and runs out by itself. To an engine all
of them are opaque bytes. It may lose any of them at any time, and others can write to it, so it proves nothing.

A log is held in strings of at most STRING_BYTES, so that an engine which evicts loses few, large pieces. A log that has
lost a piece other than its last has no length: nothing can be appended to it, and it cannot be finished. Logs that are
not finished vanish UNFINISHED_S after their last append, so that a machine that died leaves nothing.

Threads: any number call an engine at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cambfs.errors import CambfsError
from cambfs.names import RunId

# How long a machine may be silent before another one takes over.
LEASE_S = 3.0
# No call takes longer before it raises EngineDown.
PATIENCE_S = 0.5
STRING_BYTES = 16 << 20
# The longest log is a GiB. Its names are a fixed set, so one command removes all, and nothing can be left over.
MAX_STRINGS = 64
UNFINISHED_S = 300.0


class EngineDown(CambfsError):
    """The engine did not do what it was asked for, within PATIENCE_S. Whether it was done is not known."""

    temporary = True


class EngineFull(EngineDown):
    """It takes nothing new, because no memory is left or this user may not write. Nothing was changed. Other calls may
    succeed. The text says why, and what to do there."""


class EngineClosed(EngineDown):
    """This program does not use it any more."""


class RunMoves(EngineDown):
    """A cluster is just moving what it has of this run to another node. Calls for other runs may succeed."""


@dataclass(frozen=True, slots=True)
class Page:
    """`data` is a part of a log; `facts` is None when there are none; `is_held`: a machine holds the lease. The lease
    is read before the facts, and the facts before the data: if there is neither a lease nor facts, no machine is
    writing. Only while a cluster moves the run, one of them may be read later than the next: look again before new
    facts are taken to be those of the data."""

    data: bytes
    facts: bytes | None
    is_held: bool


@dataclass(frozen=True, slots=True)
class EngineState:
    """An engine as `status` and `doctor` show it. `address` has no password. `version` and `policy` are "" and the
    bytes None when they are not known; `max_bytes` is 0 when there is no limit. `problem` is a line that says what is
    wrong, or ""; `is_down` when no call succeeds."""

    address: str
    version: str = ""
    used_bytes: int | None = None
    max_bytes: int | None = None
    policy: str = ""
    problem: str = ""
    is_down: bool = False


class Engine(Protocol):
    """Every method but `state` and `close` raises EngineDown within PATIENCE_S, and then for some seconds at once,
    except after an EngineFull or a RunMoves. Nothing is retried: after EngineDown it is not known whether the call
    has changed anything."""

    def facts(self, run_ids: Sequence[RunId]) -> dict[RunId, bytes]:
        """The facts of those runs that have some. One round trip for up to 256 runs."""

    def lease(self, run_id: RunId, token: bytes) -> bool:
        """Takes the lease for LEASE_S if it is free, and returns whether it was. What does not run out so soon is no
        lease. Choose a new token each time. Raises EngineFull."""

    def append(self, run_id: RunId, token: bytes, offset: int, data: bytes) -> bool:
        """Appends if the token holds the lease and the log has exactly `offset` bytes, and renews the lease. If not,
        nothing is changed and False is returned; so a repetition is harmless. Offset 0 removes an older log first, and
        leaves its facts. Empty data renews the lease. Raises EngineFull.

        Much data may take several such steps, each within PATIENCE_S. If one of them fails, those before it remain."""

    def finish(self, run_id: RunId, token: bytes, facts: bytes) -> bool:
        """Writes the facts and ends the lease, if the token holds it and the log is there without a gap. The log then
        stays until it is evicted. If not, nothing is changed and False is returned. Raises EngineFull."""

    def tell(self, run_id: RunId, token: bytes, facts: bytes) -> bool:
        """Writes facts before the log is finished, if the token holds the lease; they vanish like the log. If not,
        nothing is changed and False is returned. Raises EngineFull."""

    def release(self, run_id: RunId, token: bytes) -> None:
        """Ends the lease if it is still this token's. The log stays for the next machine."""

    def read(self, run_id: RunId, offset: int, most_bytes: int) -> Page:
        """At most `most_bytes` (above 0) of the log from `offset` on, perhaps fewer; b"" when there are none. One round
        trip."""

    def drop(self, run_id: RunId) -> None:
        """Removes the log and the facts. The lease stays: its machine notices at its next append."""

    def state(self) -> EngineState:
        """Makes one request, none while the engine is known to be down. Does not raise."""

    def close(self) -> None:
        """Closes the connections. Calls that wait raise EngineDown soon; later ones raise it at once. Both are
        EngineClosed."""
