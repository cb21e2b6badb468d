"""`cambfs.model`: what goes into the table comes out of it."""

from __future__ import annotations

import pytest

from cambfs.model import Facts, FactsTable
from cambfs.names import RunId

RUN, OTHER = RunId(1), RunId(2)


@pytest.mark.parametrize("size", [0, 1, 5 << 30, 2**63 - 1])
@pytest.mark.parametrize("mtime_ns", [0, 1, -1, 1_700_000_000_123_456_789, -(2**63), 2**70, -(2**70)])
def test_facts_come_out_as_they_went_in(size: int, mtime_ns: int) -> None:
    table = FactsTable()
    table[RUN] = Facts(size, mtime_ns)

    assert table.get(RUN) == Facts(size, mtime_ns)
    assert table.total_bytes() == size


def test_what_was_said_and_is_wrong_is_not_what_was_never_said() -> None:
    table = FactsTable()
    table[RUN] = Facts(7, 1)
    table[OTHER] = Facts(5, 1)
    table[RUN] = None

    assert RUN in table
    assert RunId(3) not in table
    assert table.get(RUN) is table.get(RunId(3)) is None
    assert list(table.runs()) == [OTHER]
    assert table.total_bytes() == 5
