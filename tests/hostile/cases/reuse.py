"""Bytes on a connection behind the response, or in the moment of the next request."""

from __future__ import annotations

from tests.hostile.case import REFUSED, RIGHT, Case, Group, behind, made_of, redirected, says, with_head
from tests.hostile.replies import AUDIO, Act, Asked, Reply, Step, chunked, head, part, sized, well


def _other_response(asked: Asked) -> bytes:
    """Bytes that could pass for the next response: whole, valid, and another run's audio."""
    return chunked(asked.stranger, AUDIO)


def _surplus(pause_s: float) -> Reply:
    return lambda asked: [*well(asked), pause_s, _other_response(asked)]


def _joined(asked: Asked) -> list[Step]:
    """The response and another one, in one piece."""
    return [b"".join(step for step in well(asked) if isinstance(step, bytes)) + _other_response(asked)]


def _bodyless(status: str) -> Reply:
    """A response that has no body by HTTP's rules, and a body."""
    return lambda asked: [head(status) + asked.stranger]


_reuse = Group("connection reuse")
_REUSE = [
    _reuse("a whole second answer, in one piece with the first", RIGHT, stream=_joined, is_odd=True),
    _reuse("a whole second answer, 1 ms later", RIGHT, stream=_surplus(0.001)),
    _reuse("a whole second answer, 30 ms later", RIGHT, is_notable=True, stream=_surplus(0.03)),
    _reuse("a whole second answer behind Content-Length, 1 ms later", RIGHT, stream=_surplus(0.001), framing="length"),
    _reuse(
        "a whole second answer behind Content-Length, in one piece",
        RIGHT,
        stream=_joined,
        framing="length",
        is_odd=True,
    ),
    _reuse("a byte behind the last chunk, 30 ms later", RIGHT, stream=behind(0.03, b"x")),
    _reuse("bytes behind the last chunk, at once", RIGHT, stream=behind(b"surplus"), is_alone=True),
    _reuse("an empty line behind the answer", RIGHT, stream=behind(b"\r\n")),
    _reuse("an empty line behind the answer, 30 ms later", RIGHT, stream=behind(0.03, b"\r\n")),
    _reuse(
        "408 while idle, then closed", RIGHT, stream=behind(0.02, sized(b"", status="408 Request Timeout"), Act.CLOSE)
    ),
    _reuse(
        "audio behind 404",
        frozenset({"ENOENT"}),
        stream=made_of(sized(b"{}", status="404 Not Found"), 0.001, _other_response),
    ),
    _reuse(
        "audio behind 429, then well",
        RIGHT,
        stream=[lambda a: [sized(b"", "Retry-After: 0", status="429 T") + _other_response(a)]],
    ),
    _reuse("204 with a body", REFUSED, stream=_bodyless("204 No Content"), gone=True, is_odd=True),
    _reuse("204, and an answer 30 ms later", REFUSED, stream=says(head("204 No Content"), 0.03, b"late"), gone=True),
    _reuse("304 with a body", REFUSED, stream=_bodyless("304 Not Modified"), gone=True, is_odd=True),
    _reuse("304, and bytes 30 ms later", REFUSED, stream=says(head("304 Not Modified"), 0.03, b"late"), gone=True),
    _reuse(
        "205 with a body",
        REFUSED,
        stream=lambda a: [head("205 Reset Content", "Content-Length: 0") + a.stranger],
        gone=True,
    ),
    _reuse("closed just as the next request comes", RIGHT, stream=behind(Act.HANG_UP)),
    _reuse("reset just as the next request comes", RIGHT, stream=behind(Act.SNAP)),
    _reuse("closed just as the next request comes, behind file_url", RIGHT, sign=behind(Act.HANG_UP), modes=("stat",)),
    _reuse(
        "storage closes just as the next request comes",
        RIGHT,
        is_notable=True,
        stored=behind(Act.HANG_UP),
        modes=("stat",),
    ),
    _reuse("storage resets just as the next request comes", RIGHT, stored=behind(Act.SNAP), modes=("stat",)),
    _reuse("closed at once, without saying so", RIGHT, stream=behind(Act.CLOSE)),
    _reuse("closed 5 ms later, without saying so", RIGHT, stream=behind(0.005, Act.CLOSE)),
    _reuse("reset behind the answer", RIGHT, stream=behind(0.01, Act.RESET)),
    _reuse(
        "Connection: close, and then more",
        RIGHT,
        stream=with_head("Content-Length: {n}", "Connection: close", then=[b"more"]),
    ),
    _reuse(
        "HTTP/1.0 that is kept alive, and then more",
        RIGHT,
        stream=with_head("Content-Length: {n}", version="1.0", then=[0.001, b"HTTP/1.0 200 OK\r\n\r\n"]),
    ),
    _reuse("bytes behind file_url, 1 ms later", RIGHT, sign=behind(0.001, b'{"output_url": "x"}'), modes=("stat",)),
    _reuse("bytes behind storage's part, at once", RIGHT, stored=behind(b"y" * 500), modes=("stat",)),
    _reuse(
        "a whole second part behind storage's, 1 ms later",
        RIGHT,
        stored=made_of(part, 0.001, lambda a: part(a.having(a.stranger))),
        modes=("stat",),
    ),
    _reuse(
        "a redirect with a whole answer behind it",
        RIGHT,
        stream=lambda a: [*redirected(a), _other_response(a)],
        moved=well,
    ),
    _reuse("reset before the first byte, once", RIGHT, stream=[says(Act.RESET)]),
    _reuse("closed before the first byte, twice", RIGHT, stream=[says(Act.CLOSE), says(Act.CLOSE)]),
    _reuse("reset in the middle of the headers, once", RIGHT, stream=[says(b"HTTP/1.1 200 O", 0.01, Act.RESET)]),
]

CASES: list[Case] = [*_REUSE]
