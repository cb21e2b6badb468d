"""Lengths and chunks: wrong, malformed, more of them than there should be."""

from __future__ import annotations

from collections.abc import Callable

from tests.hostile.case import ANY, CHANGED, EITHER, REFUSED, RIGHT, SLOW, Case, Group, in_chunks, with_head
from tests.hostile.replies import AUDIO, Act, Asked, Reply, Step, chunk, chunks, head, part


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
    _loose_length("1,000 too short, once", RIGHT, is_notable=True, stream=[_lie(-1000)]),
    _loose_length("1,000 too short, always", REFUSED, is_notable=True, stream=_lie(-1000)),
    _loose_length("1,000 too short, always; storage has the whole", EITHER, stream=_lie(-1000), gone=False),
    _loose_length("one too short, always", REFUSED, stream=_lie(-1)),
    _loose_length("1,000 too long, then closed, once", ANY, stream=[_lie(1000, Act.CLOSE)]),
    _loose_length("1,000 too long, then closed, always", ANY - RIGHT, stream=_lie(1000, Act.CLOSE)),
    _loose_length("1,000 too long, then silence", ANY - RIGHT, is_notable=True, stream=_lie(1000, Act.STALL)),
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
# A response that cannot be read is requested again, for as long as the timeout; so once is enough for most.
_chunks = Group("chunks", is_odd=True, gone=True, times=1)
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
    _chunks(
        "no CRLF behind a chunk, always",
        EITHER,
        is_notable=True,
        times=None,
        stream=in_chunks(lambda data: b"%x\r\n%s" % (len(data), data)),
    ),
    _chunks(
        "no CRLF behind a chunk, once",
        EITHER,
        stream=[in_chunks(lambda data: b"%x\r\n%s" % (len(data), data))],
        gone=False,
    ),
    _chunks(
        "a bare LF behind a chunk, always",
        EITHER,
        times=None,
        stream=in_chunks(lambda data: b"%x\r\n%s\n" % (len(data), data)),
    ),
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
    _chunks("less data than the size", CHANGED, stream=in_chunks(lambda data: b"%x\r\n%s\r\n" % (len(data) + 9, data))),
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
    _chunks("the last one missing, closed, always", EITHER, times=None, stream=in_chunks(chunk, b"", [Act.CLOSE])),
]

CASES: list[Case] = [*_LENGTHS, *_CHUNKS]
