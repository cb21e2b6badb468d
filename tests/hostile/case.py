"""The definition of a case, and the replies that many cases share.

No sockets (`server`), no mounts (`mounts`); the table itself is in `cases`. No threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.hostile.replies import (
    AUDIO,
    Act,
    Asked,
    Kind,
    Reply,
    Step,
    chunked,
    chunks,
    head,
    part,
    sized,
    well,
)
from tests.hostile.server import Script

# How a run may be read. `size` and `list_all` ask for sizes only.
MODES = ("whole", "stat", "tail", "map", "two")

# The right outcomes for the reader: the right bytes, one of some errnos, or either.
RIGHT = frozenset({"right"})
REFUSED = frozenset({"EIO"})
EITHER = RIGHT | REFUSED
SLOW = frozenset({"EIO", "ETIMEDOUT"})
CHANGED = EITHER | {"ESTALE"}
ANY = CHANGED | SLOW

Replies = Reply | Sequence[Reply]
Content = Callable[[bytes], bytes]


def _same(content: bytes) -> bytes:
    return content


@dataclass(frozen=True)
class Case:
    """`name` says what the server does, `want` what is right.

    replies    what it does: a list is for the first requests of a kind, a single reply for all, or for so many `times`
    make       makes the run of a FLAC
    holds      what the storage has instead of the run
    versions   with the run and the stranger's audio: what else counts as the right bytes
    gone       the storage has no such object
    is_odd     after such a response the connection is not used again
    is_alone   has a mount of its own, for what it does may cost the storage or the API its credit
    is_large   some megabytes rather than some ten kilobytes
    is_size_loose   a wrong length in the stream's header shows until the body has ended
    may_claim_size  a wrong length of the storage's shows until the stream is read, which then fails
    is_kept    True: the result is in the cache afterwards; False: it is not; None: it may be
    url        what is right for the run's `.url`; empty: it is not read
    is_notable has a row of its own in docs/reliability.md
    journal    a regular expression that stands in `.cambfs/errors` when the read fails
    """

    group: str
    name: str
    want: frozenset[str]
    replies: Mapping[Kind, Replies] = field(default_factory=dict)
    times: int | None = None
    make: Content = _same
    holds: Content | None = None
    versions: Callable[[bytes, bytes], Sequence[bytes]] = lambda *_: ()
    framing: Literal["chunked", "length", "close"] = "chunked"
    ranges: bool = False
    gone: bool = False
    is_odd: bool = False
    is_alone: bool = False
    is_large: bool = False
    is_size_loose: bool = False
    may_claim_size: bool = False
    is_kept: bool | None = None
    modes: Sequence[str] = MODES
    url: frozenset[str] = frozenset()
    is_notable: bool = False
    error_log: str = ""

    def script(self, content: bytes) -> Script:
        """The server's behaviour for a run that was made of some FLAC."""
        content = self.make(content)
        replies = {kind: self._limited(reply) for kind, reply in self.replies.items()}
        if self.gone:
            replies["stored"] = no_such_object
        stored = self.holds(content) if self.holds is not None else None
        return Script(content, replies, stored, self.framing, self.ranges)

    def _limited(self, reply: Replies) -> Replies:
        return [reply] * self.times if self.times is not None and callable(reply) else reply

    @property
    def id(self) -> str:
        return f"{self.group}: {self.name}"

    @property
    def has_open_sizes(self) -> bool:
        """Then a memory map, which is as long as the reported size when it was made, may be too short or too long."""
        return self.is_size_loose or self.may_claim_size

    def is_size_open(self, got: str) -> bool:
        """Whether a size that was reported before the reader got this may have been another."""
        return self.is_size_loose or (self.may_claim_size and got != "right")

    @property
    def hostile_kinds(self) -> set[Kind]:
        """The kinds of requests of which one at least must have come, or nothing was tried."""
        return {*self.replies, *(("stored",) if self.holds else ())}


class Group:
    """Makes the cases of one group, which have some defaults in common."""

    def __init__(self, name: str, **defaults: Any) -> None:
        self._name = name
        self._defaults = defaults

    def __call__(
        self,
        name: str,
        want: frozenset[str],
        *,
        stream: Replies | None = None,
        sign: Replies | None = None,
        stored: Replies | None = None,
        bulk: Replies | None = None,
        moved: Replies | None = None,
        **more: Any,
    ) -> Case:
        said = {"stream": stream, "sign": sign, "stored": stored, "bulk": bulk, "moved": moved}
        replies = {kind: reply for kind, reply in said.items() if reply is not None}
        return Case(self._name, name, want, replies, **{**self._defaults, **more})  # type: ignore[arg-type]


def no_such_object(_: Asked) -> list[Step]:
    return [sized(b"<Error><Code>NoSuchKey</Code></Error>", status="404 Not Found")]


def says(*steps: Step) -> Reply:
    """Just these steps."""
    return lambda _: steps


def before(*steps: Step) -> Reply:
    """These, and then the usual response."""
    return lambda asked: [*steps, *well(asked)]


def behind(*steps: Step) -> Reply:
    """The usual response, and then these."""
    return lambda asked: [*well(asked), *steps]


def of(make: Content) -> Reply:
    """The usual response, of other bytes."""
    return lambda asked: well(asked.having(make(asked.content)))


def with_head(*headers: str, status: str = "200 OK", version: str = "1.1", then: Sequence[Step] = ()) -> Reply:
    """The plain bytes behind some headers, in which {n} stands for their number."""

    def reply(asked: Asked) -> list[Step]:
        lines = [header.format(n=asked.size) for header in headers]
        return [head(status, AUDIO, *lines, version=version) + asked.content, *then]

    return reply


def with_coding(*headers: str, version: str = "1.1", then: Sequence[Step] = ()) -> Reply:
    """The bytes in chunks behind some headers, in which {n} stands for the number of the bytes."""

    def reply(asked: Asked) -> list[Step]:
        lines = [header.format(n=asked.size) for header in headers]
        return [head("200 OK", AUDIO, *lines, version=version) + chunks(asked.content) + b"0\r\n\r\n", *then]

    return reply


def in_chunks(frame: Callable[[bytes], bytes], end: bytes = b"0\r\n\r\n", then: Sequence[Step] = ()) -> Reply:
    """The first 8 KB framed well, the middle as a case says, the rest well again."""

    def reply(asked: Asked) -> list[Step]:
        one, two = 8192, 12288
        parts = [chunks(asked.content[:one]), frame(asked.content[one:two]), chunks(asked.content[two:])]
        return [head("200 OK", AUDIO, "Transfer-Encoding: chunked") + b"".join(parts) + end, *then]

    return reply


def text(content: bytes, content_type: str = "text/plain", status: str = "200 OK") -> Reply:
    return says(chunked(content, f"Content-Type: {content_type}", status=status))


def broken_after(count: Callable[[Asked], int], act: Act = Act.RESET) -> Reply:
    """The usual response, whose connection ends when so many of its bytes were sent."""

    def reply(asked: Asked) -> list[Step]:
        answer = b"".join(step for step in well(asked) if isinstance(step, bytes))
        begin = answer.index(b"\r\n\r\n") + 4
        return [answer[: begin + count(asked)], 0.02, act]

    return reply


half = broken_after(lambda asked: asked.size // 2)


def redirected(asked: Asked) -> list[Step]:
    """To another place of the API: the kind "moved"."""
    return [sized(b"", f"Location: /apis/moved/{asked.run_id}", status="307 Temporary Redirect")]


def status(line: str, *headers: str) -> Reply:
    return says(sized(b"<Error><Code>SlowDown</Code></Error>", *headers, status=line))


def made_of(*steps: Step | Callable[[Asked], bytes]) -> Reply:
    """Steps, and bytes that depend on the request."""
    return lambda asked: [step(asked) if callable(step) else step for step in steps]


def range_says(text: str) -> Reply:
    """The requested part, under a Content-Range in which {a}, {b} and {n} stand for the right numbers."""

    def reply(asked: Asked) -> list[Step]:
        last = min(asked.size, asked.stop or asked.size) - 1
        said = text.format(a=asked.start, b=last, n=asked.size, more=asked.size + 999)
        return [part(asked, content_range=said)]

    return reply
