"""Cases about more than one answer: storage against stream, results that change, resumes and ranges, signed URLs."""

from __future__ import annotations

import json

from tests.hostile import audio
from tests.hostile.case import (
    ANY,
    CHANGED,
    EITHER,
    RIGHT,
    SLOW,
    Group,
    Reply,
    behind,
    broken_after,
    half,
    no_such_object,
    of,
    says,
    text,
)
from tests.hostile.replies import ETAG, JSON, Act, Asked, Step, chunk, chunked, head, part, sized, well


def _status(status: str, *headers: str) -> Reply:
    return says(sized(b"<Error><Code>SlowDown</Code></Error>", *headers, status=status))


def _trickle(asked: Asked) -> list[Step]:
    """A byte a second, for longer than anybody waits."""
    answer = part(asked)
    return [step for byte in answer[:60] for step in (bytes([byte]), 1.0)]


def _trickled_body(asked: Asked) -> list[Step]:
    headers, _, body = part(asked).partition(b"\r\n\r\n")
    return [headers + b"\r\n\r\n", *(step for byte in body[:60] for step in (bytes([byte]), 1.0))]


def _slowly(asked: Asked) -> list[Step]:
    """So that a byte far ahead is worth a range of the storage."""
    begin = head("200 OK", "Transfer-Encoding: chunked")
    pieces = [asked.content[at : at + 2**17] for at in range(0, asked.size, 2**17)]
    return [begin, *(step for piece in pieces for step in (chunk(piece), 0.08)), b"0\r\n\r\n"]


def _other_middle(content: bytes) -> bytes:
    """The same head and length."""
    middle = len(content) // 2
    return content[:middle] + bytes(500) + content[middle + 500 :]


def _other_end(content: bytes) -> bytes:
    return content[:-500] + bytes(500)


def _other_head(content: bytes) -> bytes:
    return content[:30] + bytes(16) + content[46:]


def _longer(content: bytes) -> bytes:
    return content + content[-(len(content) * 2 // 5) :]


def _shorter(content: bytes) -> bytes:
    return content[: len(content) * 3 // 5]


def _range_says(content_range: str) -> Reply:
    return lambda a: [
        part(
            a,
            content_range=content_range.format(
                n=a.size, more=a.size + 999, a=a.start, b=min(a.size, a.stop or a.size) - 1
            ),
        )
    ]


_storage = Group("storage against stream")
_alone = Group("storage against stream", is_alone=True)
_STORAGE = [
    _storage("40 % longer, the same head; stat first", EITHER, holds=_longer, modes=("stat",)),
    _storage("40 % longer, the same head", EITHER, holds=_longer),
    _storage("40 % shorter, the same head; stat first", EITHER, holds=_shorter, modes=("stat",)),
    _storage("40 % shorter, the same head", EITHER, holds=_shorter, modes=("tail",)),
    _storage("a byte longer", EITHER, holds=lambda content: content + b"\0", modes=("stat",)),
    _storage("a byte shorter", EITHER, holds=lambda content: content[:-1], modes=("map",)),
    _storage("shorter than a head", EITHER, holds=lambda content: content[:1000], modes=("stat",)),
    _storage("longer, and Content-Length tells the stream's", EITHER, holds=_longer, framing="length", modes=("stat",)),
    _alone("another head, the same length", EITHER, holds=_other_head, modes=("stat",)),
    _alone("another head; tail first", EITHER, holds=_other_head, modes=("tail",)),
    # A range with the right headers and other bytes inside shows only when the stream comes there.
    _alone(
        "other bytes at the end; tail first, of a slow and large one",
        CHANGED,
        holds=_other_end,
        versions=lambda content, _: [_other_end(content)],
        stream=_slowly,
        is_large=True,
        modes=("tail",),
    ),
    _alone("another run's audio; stat first", EITHER, stored=lambda a: well(a.having(a.stranger)), modes=("stat",)),
    _alone("another run's audio; mapped", EITHER, stored=lambda a: well(a.having(a.stranger)), modes=("map",)),
    _alone("a WAV of it", EITHER, holds=audio.wav, modes=("stat",)),
    _alone("an MP3 of it", EITHER, holds=lambda c: audio.converted(c, "mp3"), modes=("stat",)),
    _alone("text", RIGHT, holds=lambda _: b"the object has expired", modes=("stat",)),
    _alone("nothing: an empty object", RIGHT, holds=lambda _: b"", modes=("stat",)),
    _storage("no such object", RIGHT, stored=no_such_object, modes=("stat",)),
    _alone("403 always", RIGHT, stored=_status("403 Forbidden"), modes=("stat",)),
    _alone("429 always", RIGHT, stored=_status("429 Too Many Requests", "Retry-After: 60"), modes=("stat",)),
    _alone("500 always", RIGHT, stored=_status("500 Internal Server Error"), modes=("stat",)),
    _alone("503 always", RIGHT, stored=_status("503 Slow Down"), modes=("stat",)),
    _alone("503 once", RIGHT, stored=[_status("503 Slow Down")], modes=("stat",)),
    _alone("reset always", RIGHT, stored=says(Act.RESET), modes=("stat",)),
    _alone("closed without an answer, once", RIGHT, stored=[says(Act.CLOSE)], modes=("stat",)),
    _alone("silence", RIGHT, stored=says(Act.STALL), modes=("stat",)),
    _alone("a byte a second from the start", RIGHT, stored=_trickle, modes=("stat",)),
    _alone("a byte a second of the body", RIGHT, stored=_trickled_body, modes=("stat",)),
    _alone("silence in the probe's body", RIGHT, stored=lambda a: [part(a)[:-2000], Act.STALL], modes=("stat",)),
    _alone("closed in the probe's body", RIGHT, stored=lambda a: [part(a)[:-2000], Act.CLOSE], modes=("stat",)),
    _alone("ranges ignored", RIGHT, stored=lambda a: [sized(a.content)], modes=("stat",)),
    _alone("ranges ignored, in chunks", RIGHT, stored=lambda a: [chunked(a.content)], modes=("stat",)),
    _alone("a total of *", RIGHT, stored=_range_says("bytes {a}-{b}/*"), modes=("stat",)),
    _alone("a total that is too large", EITHER, stored=_range_says("bytes {a}-{b}/{more}"), modes=("stat",)),
    _alone("a total of 2^62", EITHER, stored=_range_says(f"bytes {{a}}-{{b}}/{2**62}"), modes=("stat",)),
    _alone("a total of 5,000 digits", EITHER, stored=_range_says("bytes {a}-{b}/" + "9" * 5000), modes=("stat",)),
    _alone("a total with an underscore", EITHER, stored=_range_says("bytes {a}-{b}/1_000_000"), modes=("stat",)),
    _alone("a total below the range", RIGHT, stored=_range_says("bytes {a}-{b}/17"), modes=("stat",)),
    _alone("another range than asked", RIGHT, stored=_range_says("bytes 100-4195/{n}"), modes=("stat",)),
    _alone("a multipart range", RIGHT, stored=lambda a: [sized(b"--x\r\n\r\nfLaC", "Content-Type: multipart/byteranges; boundary=x", status="206 P")], modes=("stat",)),
    _alone("gzip", RIGHT, stored=lambda a: [part(a, "Content-Encoding: gzip")], modes=("stat",)),
    _alone("redirects in a circle", RIGHT, stored=lambda a: [sized(b"", f"Location: {a.url()}", status="302 Found")], modes=("stat",)),
    _alone("a redirect to where nothing may go", RIGHT, stored=says(sized(b"", "Location: ftp://127.0.0.1/", status="302 Found")), modes=("stat",)),
    _alone("2 MB of headers", RIGHT, stored=says(head("206 P", *[f"X-{i}: {'y' * 990}" for i in range(2000)])), modes=("stat",)),
]  # fmt: skip


def _stranger(asked: Asked) -> list[Step]:
    return well(asked.having(asked.stranger))


def _half_of_stranger(asked: Asked) -> list[Step]:
    return list(half(asked.having(asked.stranger)))


def _alternating(asked: Asked) -> list[Step]:
    return _stranger(asked) if asked.number % 2 else well(asked)


def _or_stranger(_: bytes, stranger: bytes) -> list[bytes]:
    return [stranger]


def _or_other_middle(content: bytes, _: bytes) -> list[bytes]:
    return [_other_middle(content)]


_change = Group("changes between two answers", gone=True, versions=_or_stranger)
_CHANGES = [
    _change("half of another audio, then this one", CHANGED, stream=[_half_of_stranger]),
    _change("half of this one, then another", CHANGED, stream=[half, _stranger]),
    _change("half of this one, then another always", CHANGED, stream=lambda a: list(half(a)) if a.number == 1 else _stranger(a)),
    _change("halves in turns, never whole", CHANGED - RIGHT, stream=lambda a: list(half(a if a.number % 2 else a.having(a.stranger)))),
    _change("40 % of another, properly ended, then this one", CHANGED, stream=[lambda a: well(a.having(a.stranger[:20_000]))]),
    _change("one and the other in turns, whole", CHANGED, stream=_alternating),
    _change("one and the other in turns; storage has this one", CHANGED, stream=_alternating, gone=False, is_alone=True),
    _change("another, with Content-Length", CHANGED, stream=[_half_of_stranger], framing="length", is_size_loose=True),
    _change("another, with an ETag that stays", CHANGED, stream=[_half_of_stranger], ranges=True, is_size_loose=True),
    _change("another middle at the second answer", CHANGED, stream=[half, of(_other_middle)], versions=_or_other_middle),
    _change("other bytes in what was there, at the second answer", CHANGED, stream=[half, of(lambda c: c[:5000] + bytes(99) + c[5099:])]),
    _change("another, stat before; storage has another", CHANGED, stored=_stranger, stream=[_stranger], gone=False, is_alone=True, modes=("stat",)),
    _change("a longer one at the second answer", CHANGED, stream=[half, of(_longer)]),
    _change("a shorter one at the second answer", CHANGED, stream=[half, of(_shorter)]),
    _change("404 at the second answer", CHANGED | {"ENOENT"}, stream=lambda a: list(half(a)) if a.number == 1 else no_such_object(a)),
    _change("words at the second answer", CHANGED, stream=[half, text(b"the worker was restarted")]),
]  # fmt: skip


def _resumed(reply: Reply) -> Reply:
    """The first answer breaks in the middle; what asks for the rest is answered as a case says."""

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
    """Storage is well as long as it is asked for a head."""
    return lambda asked: list(reply(asked)) if asked.start > 0 else well(asked)


def _breaking(asked: Asked) -> list[Step]:
    """The API's first answer breaks in the middle; so storage, which told the size meanwhile, is asked for the rest."""
    return list(broken_after(lambda a: a.size // 2, Act.CLOSE)(asked)) if asked.number == 1 else well(asked)


_resume = Group("resumes and ranges of the API", ranges=True, gone=True)
_RESUMES = [
    _resume("well", RIGHT, stream=_resumed(well)),
    _resume("a-b/*, b short of the end", RIGHT, stream=_resumed(_rest("bytes {a}-{c}/*", 1000))),
    _resume("a-b/*, b the end", RIGHT, stream=_resumed(_rest("bytes {a}-{b}/*"))),
    _resume("a-b/n, b short of the end", RIGHT, stream=_resumed(_rest("bytes {a}-{c}/{n}", 1000))),
    _resume("a-b/n, b short, n just behind it", CHANGED, stream=_resumed(lambda a: [part(a, content_range=f"bytes {a.start}-{a.size - 1001}/{a.size - 1000}", data=a.content[a.start : a.size - 1000])])),
    _resume("a thousand bytes at a time", ANY, stream=_resumed(_in_little_parts)),
    _resume("another start than asked", RIGHT, stream=_resumed(_rest("bytes {d}-{b}/{n}"))),
    _resume("fewer bytes than it says", RIGHT, stream=_resumed(lambda a: [part(a)[:-500], Act.CLOSE] if a.number == 2 else well(a))),
    _resume("more bytes than it says", RIGHT, stream=_resumed(lambda a: [part(a) + b"more"])),
    _resume("no Content-Range", RIGHT, stream=_resumed(lambda a: [sized(a.content[a.start :], status="206 Partial Content")])),
    _resume("a Content-Range of another unit", RIGHT, stream=_resumed(_rest("items {a}-{b}/{n}"))),
    _resume("an empty part", RIGHT, stream=_resumed(lambda a: [part(a, content_range=f"bytes {a.start}-{a.start - 1}/{a.size}", data=b"")])),
    _resume("the whole, ranges ignored", RIGHT, stream=_resumed(lambda a: [chunked(a.content)])),
    _resume("the whole, called 206", RIGHT, stream=_resumed(lambda a: [sized(a.content, f"Content-Range: bytes 0-{a.size - 1}/{a.size}", f"ETag: {ETAG}", status="206 P")])),
    _resume("416", RIGHT, stream=_resumed(lambda a: [sized(b"", f"Content-Range: bytes */{a.start}", status="416 R")])),
    _resume("412", EITHER, stream=_resumed(_status("412 Precondition Failed"))),
    _resume("another ETag", CHANGED, stream=_resumed(lambda a: [part(a).replace(ETAG.encode(), b'"another-version"')])),
    _resume("JSON", EITHER, stream=_resumed(says(sized(b'{"detail": "no"}', JSON)))),
    _resume("500 always", EITHER, stream=_resumed(_status("500 I"))),
    _resume("206 without being asked", EITHER, stream=lambda a: [sized(a.content, f"Content-Range: bytes 0-{a.size - 1}/{a.size}", status="206 P")]),
    _resume("the first half, called 206, without being asked", EITHER, stream=lambda a: [sized(a.content[: a.middle], f"Content-Range: bytes 0-{a.middle - 1}/{a.size}", status="206 P")]),
    _resume("breaks at every answer, each brings it further", RIGHT, stream=lambda a: list(broken_after(lambda b: min(12_000, b.size - b.start))(a))),
]  # fmt: skip


def _falls_silent(asked: Asked) -> list[Step]:
    return [part(asked)[:-9000], Act.STALL]


_later = Group("storage in the middle of a resume", is_alone=True, modes=("whole", "tail", "two"))
_LATER = [
    _later("well", RIGHT, stream=_breaking, stored=well),
    *(
        _later(what, RIGHT, stream=_breaking, stored=_stored_rest(reply))
        for what, reply in {
            "429": _status("429 Too Many Requests", "Retry-After: 60"),
            "500": _status("500 Internal Server Error"),
            "503": _status("503 Slow Down"),
            "403": _status("403 Forbidden"),
            "404": no_such_object,
            "reset": says(Act.RESET),
            "reset in the middle": lambda a: [part(a)[:-9000], 0.02, Act.RESET],
            "closed in the middle": lambda a: [part(a)[:-9000], 0.02, Act.CLOSE],
            "another ETag": lambda a: [part(a).replace(ETAG.encode(), b'"another-version"')],
            "another total": _range_says("bytes {a}-{b}/{more}"),
            "fewer bytes than asked, total *": _rest("bytes {a}-{c}/*", 1000),
            "the whole, ranges ignored": lambda a: [sized(a.content)],
            "text": text(b"the object has expired"),
        }.items()
    ),
    _later("silence in the middle", RIGHT | SLOW, stream=_breaking, stored=_stored_rest(_falls_silent)),
]  # fmt: skip


def _answers(found: object) -> Reply:
    return says(sized(json.dumps(found).encode(), JSON))


def _url_of_another(asked: Asked) -> list[Step]:
    """The neighbour's that was read before."""
    return [sized(json.dumps({"output_url": asked.url(asked.run_id - 1)}).encode(), JSON)]


_NO_URL = frozenset({"EIO", "ETIMEDOUT"})
# `.url` fails, or shows what may be shown; nothing else is lost.
_ANY_URL = _NO_URL | {"right"}
_file_url = Group("file_url answers", modes=("stat", "whole", "map"), url=_NO_URL)
_FILE_URL = [
    _file_url("500 always", RIGHT, sign=_status("500 Internal Server Error")),
    _file_url("429 with Retry-After: 60", RIGHT, sign=_status("429 Too Many Requests", "Retry-After: 60")),
    _file_url("429 without Retry-After", RIGHT, sign=_status("429 Too Many Requests")),
    _file_url("no answer", RIGHT, sign=says(Act.STALL), modes=("stat",)),
    _file_url("closed without an answer", RIGHT, sign=says(Act.CLOSE), url=ANY | {"ECONNREFUSED", "EHOSTUNREACH"}, is_alone=True),
    _file_url("reset", RIGHT, sign=says(Act.RESET), url=ANY | {"ECONNREFUSED", "EHOSTUNREACH"}, is_alone=True),
    _file_url("null", RIGHT, sign=_answers(None)),
    _file_url("a number", RIGHT, sign=_answers(42)),
    _file_url("a list", RIGHT, sign=_answers(["https://storage.example/a.flac"])),
    _file_url("a string", RIGHT, sign=_answers("https://storage.example/a.flac"), url=_ANY_URL),
    _file_url("an empty object", RIGHT, sign=_answers({})),
    _file_url("output_url null", RIGHT, sign=_answers({"output_url": None})),
    _file_url("output_url a number", RIGHT, sign=_answers({"output_url": 42})),
    _file_url("output_url empty", RIGHT, sign=_answers({"output_url": ""})),
    _file_url("output_url javascript:", RIGHT, sign=_answers({"output_url": "javascript:alert(1)"})),
    _file_url("output_url file:", RIGHT, sign=_answers({"output_url": "file:///etc/passwd"})),
    _file_url("output_url in another local network", RIGHT, sign=_answers({"output_url": "ftp://169.254.169.254/x"})),
    _file_url("garbage", RIGHT, sign=says(sized(bytes(range(256)), JSON))),
    _file_url("truncated JSON", RIGHT, sign=says(sized(b'{"output_url": "https://stor', JSON))),
    _file_url("JSON nested 100,000 deep", RIGHT, sign=says(sized(b"[" * 100_000, JSON))),
    _file_url("2 MB of JSON", RIGHT, sign=lambda a: [sized(json.dumps({"output_url": a.url(), "x": "y" * 2**21}).encode(), JSON)]),
    _file_url("500 KB of JSON beside the URL", RIGHT, sign=lambda a: [sized(json.dumps({"output_url": a.url(), "x": "y" * 500_000}).encode(), JSON)], url=_ANY_URL),
    _file_url("JSON without an end", RIGHT, sign=says(head("200 OK", JSON, "Transfer-Encoding: chunked") + b"5\r\n{\"out", Act.STALL), modes=("stat",)),
    _file_url("HTML", RIGHT, sign=text(b"<html>Bad Gateway</html>", "text/html")),
    _file_url("204", RIGHT, sign=says(head("204 No Content"))),
    _file_url("the audio itself", RIGHT, sign=lambda a: [chunked(a.content)]),
    _file_url("a URL that nobody answers at", RIGHT, sign=_answers({"output_url": "http://127.0.0.1:1/a.flac?X-Amz-Signature=1"}), url=_ANY_URL, is_alone=True),
    _file_url("another run's URL", EITHER, is_alone=True, sign=_url_of_another, url=RIGHT, modes=("stat",)),
    _file_url("another run's URL; mapped", EITHER, is_alone=True, sign=_url_of_another, url=RIGHT, modes=("map",)),
    _file_url("well, and more behind it", RIGHT, sign=behind(0.02, b"surplus"), url=RIGHT),
]  # fmt: skip


def _bulk(value: object) -> Reply:
    """Every run's entry is some value, in which {url} stands for the right one."""

    def reply(asked: Asked) -> list[Step]:
        entry = {str(run): json.loads(json.dumps(value).replace("{url}", asked.url(run))) for run in asked.run_ids}
        return [sized(json.dumps(entry).encode(), JSON)]

    return reply


def _swapped(asked: Asked) -> list[Step]:
    runs = list(asked.run_ids)
    found = {str(run): {"output_url": asked.url(other)} for run, other in zip(runs, runs[1:] + runs[:1], strict=True)}
    return [sized(json.dumps(found).encode(), JSON)]


def _all_the_same(asked: Asked) -> list[Step]:
    found = {str(run): {"output_url": asked.url(asked.run_ids[0])} for run in asked.run_ids}
    return [sized(json.dumps(found).encode(), JSON)]


_in_bulk = Group("bulk answers", is_alone=True, modes=("list_all",))
_BULK = [
    _in_bulk("well", RIGHT, bulk=well),
    _in_bulk("well, as strings", RIGHT, bulk=_bulk("{url}")),
    _in_bulk("the URLs of the runs swapped", EITHER, bulk=_swapped),
    _in_bulk("the same URL for all", EITHER, bulk=_all_the_same),
    _in_bulk("null for each", RIGHT, bulk=_bulk(None)),
    _in_bulk("numbers", RIGHT, bulk=_bulk(7)),
    _in_bulk("objects in objects", RIGHT, bulk=_bulk({"output_url": {"output_url": "{url}"}})),
    _in_bulk("empty", RIGHT, bulk=_answers({})),
    _in_bulk("a list", RIGHT, bulk=_answers([])),
    _in_bulk("runs that nobody asked for", RIGHT, bulk=_answers({"999999": "https://storage.example/x.flac"})),
    _in_bulk("500 always", RIGHT, bulk=_status("500 Internal Server Error")),
    _in_bulk("429 with Retry-After: 60", RIGHT, bulk=_status("429 T", "Retry-After: 60")),
    _in_bulk("404", RIGHT, bulk=_status("404 Not Found")),
    _in_bulk("silence", RIGHT, bulk=says(Act.STALL)),
    _in_bulk("closed without an answer", RIGHT, bulk=says(Act.CLOSE)),
    _in_bulk("102 before it", RIGHT, bulk=lambda a: [head("102 Processing"), 0.05, *well(a)], is_odd=True),
    _in_bulk("the audio", RIGHT, bulk=lambda a: [chunked(a.content)]),
    _in_bulk("a whole second answer behind it", RIGHT, bulk=lambda a: [*well(a), 0.001, chunked(a.stranger)]),
]  # fmt: skip

CASES = [*_STORAGE, *_CHANGES, *_RESUMES, *_LATER, *_FILE_URL, *_BULK]
