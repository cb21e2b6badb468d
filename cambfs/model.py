"""What is known of results without their bytes: of one, and of many. Values, and a table that its owner guards; no
threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cambfs.names import RunId

_SIZE_BITS = 63


@dataclass(frozen=True, slots=True)
class Facts:
    """`size` in bytes, exact, below 2^63; `mtime_ns` since the epoch, the same for as long as anybody remembers it."""

    size: int
    mtime_ns: int


class FactsTable:
    """Run → facts, or None where what was said is known to be wrong. Of each it keeps one whole number, which takes
    about half the memory of the object: a large cache has 100,000."""

    def __init__(self) -> None:
        self._packed: dict[RunId, int | None] = {}

    def __contains__(self, run_id: RunId) -> bool:
        """Whether anything was ever said."""
        return run_id in self._packed

    def get(self, run_id: RunId) -> Facts | None:
        packed = self._packed.get(run_id)
        return None if packed is None else Facts(_size(packed), packed >> _SIZE_BITS)

    def __setitem__(self, run_id: RunId, facts: Facts | None) -> None:
        self._packed[run_id] = None if facts is None else facts.mtime_ns << _SIZE_BITS | facts.size

    def runs(self) -> Iterable[RunId]:
        """Those whose facts are known; gone through before the table changes."""
        return (run_id for run_id, packed in self._packed.items() if packed is not None)

    def total_bytes(self) -> int:
        """The sizes that are known, added up."""
        return sum(_size(packed) for packed in self._packed.values() if packed is not None)


def _size(packed: int) -> int:
    return packed & (1 << _SIZE_BITS) - 1
