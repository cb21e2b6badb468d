"""`cambfs.shared.portions`: no call takes so long that the engine seems to be down."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from cambfs.shared.engine import PATIENCE_S
from cambfs.shared.portions import FEWEST_BYTES, GOAL_S, MOST_BYTES, Portion, Portions

MIB = 1 << 20
ROUND_TRIP_S = 0.002


class Line:
    """A link that so many calls use at the same time. They begin together, and share its rate."""

    def __init__(self, bytes_per_s: float) -> None:
        self.now_s = 0.0
        self._bytes_per_s = bytes_per_s
        self.portions = Portions(lambda: self.now_s)

    def carry(self, calls: int, carried: int | None = None) -> float:
        """How long the last of them takes. They carry as much as they may, or `carried` bytes each."""
        begun_at = self.now_s
        with ExitStack() as stack:
            begun: list[Portion] = []
            for _ in range(calls):
                begun.append(stack.enter_context(self.portions.portion(MIB)))
            for portion in begun:
                portion.carried = portion.bytes if carried is None else carried
                self.now_s += portion.carried / self._bytes_per_s
            self.now_s += ROUND_TRIP_S
        return self.now_s - begun_at

    def next_bytes(self) -> int:
        with self.portions.portion(MOST_BYTES) as portion:
            portion.carried = 0
            return portion.bytes


@pytest.mark.parametrize("mbit_per_s", [30, 50, 100, 1000])
def test_readers_that_come_one_after_the_other_and_together_wait_for_less_than_their_patience(mbit_per_s: int) -> None:
    line = Line(mbit_per_s * 1e6 / 8)
    took_s = [line.carry(calls) for calls in (8, 8, 8, 1, 1, 1, 1, 1, 1, 8, 8, 2, 4, 8)]
    assert max(took_s) < PATIENCE_S * 0.7


def test_a_fast_link_carries_all_after_a_few_calls() -> None:
    line = Line(1e9)
    for _ in range(5):
        line.carry(1)
    assert line.next_bytes() >= MIB
    for _ in range(20):
        line.carry(8)
    assert line.next_bytes() == MOST_BYTES // 2


def test_calls_that_carry_little_show_nothing() -> None:
    line = Line(1e9)
    for _ in range(5):
        line.carry(1, carried=0)
    assert line.next_bytes() == FEWEST_BYTES


def test_after_slow_calls_and_failures_it_carries_less() -> None:
    line = Line(1e9)
    for _ in range(5):
        line.carry(1)
    before = line.next_bytes()
    with pytest.raises(OSError, match="gone"), line.portions.portion(MIB):
        raise OSError("gone")
    assert line.next_bytes() == before // 4
    with line.portions.portion(MIB) as portion:
        portion.carried = 0
        line.now_s += 5 * GOAL_S
    assert line.next_bytes() == max(before // 16, FEWEST_BYTES)
