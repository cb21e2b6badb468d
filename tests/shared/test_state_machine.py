"""Machines that take leases, write, crash and take over, on an engine that evicts: in any order, against a model."""

from __future__ import annotations

from itertools import count

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cambfs.names import RunId
from tests.shared.conftest import STRING_BYTES, FakePlace, Place

RUN = RunId(5)
machines = st.sampled_from([0, 1])
names = st.sampled_from(["s0", "s1", "s2", "s3", "f"])
pieces = st.binary(max_size=2 * STRING_BYTES)


class Machines(RuleBasedStateMachine):
    """`strings` are those of the log by number, `holder` is the token of the lease, `tokens` what each machine believes
    to hold."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.engines = [place.machine(), place.machine()]
        self.tokens: list[bytes | None] = [None, None]
        self.new_tokens = count()
        self.strings: dict[int, bytes] = {}
        self.facts: bytes | None = None
        self.holder: bytes | None = None
        place.evict(RUN, *(f"s{number}" for number in range(64)), "f", "l")

    def length(self) -> int | None:
        """Of the log; None when it has a gap."""
        log = b"".join(data for _, data in sorted(self.strings.items()))
        return len(log) if self.strings == split(log) else None

    @rule(machine=machines)
    def lease(self, machine: int) -> None:
        token = b"%d" % next(self.new_tokens)
        took = self.engines[machine].lease(RUN, token)

        assert took == (self.holder is None)
        if took:
            self.tokens[machine] = self.holder = token

    @rule(machine=machines)
    def crash(self, machine: int) -> None:
        self.tokens[machine] = None

    @precondition(lambda self: self.holder is not None)
    @rule()
    def lapse(self) -> None:
        self.place.lapse(RUN)
        self.holder = None

    @rule(machine=machines)
    def release(self, machine: int) -> None:
        if (token := self.tokens[machine]) is not None:
            self.engines[machine].release(RUN, token)
            self.holder = None if self.holder == token else self.holder
            self.tokens[machine] = None

    @rule(machine=machines, data=pieces, error=st.sampled_from([0, 0, 0, 1, -1, STRING_BYTES]))
    def append(self, machine: int, data: bytes, error: int) -> None:
        """At the end, or elsewhere by mistake."""
        if (token := self.tokens[machine]) is None:
            return
        length = self.length()
        offset = max((sum(map(len, self.strings.values())) if length is None else length) + error, 0)
        did = self.engines[machine].append(RUN, token, offset, data)

        assert did == (token == self.holder and (offset == 0 or offset == length))
        if did:
            log = b"".join(data for _, data in sorted(self.strings.items())) if offset else b""
            self.strings = split(log + data)

    @rule(machine=machines, data=pieces)
    def begin_anew(self, machine: int, data: bytes) -> None:
        if (token := self.tokens[machine]) is not None:
            did = self.engines[machine].append(RUN, token, 0, data)

            assert did == (token == self.holder)
            if did:
                self.strings = split(data)

    @rule(machine=machines, facts=pieces)
    def tell(self, machine: int, facts: bytes) -> None:
        if (token := self.tokens[machine]) is not None:
            did = self.engines[machine].tell(RUN, token, facts)

            assert did == (token == self.holder)
            if did:
                self.facts = facts

    @rule(machine=machines, facts=pieces)
    def finish(self, machine: int, facts: bytes) -> None:
        if (token := self.tokens[machine]) is not None:
            did = self.engines[machine].finish(RUN, token, facts)

            assert did == (token == self.holder and bool(self.length()))
            if did:
                self.facts, self.holder = facts, None

    @rule(name=names)
    def evict(self, name: str) -> None:
        self.place.evict(RUN, name)
        if name == "f":
            self.facts = None
        else:
            self.strings.pop(int(name[1:]), None)

    @rule(machine=machines)
    def drop(self, machine: int) -> None:
        self.engines[machine].drop(RUN)
        self.strings, self.facts = {}, None

    @rule(machine=machines, offset=st.integers(0, 40), most=st.integers(1, 20))
    def read(self, machine: int, offset: int, most: int) -> None:
        page = self.engines[machine].read(RUN, offset, most)

        number, start = divmod(offset, STRING_BYTES)
        string = self.strings.get(number, b"")[start:]
        assert page.data == string[:most]

    @invariant()
    def is_as_in_the_model(self) -> None:
        for engine in self.engines:
            page = engine.read(RUN, 0, STRING_BYTES)
            assert page.data == self.strings.get(0, b"")
            assert page.facts == self.facts
            assert page.is_held == (self.holder is not None)
            assert engine.facts([RUN]) == ({} if self.facts is None else {RUN: self.facts})


def split(log: bytes) -> dict[int, bytes]:
    starts = range(0, len(log), STRING_BYTES)
    return {number: log[start : start + STRING_BYTES] for number, start in enumerate(starts)}


def test_machines_in_any_order(place: Place) -> None:
    class Here(Machines):
        def __init__(self) -> None:
            super().__init__(place)

    examples = 150 if isinstance(place, FakePlace) else 15
    settings = hypothesis.settings(max_examples=examples, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Here, settings=settings)
