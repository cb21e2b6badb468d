"""A `cambfs.remote.source.Source` that behaves as a test wants, and counts its requests.

Not HTTP, and no real audio: results are any bytes. Threads: any number ask at once; `_lock` guards the counts and the
plans. What a test wants to hold back waits at a Gate, with a limit, so that no test hangs.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from threading import Condition, Lock

from cambfs.errors import (
    BadResponse,
    BrokenBody,
    LinkError,
    ServerError,
    SignatureExpired,
    TimedOut,
    UnknownRun,
    Unreachable,
)
from cambfs.names import RunId, TaskId
from cambfs.remote.source import SignedUrl, TaskKind, TaskReport
from tests.flac_files import make_flac

# The longest wait in tests with these fakes.
LIMIT_S = 20.0


def some_bytes(length: int, seed: int = 0, head: bytes = b"fLaC") -> bytes:
    """Bytes that differ from place to place, beginning like a FLAC file."""
    return (head + random.Random(seed).randbytes(length))[:length]


@cache
def some_flac(length: int, seed: int = 0, *, counted: bool = True) -> bytes:
    """A real FLAC file; see `make_flac`."""
    return make_flac(length, seed, counted=counted)


class Gate:
    """Where threads wait until the test lets them pass, or until they are not wanted any more."""

    def __init__(self) -> None:
        self._changed = Condition()  # guards the next two
        self._arrived = 0
        self._is_open = False

    @property
    def arrivals(self) -> int:
        return self._arrived

    def wait_for_arrivals(self, count: int = 1) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._arrived >= count, LIMIT_S), "nobody came to the gate"

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def look(self) -> None:
        """Lets those that wait see whether they are still wanted."""
        with self._changed:
            self._changed.notify_all()

    def go_through(self, is_over: Callable[[], bool] = lambda: False) -> None:
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._is_open or is_over(), LIMIT_S):
                raise TimedOut("the test never opened the gate")


class StorageManner(Enum):
    """The storage's behaviour."""

    RANGES = "as S3 does"
    NO_RANGES = "ignores Range, tells the length"
    NO_LENGTH = "ignores Range, does not tell the length"
    UNREACHABLE = "cannot be reached"
    REFUSING = "403 to every signature"
    BUSY = "503 to everybody"


@dataclass
class Result:
    """One run's result, and how the API shows it. `stored` is the storage's object where that is another; with
    `ignores_range` the API says that it gives ranges, and answers from the beginning; with `part_bytes` its ranges have
    no more than that, and do not tell the length of the whole."""

    content: bytes
    has_length: bool = True
    framed: bool = True
    etag: str | None = None
    ranges: bool = False
    ignores_range: bool = False
    content_type: str = "audio/flac"
    modified_s: float | None = 1_700_000_000.0
    stream_tells_time: bool = True
    storage_tells_time: bool = True
    stored: bytes | None = None
    part_bytes: int | None = None


@dataclass(frozen=True)
class Plan:
    """What goes otherwise than usual with one request. `gate`: the response waits there; `stall_at`: the body waits at
    `stall_gate` with that many bytes sent; `break_after`: it breaks off with that many sent, by `break_error`;
    `end_at`: it says of the content up to there that it is all; `content`: it is of another content than the result."""

    error: Exception | None = None
    gate: Gate | None = None
    break_after: int | None = None
    break_error: LinkError | None = None
    end_at: int | None = None
    content: bytes | None = None
    stall_at: int | None = None
    stall_gate: Gate | None = None


AS_USUAL = Plan()


class FakeBody:
    def __init__(
        self, source: FakeSource, key: tuple[str, RunId], content: bytes, start: int, stop: int, plan: Plan
    ) -> None:
        self.start = start
        self.stop: int | None = None
        self.is_stored, self.is_shared = key[0] == "stored", False
        self.total: int | None = len(content)
        self.framed = True
        self.etag: str | None = None
        self.ranges = False
        self.content_type = "audio/flac"
        self.modified_s: float | None = None
        self.is_closed = False
        self._source = source
        self._key = key
        self._content = content[start:stop]
        self._plan = plan
        self._sent = 0

    def read(self, limit: int) -> bytes:
        assert limit > 0, "nothing is asked for"
        self._stall()
        if self.is_closed:
            raise BrokenBody("the body was closed")
        if self._plan.break_after is not None and self._sent >= self._plan.break_after:
            return self._break_off()
        piece = self._content[self._sent : self._sent + min(limit, self._largest_piece())]
        self._sent += len(piece)
        self._source.note_sent(self._key, len(piece))
        return piece

    def _stall(self) -> None:
        gate = self._plan.stall_gate
        if gate is not None and self._plan.stall_at is not None and self._sent >= self._plan.stall_at:
            gate.go_through(lambda: self.is_closed)

    def _break_off(self) -> bytes:
        if self.framed:
            raise self._plan.break_error or BrokenBody("the connection broke")
        return b""

    def _largest_piece(self) -> int:
        marks = (self._plan.break_after, self._plan.stall_at)
        ahead = [mark - self._sent for mark in marks if mark is not None and mark > self._sent]
        return min([self._source.piece_bytes, *ahead])

    def close(self) -> None:
        self.is_closed = True
        if self._plan.stall_gate is not None:
            self._plan.stall_gate.look()


@dataclass
class FakeSource:
    """`results` may be changed between requests. `plans` are taken one a request, first come first served; `always`
    holds for those that have none. `count` and `sent` tell what was asked for and what was sent: kinds are "stream",
    "stored", "sign" and "bulk" (counted for each run in it). `tasks` has what is said of a task, one a request; the
    last stays, and a Gate is gone through on the way. `asked` tells which tasks were asked for.
    """

    results: dict[int, Result] = field(default_factory=dict)
    storage: StorageManner = StorageManner.RANGES
    piece_bytes: int = 1 << 20
    life_s: float = 3600.0
    bulk_error: Exception | None = None
    look_error: LinkError | None = None
    bulk_leaves_out: frozenset[int] = frozenset()
    tasks: dict[tuple[str, TaskKind], list[TaskReport | Exception | Gate]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = Lock()  # guards all below
        self._plans: dict[tuple[str, int], deque[Plan]] = {}
        self._always: dict[tuple[str, int], Plan] = {}
        self._counts: Counter[tuple[str, int]] = Counter()
        self._sent: Counter[tuple[str, int]] = Counter()
        self._starts: dict[tuple[str, int], list[int]] = {}
        self._calls: Counter[str] = Counter()
        self.asked: list[tuple[str, TaskKind]] = []
        self.connects_ahead = 0
        self._signed = 0
        self._oldest_signature = 1

    # For the tests.

    def add(self, run_id: int, result: Result) -> Result:
        self.results[run_id] = result
        return result

    def plan(self, kind: str, run_id: int, *plans: Plan) -> None:
        """The next requests go like this."""
        with self._lock:
            self._plans.setdefault((kind, run_id), deque()).extend(plans)

    def plan_always(self, kind: str, run_id: int, plan: Plan = AS_USUAL) -> None:
        with self._lock:
            self._always[kind, run_id] = plan

    def heal(self, run_id: int) -> None:
        """All requests for a run go as usual from here on."""
        with self._lock:
            for plans in (self._plans, self._always):
                for key in [key for key in plans if key[1] == run_id]:
                    del plans[key]

    def expire_signatures(self) -> None:
        """Storage takes none any more that was made so far."""
        with self._lock:
            self._oldest_signature = self._signed + 1

    def count(self, kind: str, run_id: int | None = None) -> int:
        """Requests of a kind, for one run or all. A bulk request counts once for each of its runs."""
        with self._lock:
            return sum(n for (k, r), n in self._counts.items() if k == kind and run_id in (None, r))

    def calls(self, kind: str) -> int:
        """Requests of a kind. A bulk request counts once."""
        with self._lock:
            return self._calls[kind]

    @property
    def requests(self) -> int:
        with self._lock:
            return self._calls.total()

    def sent(self, kind: str, run_id: int) -> int:
        """Bytes."""
        with self._lock:
            return self._sent[kind, run_id]

    def starts(self, kind: str, run_id: int) -> list[int]:
        """Where the bodies began, in the order of the requests."""
        with self._lock:
            return list(self._starts.get((kind, run_id), ()))

    def note_sent(self, key: tuple[str, RunId], count: int) -> None:
        with self._lock:
            self._sent[key] += count

    # The Source.

    def open_stream(self, run_id: RunId, start: int = 0, etag: str | None = None) -> FakeBody:
        assert start == 0 or etag is not None, "a range without a validator"
        plan = self._take_plan("stream", run_id)
        result = self._result(run_id)
        content, validator = result.content, result.etag
        if plan.content is not None:
            content, validator = plan.content, result.etag and '"another"'
        takes_range = result.ranges and not result.ignores_range and etag is not None and etag == validator
        if takes_range and start >= len(content):
            raise BadResponse(f"run {run_id}: the API says 416", 416)
        first = start if takes_range else 0
        end = len(content) if plan.end_at is None else plan.end_at
        if first and result.part_bytes is not None:
            end = first + result.part_bytes
        body = self._body("stream", run_id, content, first, end, plan)
        body.total = end if result.has_length or first else None
        if first:
            body.stop = min(end, len(content))
            body.total = None if result.part_bytes is not None else body.total
        body.framed = result.framed
        body.etag, body.ranges = validator, result.ranges
        body.content_type = result.content_type
        body.modified_s = result.modified_s if result.stream_tells_time else None
        return body

    def sign(self, run_id: RunId) -> SignedUrl:
        self._take_plan("sign", run_id)
        self._result(run_id)
        return self._sign(run_id)

    def look(self, run_id: RunId) -> None:  # noqa: ARG002
        if self.look_error is not None:
            raise self.look_error

    def sign_many(self, run_ids: Sequence[RunId]) -> Mapping[RunId, SignedUrl]:
        assert 2 <= len(run_ids) <= 5, f"{len(run_ids)} ids in one call"
        assert len(set(run_ids)) == len(run_ids), "an id twice in one call"
        with self._lock:
            self._calls["bulk"] += 1
            self._counts.update(("bulk", run_id) for run_id in run_ids)
        if self.bulk_error is not None:
            raise self.bulk_error
        left_out = self.bulk_leaves_out
        return {r: self._sign(r) for r in run_ids if r in self.results and r not in left_out}

    def connect_stored(self) -> None:
        self.connects_ahead += 1

    def open_stored(self, signed: SignedUrl, start: int, stop: int | None) -> FakeBody:
        run_id, number = (RunId(int(part)) for part in signed.url.removeprefix("https://storage.test/").split("?n="))
        plan = self._take_plan("stored", run_id)
        self._refuse_stored(number)
        result = self._result(run_id)
        content = result.content if result.stored is None else result.stored
        with_ranges = self.storage is StorageManner.RANGES
        start = max(len(content) + start, 0) if start < 0 else start
        if not with_ranges:
            start, stop = 0, None
        body = self._body("stored", run_id, content, start, len(content) if stop is None else stop, plan)
        body.ranges = with_ranges
        body.stop = (len(content) if stop is None else min(stop, len(content))) if with_ranges else None
        body.total = None if self.storage is StorageManner.NO_LENGTH else len(content)
        body.modified_s = result.modified_s if result.storage_tells_time else None
        return body

    def task(self, task_id: TaskId, kind: TaskKind) -> TaskReport:
        with self._lock:
            self._calls["task"] += 1
            self.asked.append((task_id, kind))
            plans = self.tasks.get((task_id, kind), [UnknownRun(f"task {task_id}: the API says 404", 404)])
            said = [plans.pop(0) if len(plans) > 1 else plans[0]]
            if isinstance(said[0], Gate):
                said.append(plans.pop(0) if len(plans) > 1 else plans[0])
        for one in said:
            if isinstance(one, Gate):
                one.go_through()
            elif isinstance(one, Exception):
                raise one
        report = said[-1]
        assert isinstance(report, TaskReport), "a gate is the last"
        return report

    def _refuse_stored(self, number: int) -> None:
        if self.storage is StorageManner.UNREACHABLE:
            raise Unreachable("storage.test cannot be reached")
        if self.storage is StorageManner.BUSY:
            raise ServerError("storage.test says 503", 503)
        if self.storage is StorageManner.REFUSING or number < self._oldest_signature:
            raise SignatureExpired("storage.test says 403", 403)

    def _take_plan(self, kind: str, run_id: RunId) -> Plan:
        with self._lock:
            self._counts[kind, run_id] += 1
            self._calls[kind] += 1
            plans = self._plans.get((kind, run_id))
            plan = plans.popleft() if plans else self._always.get((kind, run_id), AS_USUAL)
        if plan.gate is not None:
            plan.gate.go_through()
        if plan.error is not None:
            raise plan.error
        return plan

    def _result(self, run_id: RunId) -> Result:
        if run_id not in self.results:
            raise UnknownRun(f"run {run_id}: the API says 404", 404)
        return self.results[run_id]

    def _sign(self, run_id: RunId) -> SignedUrl:
        with self._lock:
            self._signed += 1
            url = f"https://storage.test/{run_id}?n={self._signed}"
        return SignedUrl(url, {"output_url": url}, self.life_s)

    def _body(self, kind: str, run_id: RunId, content: bytes, start: int, stop: int, plan: Plan) -> FakeBody:
        with self._lock:
            self._starts.setdefault((kind, run_id), []).append(start)
        return FakeBody(self, (kind, run_id), content, start, min(stop, len(content)), plan)
