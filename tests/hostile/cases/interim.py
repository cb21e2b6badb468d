"""Interim responses, wherever they come."""

from __future__ import annotations

from tests.hostile.case import ANY, EITHER, REFUSED, RIGHT, SLOW, Case, Group, before, behind, redirected, says
from tests.hostile.replies import Act, Asked, Step, chunked, head, sized, well

_CONTINUE, _PROCESSING = head("100 Continue"), head("102 Processing")
_HINTS = head("103 Early Hints", "Link: </style.css>; rel=preload", "Link: </a.js>; rel=preload")
_PLENTY = [_PROCESSING] * 1000
_STEADY: list[Step] = [_PROCESSING, 0.05] * 5


def _bytewise(asked: Asked) -> list[Step]:
    return [*(bytes([byte]) for byte in _HINTS), *well(asked)]


def _moved(asked: Asked) -> list[Step]:
    return [_HINTS, *redirected(asked)]


_hinted = before(_HINTS, 0.02)


def _trickled(asked: Asked) -> list[Step]:
    return [step for _ in range(60) for step in (_PROCESSING, 0.2)] + well(asked)


# An interim response is skipped, and the connection that brought it is not used again.
_interim = Group("interim responses", is_odd=True)
_INTERIM = [
    _interim("102, and the answer one second later", RIGHT, is_notable=True, stream=before(_PROCESSING, 1.0)),
    _interim("103 with Link headers, and the answer 50 ms later", RIGHT, stream=before(_HINTS, 0.05)),
    _interim("103 before the first of all answers only", RIGHT, stream=[before(_HINTS, 0.05)]),
    _interim("100 at once", RIGHT, stream=before(_CONTINUE)),
    _interim("100 twice", RIGHT, stream=before(_CONTINUE + _CONTINUE)),
    _interim("100 as HTTP/1.0", EITHER, stream=before(head("100 Continue", version="1.0"))),
    _interim("102 five times, 50 ms apart", RIGHT, stream=before(*_STEADY)),
    _interim("100, 102 and 103 in one piece", RIGHT, stream=before(_CONTINUE + _PROCESSING + _HINTS)),
    _interim("an unknown 199", RIGHT, stream=before(head("199 Whatever", "X: y"))),
    _interim("102 without a reason phrase", RIGHT, stream=before(b"HTTP/1.1 102\r\n\r\n")),
    _interim("103 byte by byte", RIGHT, stream=_bytewise),
    _interim("102 that claims a length", RIGHT, stream=before(head("102 Processing", "Content-Length: 5"))),
    _interim("102 with what looks like its body", EITHER, stream=before(sized(b"wait\n", status="102 P"))),
    _interim("102 that claims chunks", RIGHT, stream=before(head("102 P", "Transfer-Encoding: chunked"))),
    _interim("102 with chunks behind it", EITHER, stream=before(chunked(b"wait\n", status="102 P"))),
    _interim("102 that says Connection: close", EITHER, stream=before(head("102 P", "Connection: close"))),
    _interim("102 with a bare LF", EITHER, stream=before(b"HTTP/1.1 102 Processing\n\n")),
    _interim("101, and then audio", REFUSED, stream=before(head("101 Switching Protocols", "Upgrade: x")), gone=True),
    _interim("a thousand of 102", EITHER, stream=before(*_PLENTY)),
    _interim("102 every 0.2 s, twelve seconds long", SLOW, is_notable=True, stream=_trickled, gone=True),
    _interim(
        "102 with 200 KB of headers", EITHER, stream=before(head("102 P", *[f"X-{i}: {'y' * 99}" for i in range(2000)]))
    ),
    _interim("102, then the connection closes, once", RIGHT, stream=[says(_PROCESSING, Act.CLOSE)]),
    _interim("102, then the connection closes, always", ANY, stream=says(_PROCESSING, Act.CLOSE), gone=True),
    _interim("102, then silence", SLOW, stream=says(_PROCESSING, Act.STALL), gone=True),
    _interim("103 before a redirect", RIGHT, stream=_moved),
    _interim("103 behind a redirect", RIGHT, stream=redirected, moved=before(_HINTS), is_odd=False),
    _interim("102 before file_url", RIGHT, sign=before(_PROCESSING, 0.1), modes=("stat",)),
    _interim("103 before storage's part", RIGHT, stored=before(_HINTS, 0.05), modes=("stat",)),
    _interim("103 before every answer of all", RIGHT, stream=_hinted, sign=_hinted, stored=_hinted),
    _interim(
        "102 before 429, then well", RIGHT, stream=[says(_PROCESSING + sized(b"", "Retry-After: 0", status="429 T"))]
    ),
    _interim("a late 102 behind the answer", RIGHT, stream=behind(0.03, _PROCESSING), is_odd=False),
]

CASES: list[Case] = [*_INTERIM]
