"""Storage that differs from the stream, or does not work."""

from __future__ import annotations

from tests.hostile import audio
from tests.hostile.case import CHANGED, EITHER, RIGHT, Case, Group, made_of, no_such_object, range_says, says, status
from tests.hostile.replies import Act, Asked, Step, chunk, chunked, head, part, sized, well


def _trickle(asked: Asked) -> list[Step]:
    """A byte a second, for longer than any reader waits."""
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


_storage = Group("storage against stream", may_claim_size=True)
_alone = Group("storage against stream", is_alone=True, may_claim_size=True)
_STORAGE = [
    _storage("40 % longer, the same head; stat first", EITHER, is_notable=True, holds=audio.longer, modes=("stat",)),
    _storage("40 % longer, the same head", EITHER, holds=audio.longer),
    _storage("40 % shorter, the same head; stat first", EITHER, holds=audio.shorter, modes=("stat",)),
    _storage("40 % shorter, the same head", EITHER, holds=audio.shorter, modes=("tail",)),
    _storage("a byte longer", EITHER, holds=lambda content: content + b"\0", modes=("stat",)),
    _storage("a byte shorter", EITHER, holds=lambda content: content[:-1], modes=("tail",)),
    _storage("shorter than a head", EITHER, holds=lambda content: content[:1000], modes=("stat",)),
    _storage(
        "longer, and Content-Length tells the stream's", EITHER, holds=audio.longer, framing="length", modes=("stat",)
    ),
    _alone("another head, the same length", EITHER, holds=audio.other_head, modes=("stat",)),
    _alone("another head; tail first", EITHER, holds=audio.other_head, modes=("tail",)),
    # A range with the right headers and other bytes inside shows only when the stream comes there.
    _alone(
        "other bytes at the end; tail first, of a slow and large one",
        CHANGED,
        holds=audio.other_end,
        versions=lambda content, _: [audio.other_end(content)],
        stream=_slowly,
        is_large=True,
        modes=("tail",),
    ),
    _alone("another run's audio; stat first", EITHER, stored=lambda a: well(a.having(a.stranger)), modes=("stat",)),
    _alone("a WAV of it", EITHER, holds=audio.wav, modes=("stat",)),
    _alone("an MP3 of it", EITHER, holds=lambda c: audio.converted(c, "mp3"), modes=("stat",)),
    _alone("text", RIGHT, holds=lambda _: b"the object has expired", modes=("stat",)),
    _alone("nothing: an empty object", RIGHT, holds=lambda _: b"", modes=("stat",)),
    _storage("no such object", RIGHT, stored=no_such_object, modes=("stat",)),
    _alone("403 always", RIGHT, stored=status("403 Forbidden"), modes=("stat",)),
    _alone("429 always", RIGHT, stored=status("429 Too Many Requests", "Retry-After: 60"), modes=("stat",)),
    _alone("500 always", RIGHT, stored=status("500 Internal Server Error"), modes=("stat",)),
    _alone("503 always", RIGHT, stored=status("503 Slow Down"), modes=("stat",)),
    _alone("503 once", RIGHT, stored=[status("503 Slow Down")], modes=("stat",)),
    _alone("reset always", RIGHT, stored=says(Act.RESET), modes=("stat",)),
    _alone("closed without an answer, once", RIGHT, stored=[says(Act.CLOSE)], modes=("stat",)),
    _alone("silence", RIGHT, stored=says(Act.STALL), modes=("stat",)),
    _alone("a byte a second from the start", RIGHT, stored=_trickle, modes=("stat",)),
    _alone("a byte a second of the body", RIGHT, is_notable=True, stored=_trickled_body, modes=("stat",)),
    _alone("silence in the probe's body", RIGHT, stored=made_of(lambda a: part(a)[:-2000], Act.STALL), modes=("stat",)),
    _alone("closed in the probe's body", RIGHT, stored=made_of(lambda a: part(a)[:-2000], Act.CLOSE), modes=("stat",)),
    _alone("ranges ignored", RIGHT, stored=lambda a: [sized(a.content)], modes=("stat",)),
    _alone("ranges ignored, in chunks", RIGHT, stored=lambda a: [chunked(a.content)], modes=("stat",)),
    _alone("a total of *", RIGHT, stored=range_says("bytes {a}-{b}/*"), modes=("stat",)),
    _alone("a total that is too large", EITHER, stored=range_says("bytes {a}-{b}/{more}"), modes=("stat",)),
    _alone("a total of 2^62", EITHER, stored=range_says(f"bytes {{a}}-{{b}}/{2**62}"), modes=("stat",)),
    _alone("a total of 5,000 digits", EITHER, stored=range_says("bytes {a}-{b}/" + "9" * 5000), modes=("stat",)),
    _alone("a total with an underscore", EITHER, stored=range_says("bytes {a}-{b}/1_000_000"), modes=("stat",)),
    _alone("a total below the range", RIGHT, stored=range_says("bytes {a}-{b}/17"), modes=("stat",)),
    _alone("another range than asked", RIGHT, stored=range_says("bytes 100-4195/{n}"), modes=("stat",)),
    _alone(
        "a multipart range",
        RIGHT,
        stored=says(sized(b"--x\r\n\r\nfLaC", "Content-Type: multipart/byteranges; boundary=x", status="206 P")),
        modes=("stat",),
    ),
    _alone("gzip", RIGHT, stored=lambda a: [part(a, "Content-Encoding: gzip")], modes=("stat",)),
    _alone(
        "redirects in a circle",
        RIGHT,
        stored=lambda a: [sized(b"", f"Location: {a.url()}", status="302 Found")],
        modes=("stat",),
    ),
    _alone(
        "a redirect to where nothing may go",
        RIGHT,
        stored=says(sized(b"", "Location: ftp://127.0.0.1/", status="302 Found")),
        modes=("stat",),
    ),
    _alone(
        "2 MB of headers",
        RIGHT,
        stored=says(head("206 P", *[f"X-{i}: {'y' * 990}" for i in range(2000)])),
        modes=("stat",),
    ),
]

CASES: list[Case] = [*_STORAGE]
