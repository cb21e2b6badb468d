"""Responses that do not fit each other: results that change, resumes, ranges."""

from __future__ import annotations

from tests.hostile import audio
from tests.hostile.case import (
    ANY,
    CHANGED,
    EITHER,
    RIGHT,
    SLOW,
    Case,
    Group,
    broken_after,
    half,
    made_of,
    no_such_object,
    of,
    range_says,
    says,
    status,
    text,
)
from tests.hostile.replies import ETAG, JSON, Act, Asked, Reply, Step, chunked, part, sized, well


def _stranger(asked: Asked) -> list[Step]:
    return well(asked.having(asked.stranger))


def _half_of_stranger(asked: Asked) -> list[Step]:
    return list(half(asked.having(asked.stranger)))


def _alternating(asked: Asked) -> list[Step]:
    return _stranger(asked) if asked.number % 2 else well(asked)


def _or_stranger(_: bytes, stranger: bytes) -> list[bytes]:
    return [stranger]


def _or_other_middle(content: bytes, _: bytes) -> list[bytes]:
    return [audio.other_middle(content)]


_change = Group("changes between two answers", gone=True, versions=_or_stranger)
_CHANGES = [
    _change("half of another audio, then this one", CHANGED, stream=[_half_of_stranger]),
    _change("half of this one, then another", CHANGED, is_notable=True, stream=[half, _stranger]),
    _change(
        "half of this one, then another always",
        CHANGED,
        stream=lambda a: list(half(a)) if a.number == 1 else _stranger(a),
    ),
    _change(
        "halves in turns, never whole",
        CHANGED - RIGHT,
        stream=lambda a: list(half(a if a.number % 2 else a.having(a.stranger))),
    ),
    _change(
        "40 % of another, properly ended, then this one",
        CHANGED,
        stream=[lambda a: well(a.having(a.stranger[:20_000]))],
    ),
    _change("one and the other in turns, whole", CHANGED, stream=_alternating),
    _change(
        "one and the other in turns; storage has this one", CHANGED, stream=_alternating, gone=False, is_alone=True
    ),
    _change("another, with Content-Length", CHANGED, stream=[_half_of_stranger], framing="length", is_size_loose=True),
    _change("another, with an ETag that stays", CHANGED, stream=[_half_of_stranger], ranges=True, is_size_loose=True),
    _change(
        "another middle at the second answer", CHANGED, stream=[half, of(audio.other_middle)], versions=_or_other_middle
    ),
    _change(
        "other bytes in what was there, at the second answer",
        CHANGED,
        stream=[half, of(lambda c: c[:5000] + bytes(99) + c[5099:])],
    ),
    _change(
        "another, stat before; storage has another",
        CHANGED,
        stored=_stranger,
        stream=[_stranger],
        gone=False,
        is_alone=True,
        modes=("stat",),
    ),
    _change("a longer one at the second answer", CHANGED, stream=[half, of(audio.longer)]),
    _change("a shorter one at the second answer", CHANGED, stream=[half, of(audio.shorter)]),
    _change(
        "404 at the second answer",
        CHANGED | {"ENOENT"},
        stream=lambda a: list(half(a)) if a.number == 1 else no_such_object(a),
    ),
    _change("words at the second answer", CHANGED, stream=[half, text(b"the worker was restarted")]),
]


def _resumed(reply: Reply) -> Reply:
    """The first response breaks in the middle; the request for the rest gets the response of the case."""

    def answer(asked: Asked) -> list[Step]:
        if asked.has_range and asked.start > 0:
            return list(reply(asked))
        return list(half(asked)) if asked.number == 1 else well(asked)

    return answer


def _rest(content_range: str, cut: int = 0) -> Reply:
    """A 206 whose Content-Range is a text with {a}, {b}, {n}; that many bytes are missing of its body."""

    def reply(asked: Asked) -> list[Step]:
        stop = min(asked.size, asked.stop or asked.size)
        said = content_range.format(a=asked.start, b=stop - 1, n=asked.size, c=stop - 1 - cut, d=asked.start + 7)
        return [part(asked, content_range=said, data=asked.content[asked.start : stop - cut])]

    return reply


def _in_little_parts(asked: Asked) -> list[Step]:
    stop = min(asked.size, asked.start + 1000)
    return [
        part(
            asked, content_range=f"bytes {asked.start}-{stop - 1}/{asked.size}", data=asked.content[asked.start : stop]
        )
    ]


def _stored_rest(reply: Reply) -> Reply:
    """Storage works as long as a head is requested."""
    return lambda asked: list(reply(asked)) if asked.start > 0 else well(asked)


def _breaking(asked: Asked) -> list[Step]:
    """The API's first response breaks in the middle, so the rest is requested from storage, which has reported the
    size."""
    return list(broken_after(lambda a: a.size // 2, Act.CLOSE)(asked)) if asked.number == 1 else well(asked)


_resume = Group("resumes and ranges of the API", ranges=True, gone=True)
_RESUMES = [
    _resume("well", RIGHT, stream=_resumed(well)),
    _resume("a-b/*, b short of the end", RIGHT, is_notable=True, stream=_resumed(_rest("bytes {a}-{c}/*", 1000))),
    _resume("a-b/*, b the end", RIGHT, stream=_resumed(_rest("bytes {a}-{b}/*"))),
    _resume("a-b/n, b short of the end", RIGHT, stream=_resumed(_rest("bytes {a}-{c}/{n}", 1000))),
    _resume(
        "a-b/n, b short, n just behind it",
        CHANGED,
        is_size_loose=True,
        stream=_resumed(
            lambda a: [
                part(
                    a,
                    content_range=f"bytes {a.start}-{a.size - 1001}/{a.size - 1000}",
                    data=a.content[a.start : a.size - 1000],
                )
            ]
        ),
    ),
    _resume("a thousand bytes at a time", ANY, stream=_resumed(_in_little_parts)),
    _resume("another start than asked", RIGHT, stream=_resumed(_rest("bytes {d}-{b}/{n}"))),
    _resume(
        "fewer bytes than it says",
        RIGHT,
        stream=_resumed(lambda a: [part(a)[:-500], Act.CLOSE] if a.number == 2 else well(a)),
    ),
    _resume("more bytes than it says", RIGHT, stream=_resumed(lambda a: [part(a) + b"more"])),
    _resume(
        "no Content-Range",
        RIGHT,
        stream=_resumed(lambda a: [sized(a.content[a.start :], status="206 Partial Content")]),
    ),
    _resume("a Content-Range of another unit", RIGHT, stream=_resumed(_rest("items {a}-{b}/{n}"))),
    _resume(
        "an empty part",
        RIGHT,
        stream=_resumed(lambda a: [part(a, content_range=f"bytes {a.start}-{a.start - 1}/{a.size}", data=b"")]),
    ),
    _resume("the whole, ranges ignored", RIGHT, stream=_resumed(lambda a: [chunked(a.content)])),
    _resume(
        "the whole, called 206",
        RIGHT,
        stream=_resumed(
            lambda a: [
                sized(a.content, f"Content-Range: bytes 0-{a.size - 1}/{a.size}", f"ETag: {ETAG}", status="206 P")
            ]
        ),
    ),
    _resume("416", RIGHT, stream=_resumed(lambda a: [sized(b"", f"Content-Range: bytes */{a.start}", status="416 R")])),
    _resume("412", EITHER, stream=_resumed(status("412 Precondition Failed"))),
    _resume("another ETag", CHANGED, stream=_resumed(lambda a: [part(a).replace(ETAG.encode(), b'"another-version"')])),
    _resume("JSON", EITHER, stream=_resumed(says(sized(b'{"detail": "no"}', JSON)))),
    _resume("500 always", EITHER, stream=_resumed(status("500 I"))),
    _resume(
        "206 without being asked",
        EITHER,
        stream=lambda a: [sized(a.content, f"Content-Range: bytes 0-{a.size - 1}/{a.size}", status="206 P")],
    ),
    _resume(
        "the first half, called 206, without being asked",
        EITHER,
        stream=lambda a: [
            sized(a.content[: a.middle], f"Content-Range: bytes 0-{a.middle - 1}/{a.size}", status="206 P")
        ],
    ),
    _resume(
        "breaks at every answer, each brings it further",
        RIGHT,
        stream=lambda a: list(broken_after(lambda b: min(12_000, b.size - b.start))(a)),
    ),
]


_later = Group("storage in the middle of a resume", is_alone=True, modes=("whole", "tail", "two"))
_LATER = [
    _later("well", RIGHT, stream=_breaking, stored=well),
    _later(
        "429 with Retry-After: 60",
        RIGHT,
        is_notable=True,
        stream=_breaking,
        stored=_stored_rest(status("429 Too Many Requests", "Retry-After: 60")),
    ),
    *(
        _later(what, RIGHT, stream=_breaking, stored=_stored_rest(reply))
        for what, reply in {
            "500": status("500 Internal Server Error"),
            "503": status("503 Slow Down"),
            "403": status("403 Forbidden"),
            "404": no_such_object,
            "reset": says(Act.RESET),
            "reset in the middle": made_of(lambda a: part(a)[:-9000], 0.02, Act.RESET),
            "closed in the middle": made_of(lambda a: part(a)[:-9000], 0.02, Act.CLOSE),
            "another ETag": lambda a: [part(a).replace(ETAG.encode(), b'"another-version"')],
            "another total": range_says("bytes {a}-{b}/{more}"),
            "fewer bytes than asked, total *": _rest("bytes {a}-{c}/*", 1000),
            "the whole, ranges ignored": lambda a: [sized(a.content)],
            "text": text(b"the object has expired"),
        }.items()
    ),
    _later(
        "silence in the middle",
        RIGHT | SLOW,
        stream=_breaking,
        stored=_stored_rest(made_of(lambda a: part(a)[:-9000], Act.STALL)),
    ),
]

CASES: list[Case] = [*_CHANGES, *_RESUMES, *_LATER]
