"""What every engine does: the fake, Redis and Valkey."""

from __future__ import annotations

from math import inf

import pytest

from cambfs.names import RunId
from cambfs.shared.engine import MAX_STRINGS, UNFINISHED_S, Engine, Page
from tests.shared.conftest import STRING_BYTES, Place

RUN, OTHER = RunId(5), RunId(6)
A, B = b"token \x00 of A", b"token of B"
# Three strings: 8, 8 and 4 bytes.
LOG = bytes(range(250, 256)) + b"\x00\r\n and more \x00"


@pytest.fixture
def engine(place: Place) -> Engine:
    return place.machine()


@pytest.fixture
def leader(engine: Engine) -> Engine:
    """It holds the lease under the token A."""
    assert engine.lease(RUN, A)
    return engine


@pytest.fixture
def written(leader: Engine) -> Engine:
    """The log has LOG, and is not finished."""
    assert leader.append(RUN, A, 0, LOG)
    return leader


def log_of(engine: Engine, run_id: RunId = RUN) -> bytes:
    log = b""
    while data := engine.read(run_id, len(log), 5).data:
        log += data
    return log


def test_a_lease_is_one_machines(place: Place, leader: Engine) -> None:
    other = place.machine()

    assert not other.lease(RUN, B)
    assert not leader.lease(RUN, A)
    assert other.lease(OTHER, B)
    assert other.read(RUN, 0, 1).is_held


def test_a_lease_ends_by_itself(place: Place, leader: Engine) -> None:
    place.lapse(RUN)

    assert not leader.append(RUN, A, 0, LOG)
    assert not leader.read(RUN, 0, 1).is_held
    assert place.machine().lease(RUN, B)


def test_a_lease_that_does_not_end_is_none(place: Place, leader: Engine) -> None:
    place.spoil_lease(RUN)

    assert not leader.read(RUN, 0, 1).is_held
    assert not leader.append(RUN, A, 0, LOG)
    other = place.machine()
    assert other.lease(RUN, B)
    assert other.append(RUN, B, 0, LOG)
    assert not leader.lease(RUN, A)


def test_only_its_machine_gives_a_lease_back(leader: Engine) -> None:
    leader.release(RUN, B)
    assert not leader.lease(RUN, B)

    leader.release(RUN, A)
    assert leader.lease(RUN, B)


def test_the_log_stays_for_the_next_machine(place: Place, written: Engine) -> None:
    written.release(RUN, A)

    assert place.machine().lease(RUN, B)
    assert place.machine().append(RUN, B, len(LOG), b"more")
    assert log_of(written) == LOG + b"more"


@pytest.mark.parametrize("data", [b"", b"x"])
def test_an_append_renews_the_lease(place: Place, written: Engine, data: bytes) -> None:
    half_s = place.halve(RUN)

    assert written.append(RUN, A, len(LOG), data)

    assert place.seconds_left(RUN, "l") > half_s
    assert log_of(written) == LOG + data


@pytest.mark.parametrize("size", [1, 3, STRING_BYTES, 2 * STRING_BYTES + 1, 5 * STRING_BYTES])
def test_appended_pieces_are_one_log(leader: Engine, size: int) -> None:
    log = bytes(index % 251 for index in range(6 * STRING_BYTES + 3))

    for offset in range(0, len(log), size):
        assert leader.append(RUN, A, offset, log[offset : offset + size])
    assert log_of(leader) == log


@pytest.mark.parametrize("offset", [1, len(LOG) - 1, len(LOG) + 1, 2 * STRING_BYTES, 3 * STRING_BYTES])
def test_nothing_is_appended_elsewhere(written: Engine, offset: int) -> None:
    assert not written.append(RUN, A, offset, b"x")
    assert log_of(written) == LOG


def test_nothing_is_appended_twice(written: Engine) -> None:
    assert written.append(RUN, A, len(LOG), b"more")

    assert not written.append(RUN, A, len(LOG), b"more")
    assert log_of(written) == LOG + b"more"


def test_nothing_is_appended_without_the_lease(written: Engine) -> None:
    assert not written.append(RUN, B, len(LOG), b"x")
    assert not written.append(RUN, B, 0, b"x")
    assert log_of(written) == LOG


def test_a_new_log_removes_all_of_the_old_one(written: Engine) -> None:
    assert written.append(RUN, A, 0, b"new")
    assert log_of(written) == b"new"

    assert written.append(RUN, A, 3, b"x" * STRING_BYTES)
    assert log_of(written) == b"new" + b"x" * STRING_BYTES


def test_a_log_has_a_limit(leader: Engine) -> None:
    most = STRING_BYTES * MAX_STRINGS
    assert leader.append(RUN, A, 0, bytes(most - 1))

    assert not leader.append(RUN, A, most - 1, b"xx")
    assert leader.append(RUN, A, most - 1, b"x")
    assert not leader.append(RUN, A, most, b"x")
    assert leader.finish(RUN, A, b"facts")
    assert leader.read(RUN, most - 1, 2).data == b"x"


@pytest.mark.parametrize("lost", [("s0",), ("s1",), ("s0", "s1")])
def test_a_log_with_a_gap_is_at_its_end(place: Place, written: Engine, lost: tuple[str, ...]) -> None:
    place.evict(RUN, *lost)

    for offset in range(1, 3 * STRING_BYTES):
        assert not written.append(RUN, A, offset, b"xx")
    assert not written.finish(RUN, A, b"facts")
    assert written.read(RUN, 2 * STRING_BYTES, 9).data == LOG[2 * STRING_BYTES :]
    assert written.append(RUN, A, 0, b"new")
    assert log_of(written) == b"new"


def test_a_log_that_lost_its_end_is_shorter(place: Place, written: Engine) -> None:
    place.evict(RUN, "s2")

    assert not written.append(RUN, A, len(LOG), b"x")
    assert log_of(written) == LOG[:16]
    assert written.append(RUN, A, 16, LOG[16:])
    assert log_of(written) == LOG


def test_a_log_that_was_evicted_cannot_be_finished(place: Place, written: Engine) -> None:
    place.evict(RUN, "s0", "s1", "s2")

    assert not written.finish(RUN, A, b"facts")
    assert not written.append(RUN, A, len(LOG), b"x")
    assert written.facts([RUN]) == {}


def test_a_finished_log_stays(place: Place, written: Engine) -> None:
    assert written.finish(RUN, A, b"facts\x00")

    assert written.read(RUN, 16, 9) == Page(LOG[16:], b"facts\x00", is_held=False)
    assert [place.seconds_left(RUN, name) for name in ("s0", "s1", "s2", "f")] == [inf] * 4
    assert not written.append(RUN, A, len(LOG), b"x")


def test_only_the_leader_finishes_and_tells(written: Engine) -> None:
    assert not written.finish(RUN, B, b"facts")
    assert not written.tell(RUN, B, b"facts")
    assert written.read(RUN, 0, 1) == Page(LOG[:1], None, is_held=True)


def test_an_unfinished_log_vanishes(place: Place, written: Engine) -> None:
    assert written.tell(RUN, A, b"early")

    for name in ("s0", "s1", "s2", "f"):
        assert 0 < place.seconds_left(RUN, name) <= UNFINISHED_S
    assert written.read(RUN, 0, 1) == Page(LOG[:1], b"early", is_held=True)


def test_later_facts_replace_earlier_ones(place: Place, written: Engine) -> None:
    assert written.tell(RUN, A, b"early")
    assert written.finish(RUN, A, b"whole")

    assert written.facts([RUN]) == {RUN: b"whole"}
    assert place.seconds_left(RUN, "f") == inf


def test_facts_outlive_the_log(place: Place, written: Engine) -> None:
    assert written.finish(RUN, A, b"facts")
    place.evict(RUN, "s0", "s1", "s2")

    assert written.read(RUN, 0, 1) == Page(b"", b"facts", is_held=False)
    assert written.lease(RUN, B)
    assert written.append(RUN, B, 0, b"new")
    assert written.read(RUN, 0, 9) == Page(b"new", b"facts", is_held=True)


def test_facts_come_in_bulk(engine: Engine) -> None:
    runs = [RunId(number) for number in range(1, 257)]
    for run_id in runs[::3]:
        assert engine.lease(run_id, A)
        assert engine.tell(run_id, A, b"%d" % run_id)

    assert engine.facts(runs) == {run_id: b"%d" % run_id for run_id in runs[::3]}
    assert engine.facts([]) == {}


def test_a_dropped_run_leaves_the_lease(place: Place, written: Engine) -> None:
    assert written.tell(RUN, A, b"facts")
    written.drop(RUN)

    assert written.read(RUN, 0, 99) == Page(b"", None, is_held=True)
    assert [place.seconds_left(RUN, name) for name in ("s0", "s1", "s2", "f")] == [0] * 4
    assert not written.append(RUN, A, len(LOG), b"x")
    assert written.append(RUN, A, 0, b"new")


def test_accounts_do_not_meet(place: Place, written: Engine) -> None:
    assert written.finish(RUN, A, b"facts")
    stranger = place.machine("b")

    assert stranger.read(RUN, 0, 99) == Page(b"", None, is_held=False)
    assert stranger.lease(RUN, A)
    stranger.drop(RUN)
    assert log_of(written) == LOG


def test_a_state_has_a_version(engine: Engine) -> None:
    state = engine.state()

    assert not state.is_down
    assert state.version.split()[0] in ("fake", "redis", "valkey")
    assert state.used_bytes is not None
