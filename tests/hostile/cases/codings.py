"""Transfer codings and content encodings: odd ones, hidden ones, wrong ones."""

from __future__ import annotations

import gzip

from tests.hostile.case import EITHER, RIGHT, Case, Group, with_coding, with_head
from tests.hostile.replies import AUDIO, Act, Asked, Step, chunk, part, sized

_TE = "Transfer-Encoding: "
_encoding = Group("transfer encodings")
_odd_encoding = Group("transfer encodings", is_odd=True, gone=True)


def _gzipped(asked: Asked) -> list[Step]:
    return [sized(gzip.compress(asked.content), AUDIO, "Content-Encoding: gzip")]


_ENCODINGS = [
    _encoding("chunked in capitals", RIGHT, stream=with_coding(_TE + "CHUNKED")),
    _encoding("chunked without a space before it", RIGHT, stream=with_coding("transfer-encoding:chunked")),
    _encoding("trailing white space", EITHER, gone=True, is_notable=True, stream=with_coding(_TE + "chunked ")),
    _encoding("trailing tab", EITHER, gone=True, stream=with_coding(_TE + "chunked\t")),
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
    _encoding(
        "chunks that no header tells, with their length",
        EITHER,
        gone=True,
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


CASES: list[Case] = [*_ENCODINGS]
