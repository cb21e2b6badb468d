"""Cases about HTTP itself: interim responses, transfer codings, lengths, chunks, connections that are used again."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from tests.hostile.case import (
    ANY,
    EITHER,
    REFUSED,
    RIGHT,
    SLOW,
    Group,
    before,
    behind,
    in_chunks,
    says,
    with_coding,
    with_head,
)
from tests.hostile.replies import AUDIO, Act, Asked, Reply, Step, chunk, chunked, chunks, head, part, sized, well

_CONTINUE, _PROCESSING = head("100 Continue"), head("102 Processing")
_HINTS = head("103 Early Hints", "Link: </style.css>; rel=preload", "Link: </a.js>; rel=preload")
_PLENTY = [_PROCESSING] * 1000


def _bytewise(asked: Asked) -> list[Step]:
    return [*(bytes([byte]) for byte in _HINTS), *well(asked)]


def _redirected(asked: Asked) -> list[Step]:
    return [sized(b"", f"Location: /apis/moved/{asked.run_id}", status="307 Temporary Redirect")]


def _moved(asked: Asked) -> list[Step]:
    return [_HINTS, *_redirected(asked)]


_hinted = before(_HINTS, 0.02)


def _trickled(asked: Asked) -> list[Step]:
    return [step for _ in range(60) for step in (_PROCESSING, 0.2)] + well(asked)


# An interim response is skipped, and the connection that brought it is not used again.
_interim = Group("interim responses", is_odd=True)
_INTERIM = [
    _interim("102, and the answer one second later", RIGHT, stream=before(_PROCESSING, 1.0)),
    _interim("103 with Link headers, and the answer 50 ms later", RIGHT, stream=before(_HINTS, 0.05)),
    _interim("103 before the first of all answers only", RIGHT, stream=[before(_HINTS, 0.05)]),
    _interim("100 at once", RIGHT, stream=before(_CONTINUE)),
    _interim("100 twice", RIGHT, stream=before(_CONTINUE + _CONTINUE)),
    _interim("100 as HTTP/1.0", EITHER, stream=before(head("100 Continue", version="1.0"))),
    _interim("102 five times, 50 ms apart", RIGHT, stream=before(*[_PROCESSING, 0.05] * 5)),
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
    _interim("102 every 0.2 s, twelve seconds long", SLOW, stream=_trickled, gone=True),
    _interim(
        "102 with 200 KB of headers", EITHER, stream=before(head("102 P", *[f"X-{i}: {'y' * 99}" for i in range(2000)]))
    ),
    _interim("102, then the connection closes, once", RIGHT, stream=[says(_PROCESSING, Act.CLOSE)]),
    _interim("102, then the connection closes, always", ANY, stream=says(_PROCESSING, Act.CLOSE), gone=True),
    _interim("102, then silence", SLOW, stream=says(_PROCESSING, Act.STALL), gone=True),
    _interim("103 before a redirect", RIGHT, stream=_moved),
    _interim("103 behind a redirect", RIGHT, stream=_redirected, moved=before(_HINTS), is_odd=False),
    _interim("102 before file_url", RIGHT, sign=before(_PROCESSING, 0.1), modes=("stat",)),
    _interim("103 before storage's part", RIGHT, stored=before(_HINTS, 0.05), modes=("stat",)),
    _interim("103 before every answer of all", RIGHT, stream=_hinted, sign=_hinted, stored=_hinted),
    _interim(
        "102 before 429, then well", RIGHT, stream=[says(_PROCESSING + sized(b"", "Retry-After: 0", status="429 T"))]
    ),
    _interim("a late 102 behind the answer", RIGHT, stream=behind(0.03, _PROCESSING), is_odd=False),
]

_TE = "Transfer-Encoding: "
_encoding = Group("transfer encodings")
_odd_encoding = Group("transfer encodings", is_odd=True, gone=True)


def _gzipped(asked: Asked) -> list[Step]:
    return [sized(gzip.compress(asked.content), AUDIO, "Content-Encoding: gzip")]


_ENCODINGS = [
    _encoding("chunked in capitals", RIGHT, stream=with_coding(_TE + "CHUNKED")),
    _encoding("chunked without a space before it", RIGHT, stream=with_coding("transfer-encoding:chunked")),
    _odd_encoding("trailing white space", EITHER, stream=with_coding(_TE + "chunked ")),
    _odd_encoding("trailing tab", EITHER, stream=with_coding(_TE + "chunked\t")),
    _odd_encoding("a vertical tab before chunked", EITHER, stream=with_coding(_TE + "\x0bchunked")),
    _odd_encoding("a form feed behind chunked", EITHER, stream=with_coding(_TE + "chunked\x0c")),
    _odd_encoding("a no-break space behind chunked", EITHER, stream=with_coding(_TE + "chunked\xa0")),
    _odd_encoding("NUL behind chunked", EITHER, stream=with_coding(_TE + "chunked\0")),
    _odd_encoding("white space before the colon", EITHER, stream=with_coding("Transfer-Encoding : chunked")),
    _odd_encoding("an underscore in the name", EITHER, stream=with_coding("Transfer_Encoding: chunked")),
    _odd_encoding("folded", EITHER, stream=with_coding(_TE + "\r\n chunked")),
    _odd_encoding("twice, in two headers", EITHER, stream=with_coding(_TE + "chunked", _TE + "chunked")),
    _odd_encoding("twice, in one list", EITHER, stream=with_coding(_TE + "chunked, chunked")),
    _odd_encoding("identity, chunked", EITHER, stream=with_coding(_TE + "identity, chunked")),
    _odd_encoding("chunked, identity", EITHER, stream=with_coding(_TE + "chunked, identity")),
    _odd_encoding(
        "chunked, then identity in another header", EITHER, stream=with_coding(_TE + "chunked", _TE + "identity")
    ),
    _odd_encoding("gzip, chunked, and no gzip there", EITHER, stream=with_coding(_TE + "gzip, chunked")),
    _odd_encoding("an empty list element", EITHER, stream=with_coding(_TE + "chunked,")),
    _odd_encoding("a parameter", EITHER, stream=with_coding(_TE + "chunked;q=1")),
    _odd_encoding("in quotes", EITHER, stream=with_coding(_TE + '"chunked"')),
    _odd_encoding("xchunked", EITHER, stream=with_coding(_TE + "xchunked")),
    _odd_encoding("an unknown coding around plain bytes", EITHER, stream=with_head(_TE + "cow", "Content-Length: {n}")),
    _odd_encoding("empty, with chunks", EITHER, stream=with_coding(_TE, then=[Act.CLOSE])),
    _odd_encoding("chunks that no header tells", EITHER, stream=with_coding(then=[Act.CLOSE])),
    _odd_encoding(
        "chunks that no header tells, with their length",
        EITHER,
        stream=lambda a: [sized(b"%x\r\n%s\r\n0\r\n\r\n" % (a.size, a.content))],
    ),
    _odd_encoding("chunked in HTTP/1.0", EITHER, stream=with_coding(_TE + "chunked", version="1.0", then=[Act.CLOSE])),
    _odd_encoding(
        "chunked with the right Content-Length", EITHER, stream=with_coding(_TE + "chunked", "Content-Length: {n}")
    ),
    _odd_encoding(
        "chunked with a small Content-Length", EITHER, stream=with_coding("Content-Length: 5000", _TE + "chunked")
    ),
    _odd_encoding("chunked announced, plain bytes sent", EITHER, stream=with_head(_TE + "chunked", then=[Act.CLOSE])),
    _odd_encoding(
        "chunked hidden behind a line that is no header", EITHER, stream=with_coding("no header", _TE + "chunked")
    ),
    _odd_encoding("chunked behind a bare CR", EITHER, stream=with_coding("X: y\r" + _TE + "chunked", then=[Act.CLOSE])),
    _odd_encoding("chunked behind a bare LF", EITHER, stream=with_coding("X: y\n" + _TE + "chunked")),
    _encoding(
        "Content-Encoding: identity", RIGHT, stream=with_head("Content-Encoding: identity", "Content-Length: {n}")
    ),
    _encoding("Content-Encoding: gzip, and it is", EITHER, stream=_gzipped, gone=True),
    _encoding(
        "Content-Encoding: gzip, and it is not",
        EITHER,
        stream=with_head("Content-Encoding: gzip", "Content-Length: {n}"),
        gone=True,
    ),
    _encoding("storage's part in chunks", RIGHT, stored=lambda a: [_part_in_chunks(a)], modes=("stat",)),
    _encoding(
        "storage's part with trailing white space behind chunked",
        EITHER,
        stored=lambda a: [_part_in_chunks(a, " ")],
        is_odd=True,
        modes=("stat",),
    ),
]


def _part_in_chunks(asked: Asked, space: str = "") -> bytes:
    headers, _, data = part(asked).partition(b"\r\n\r\n")
    lines = [line for line in headers.decode().split("\r\n") if not line.startswith("Content-Length")]
    return "\r\n".join([*lines, f"{_TE}chunked{space}", "", ""]).encode() + chunk(data) + b"0\r\n\r\n"


def _length(text: str, *, more: str = "") -> Reply:
    """Plain bytes whose Content-Length is a text in which {n} is the right one, {a} and {b} its halves."""

    def reply(asked: Asked) -> list[Step]:
        digits = str(asked.size)
        value = text.format(n=digits, a=digits[:2], b=digits[2:], x=f"{asked.size:x}", more=asked.size + 1000)
        return [head("200 OK", AUDIO, f"Content-Length: {value}", *([more] if more else [])) + asked.content]

    return reply


def _lie(by: int, *then: Step) -> Reply:
    """A Content-Length that is wrong by so many bytes."""
    return lambda a: [head("200 OK", AUDIO, f"Content-Length: {a.size + by}") + a.content, *then]


_lengths = Group("lengths", gone=True)
_odd_length = Group("lengths", is_odd=True, gone=True)
_loose_length = Group("lengths", gone=True, is_size_loose=True)
_LENGTHS = [
    _lengths("right", RIGHT, stream=with_head("Content-Length: {n}"), gone=False),
    _lengths("right, with white space around", RIGHT, stream=with_head("Content-Length:   {n}  ")),
    _odd_length("twice, the right one first", EITHER, stream=with_head("Content-Length: {n}", "Content-Length: 5000")),
    _odd_length("twice, the right one last", EITHER, stream=with_head("content-length: 5000", "Content-Length: {n}")),
    _odd_length("twice equal", EITHER, stream=with_head("Content-Length: {n}", "Content-Length: {n}")),
    _odd_length("a list of equal ones", EITHER, stream=_length("{n}, {n}")),
    _odd_length("a list of different ones", EITHER, stream=_length("5000, {n}")),
    _odd_length("with a plus", EITHER, stream=_length("+{n}")),
    _odd_length("with a minus", EITHER, stream=_length("-{n}")),
    _odd_length("minus one", EITHER, stream=_length("-1")),
    _odd_length("hexadecimal", EITHER, stream=_length("0x{x}")),
    _odd_length("an underscore between its digits", EITHER, stream=_length("{a}_{b}")),
    _odd_length("a space between its digits", EITHER, stream=_length("{a} {b}")),
    _odd_length("a comma between its digits", EITHER, stream=_length("{a},{b}")),
    _odd_length("folded between its digits", EITHER, stream=_length("{a}\r\n {b}")),
    _odd_length("NUL behind it", EITHER, stream=_length("{n}\0")),
    _odd_length("superscript digits", EITHER, stream=_length("\xb2\xb3\xb9")),
    _odd_length("a fraction", EITHER, stream=_length("{n}.0")),
    _odd_length("an exponent", EITHER, stream=_length("5e4")),
    _odd_length("a parameter behind it", EITHER, stream=_length("{n};x=y")),
    _odd_length("empty", EITHER, stream=_length("")),
    _odd_length("a word", EITHER, stream=_length("plenty")),
    _odd_length("5,000 digits", EITHER, stream=_length("9" * 5000)),
    _odd_length("2^64 more than it is", EITHER, stream=_lie(2**64)),
    _odd_length("white space before the colon", EITHER, stream=with_head("Content-Length : 5000", then=[Act.CLOSE])),
    _odd_length("zero, and the audio behind it", EITHER, stream=with_head("Content-Length: 0")),
    _lengths("leading zeros", EITHER, stream=_length("000{n}")),
    _loose_length("1,000 too short, once", RIGHT, stream=[_lie(-1000)]),
    _loose_length("1,000 too short, always", REFUSED, stream=_lie(-1000)),
    _loose_length("1,000 too short, always; storage has the whole", EITHER, stream=_lie(-1000), gone=False),
    _loose_length("one too short, always", REFUSED, stream=_lie(-1)),
    _loose_length("1,000 too long, then closed, once", ANY, stream=[_lie(1000, Act.CLOSE)]),
    _loose_length("1,000 too long, then closed, always", ANY - RIGHT, stream=_lie(1000, Act.CLOSE)),
    _loose_length("1,000 too long, then silence", ANY - RIGHT, stream=_lie(1000, Act.STALL)),
    _lengths(
        "storage's part, whose length is not that of its range",
        RIGHT,
        stored=lambda a: [part(a).replace(b"Content-Length: 4096", b"Content-Length: 4000")],
        gone=False,
        is_alone=True,
        modes=("stat",),
    ),
]


def _sized_as(line: Callable[[int], bytes]) -> Reply:
    """The middle chunk's size is written as a case wants."""
    return in_chunks(lambda data: line(len(data)) + b"\r\n" + data + b"\r\n")


def _bare_lf(asked: Asked) -> list[Step]:
    return [
        head("200 OK", AUDIO, "Transfer-Encoding: chunked") + chunks(asked.content).replace(b"\r\n", b"\n") + b"0\n\n"
    ]


_TRAILERS = b"".join(b"X-%d: %s\r\n" % (i, b"y" * 90) for i in range(2000))
_fine_chunks = Group("chunks")
_chunks = Group("chunks", is_odd=True, gone=True)
_CHUNKS = [
    _fine_chunks("sizes in capitals", RIGHT, stream=_sized_as(lambda n: b"%X" % n)),
    _fine_chunks("sizes with leading zeros", RIGHT, stream=_sized_as(lambda n: b"0000%x" % n)),
    _fine_chunks("an extension", RIGHT, stream=_sized_as(lambda n: b"%x;name=value" % n)),
    _fine_chunks("an extension in quotes, with a semicolon", RIGHT, stream=_sized_as(lambda n: b'%x;a="b;c"' % n)),
    _fine_chunks(
        "many of one byte",
        RIGHT,
        stream=in_chunks(lambda data: b"".join(chunk(data[i : i + 1]) for i in range(len(data)))),
    ),
    _fine_chunks("a last chunk of many zeros", RIGHT, stream=in_chunks(chunk, b"00000\r\n\r\n")),
    _fine_chunks("a last chunk with an extension", RIGHT, stream=in_chunks(chunk, b"0;last\r\n\r\n")),
    _fine_chunks("trailers", RIGHT, stream=in_chunks(chunk, b"0\r\nX-Sum: 1\r\nX-Two: 2\r\n\r\n")),
    _chunks(
        "a trailer that gives a length",
        EITHER,
        stream=in_chunks(chunk, b"0\r\nContent-Length: 5\r\n\r\n"),
        is_odd=False,
    ),
    _chunks("2,000 trailers", EITHER, stream=in_chunks(chunk, b"0\r\n" + _TRAILERS + b"\r\n")),
    _chunks("a trailer that is no header", EITHER, stream=in_chunks(chunk, b"0\r\nnothing\r\n\r\n")),
    _chunks("trailers behind a bare LF", EITHER, stream=in_chunks(chunk, b"0\nX: y\n\n")),
    _chunks("no CRLF behind a chunk", EITHER, stream=in_chunks(lambda data: b"%x\r\n%s" % (len(data), data))),
    _chunks(
        "no CRLF behind a chunk, once",
        EITHER,
        stream=[in_chunks(lambda data: b"%x\r\n%s" % (len(data), data))],
        gone=False,
    ),
    _chunks("a bare LF behind a chunk", EITHER, stream=in_chunks(lambda data: b"%x\r\n%s\n" % (len(data), data))),
    _chunks("a bare LF behind a size", EITHER, stream=in_chunks(lambda data: b"%x\n%s\r\n" % (len(data), data))),
    _chunks("a bare CR behind a chunk", EITHER, stream=in_chunks(lambda data: b"%x\r\n%s\r" % (len(data), data))),
    _chunks("bare LFs everywhere", EITHER, stream=_bare_lf),
    _chunks("an empty line before a size", EITHER, stream=in_chunks(lambda data: b"\r\n" + chunk(data))),
    _chunks(
        "two bytes of rubbish in place of CRLF",
        EITHER,
        stream=in_chunks(lambda data: b"%x\r\n%sXY" % (len(data), data)),
    ),
    _chunks("more data than the size", EITHER, stream=in_chunks(lambda data: b"%x\r\n%s\r\n" % (len(data) - 9, data))),
    _chunks("less data than the size", EITHER, stream=in_chunks(lambda data: b"%x\r\n%s\r\n" % (len(data) + 9, data))),
    _chunks("0x before a size", EITHER, stream=_sized_as(lambda n: b"0x%x" % n)),
    _chunks("a plus before a size", EITHER, stream=_sized_as(lambda n: b"+%x" % n)),
    _chunks("a minus before a size", EITHER, stream=_sized_as(lambda n: b"-%x" % n)),
    _chunks("a space before a size", EITHER, stream=_sized_as(lambda n: b" %x" % n)),
    _chunks("a space behind a size", EITHER, stream=_sized_as(lambda n: b"%x " % n), is_odd=False),
    _chunks("an underscore in a size", EITHER, stream=_sized_as(lambda n: b"1_%03x" % (n & 0xFFF))),
    _chunks("NUL behind a size", EITHER, stream=_sized_as(lambda n: b"%x\0" % n)),
    _chunks("a full-width digit for a size", EITHER, stream=_sized_as(lambda _: "\uff11000".encode())),
    _chunks("a size that overflows 64 bits", EITHER, stream=_sized_as(lambda n: b"1%016x" % n)),
    _chunks("a size of a thousand digits", EITHER, stream=_sized_as(lambda n: b"0" * 999 + b"%x" % n)),
    _chunks("an empty size", EITHER, stream=_sized_as(lambda _: b"")),
    _chunks("an extension without a size", EITHER, stream=_sized_as(lambda _: b";a=b")),
    _chunks("a word for a size", EITHER, stream=_sized_as(lambda _: b"plenty")),
    _chunks("an extension of 60 KB", EITHER, stream=_sized_as(lambda n: b"%x;%s" % (n, b"e" * 60_000))),
    _chunks("an extension with a bare LF", EITHER, stream=_sized_as(lambda n: b"%x;a\nb" % n)),
    _chunks("an empty one in the middle", EITHER, stream=in_chunks(lambda data: b"0\r\n\r\n" + chunk(data))),
    _chunks("the last one without the empty line, then closed", EITHER, stream=in_chunks(chunk, b"0\r\n", [Act.CLOSE])),
    _chunks(
        "the last one without the empty line, then silence",
        SLOW | RIGHT,
        stream=in_chunks(chunk, b"0\r\n", [Act.STALL]),
    ),
    _chunks("the last one missing, closed, once", RIGHT, stream=[in_chunks(chunk, b"", [Act.CLOSE])], gone=False),
    _chunks("the last one missing, closed, always", EITHER, stream=in_chunks(chunk, b"", [Act.CLOSE])),
]


def _other_response(asked: Asked) -> bytes:
    """What would be taken for the next answer: whole, well, and another run's audio."""
    return chunked(asked.stranger, AUDIO)


def _surplus(pause_s: float) -> Reply:
    return lambda asked: [*well(asked), pause_s, _other_response(asked)]


def _joined(asked: Asked) -> list[Step]:
    """The answer and another one, in one piece."""
    return [b"".join(step for step in well(asked) if isinstance(step, bytes)) + _other_response(asked)]


def _bodyless(status: str) -> Reply:
    """A response that has no body by HTTP's rules, and a body."""
    return lambda asked: [head(status) + asked.stranger]


_reuse = Group("connection reuse")
_REUSE = [
    _reuse("a whole second answer, in one piece with the first", RIGHT, stream=_joined, is_odd=True),
    _reuse("a whole second answer, 1 ms later", RIGHT, stream=_surplus(0.001)),
    _reuse("a whole second answer, 30 ms later", RIGHT, stream=_surplus(0.03)),
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
        stream=lambda a: [sized(b"{}", status="404 Not Found"), 0.001, _other_response(a)],
    ),
    _reuse(
        "audio behind 429, then well",
        RIGHT,
        stream=[lambda a: [sized(b"", "Retry-After: 0", status="429 T") + _other_response(a)]],
    ),
    _reuse("204 with a body", REFUSED, stream=_bodyless("204 No Content"), gone=True, is_odd=True),
    _reuse(
        "204, and an answer 30 ms later", REFUSED, stream=lambda _: [head("204 No Content"), 0.03, b"late"], gone=True
    ),
    _reuse("304 with a body", REFUSED, stream=_bodyless("304 Not Modified"), gone=True, is_odd=True),
    _reuse(
        "304, and bytes 30 ms later", REFUSED, stream=lambda _: [head("304 Not Modified"), 0.03, b"late"], gone=True
    ),
    _reuse(
        "205 with a body",
        REFUSED,
        stream=lambda a: [head("205 Reset Content", "Content-Length: 0") + a.stranger],
        gone=True,
    ),
    _reuse("closed just as the next request comes", RIGHT, stream=behind(Act.HANG_UP)),
    _reuse("reset just as the next request comes", RIGHT, stream=behind(Act.SNAP)),
    _reuse("closed just as the next request comes, behind file_url", RIGHT, sign=behind(Act.HANG_UP), modes=("stat",)),
    _reuse("storage closes just as the next request comes", RIGHT, stored=behind(Act.HANG_UP), modes=("stat",)),
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
        stored=lambda a: [part(a), 0.001, part(a.having(a.stranger))],
        modes=("stat",),
    ),
    _reuse(
        "a redirect with a whole answer behind it",
        RIGHT,
        stream=lambda a: [*_redirected(a), _other_response(a)],
        moved=well,
    ),
    _reuse("reset before the first byte, once", RIGHT, stream=[says(Act.RESET)]),
    _reuse("closed before the first byte, twice", RIGHT, stream=[says(Act.CLOSE), says(Act.CLOSE)]),
    _reuse("reset in the middle of the headers, once", RIGHT, stream=[says(b"HTTP/1.1 200 O", 0.01, Act.RESET)]),
]

CASES = [*_INTERIM, *_ENCODINGS, *_LENGTHS, *_CHUNKS, *_REUSE]
