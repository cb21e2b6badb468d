"""Ends that come too early, too late, or unproven."""

from __future__ import annotations

from tests.hostile import audio
from tests.hostile.case import EITHER, REFUSED, RIGHT, SLOW, Case, Group, in_chunks, of, with_head
from tests.hostile.replies import Act, Asked, Reply, Step, chunk, chunked, well


def _first(count: int) -> Reply:
    """So many bytes, and a proper end; from the end when below 0."""
    return of(lambda content: content[:count])


def _forty_percent(content: bytes) -> bytes:
    return content[: len(content) * 2 // 5]


def _fraction(part: float) -> Reply:
    return of(lambda content: content[: int(len(content) * part)])


def _at_a_frame(content: bytes) -> bytes:
    return content[: audio.frame_end(content, len(content) // 2)]


def _with_strangers(asked: Asked) -> list[Step]:
    return well(asked.having(asked.content + asked.stranger))


_short = Group("ends that come too early")
_short_alone = Group("ends that come too early", gone=True)
_SHORT = [
    _short("40 % in chunks, once; storage has the whole", RIGHT, is_notable=True, stream=[_fraction(0.4)]),
    _short_alone("40 % in chunks, once", RIGHT, stream=[_fraction(0.4)]),
    _short("40 % in chunks, twice", EITHER, stream=[_fraction(0.4)] * 2),
    _short_alone("40 % in chunks, always", REFUSED, is_notable=True, stream=_fraction(0.4), is_kept=False),
    _short("40 % in chunks, always; storage has the whole", EITHER, stream=_fraction(0.4)),
    _short(
        # Two that agree, against the number of samples in the FLAC: then that is the run.
        "40 %, always; storage has just as much",
        EITHER,
        stream=of(_forty_percent),
        holds=_forty_percent,
        versions=lambda content, _: [_forty_percent(content)],
    ),
    _short_alone("40 %, then 60 %, then the whole", EITHER, stream=[_fraction(0.4), _fraction(0.6)]),
    _short_alone("60 %, then 40 %, then the whole", EITHER, stream=[_fraction(0.6), _fraction(0.4)]),
    _short("nothing, once", EITHER, stream=[_first(0)]),
    _short("one byte, once", EITHER, stream=[_first(1)]),
    _short_alone("the magic, once", EITHER, stream=[_first(4)]),
    _short_alone("all of STREAMINFO but a byte, once", EITHER, stream=[_first(41)]),
    _short_alone("STREAMINFO, once", RIGHT, stream=[_first(42)]),
    _short_alone("STREAMINFO, always", REFUSED, stream=_first(42), is_kept=False),
    _short_alone("4,096 bytes, once", RIGHT, stream=[_first(4096)]),
    _short_alone("without the last byte, once", RIGHT, stream=[_first(-1)]),
    _short_alone("without the last byte, always", REFUSED, stream=_first(-1), is_kept=False),
    _short_alone("up to a frame's end, once", RIGHT, stream=[of(_at_a_frame)]),
    _short_alone("up to a frame's end, always", REFUSED, stream=of(_at_a_frame), is_kept=False),
    _short(
        "with the right length in a header of no meaning",
        RIGHT,
        stream=[lambda a: [chunked(a.content[:9000], f"X-Length: {a.size}")]],
    ),
    _short_alone(
        "Content-Length agrees, 40 %, once", RIGHT, stream=[_fraction(0.4)], framing="length", is_size_loose=True
    ),
    _short_alone(
        "Content-Length agrees, 40 %, always", REFUSED, stream=_fraction(0.4), framing="length", is_size_loose=True
    ),
    _short_alone("ended by closing, 40 %, once", RIGHT, stream=[_fraction(0.4)], framing="close"),
    _short_alone("ended by closing, 40 %, always", REFUSED, stream=_fraction(0.4), framing="close", is_kept=False),
    _short_alone("ended by closing, up to a frame's end, once", RIGHT, stream=[of(_at_a_frame)], framing="close"),
    _short_alone("a WAV, 40 %, once", RIGHT, stream=[_fraction(0.4)], make=audio.wav),
    _short_alone("a WAV, 40 %, always", REFUSED, stream=_fraction(0.4), make=audio.wav, is_kept=False),
    _short("a WAV, 40 %, once; storage has the whole", RIGHT, stream=[_fraction(0.4)], make=audio.wav),
    _short(
        "an MP3, 40 %, once; storage has the whole",
        RIGHT,
        stream=[_fraction(0.4)],
        make=lambda c: audio.converted(c, "mp3"),
    ),
    _short(
        "an MP3, 40 %, always; storage has the whole",
        EITHER,
        stream=_fraction(0.4),
        make=lambda c: audio.converted(c, "mp3"),
    ),
    _short(
        "an Ogg, 40 %, always; storage has the whole",
        EITHER,
        stream=_fraction(0.4),
        make=lambda c: audio.converted(c, "ogg", "-c:a", "libvorbis"),
    ),
    _short(
        "no sample count, inside a frame, once; storage has the whole", RIGHT, stream=[_fraction(0.4)], make=audio.piped
    ),
    _short(
        "no sample count, up to a frame's end, once; storage has the whole",
        RIGHT,
        stream=[of(_at_a_frame)],
        make=audio.piped,
    ),
    _short_alone("no sample count, inside a frame, once", RIGHT, stream=[_fraction(0.4)], make=audio.piped),
    _short_alone(
        "no sample count, inside a frame, always", REFUSED, stream=_fraction(0.4), make=audio.piped, is_kept=False
    ),
]

_long = Group("ends that come too late, or unproven", gone=True)
_LONG = [
    _long("500 zeros behind the audio, once", RIGHT, stream=[of(lambda content: content + bytes(500))], gone=False),
    _long(
        "500 zeros behind the audio, always", REFUSED, stream=of(lambda content: content + bytes(500)), is_kept=False
    ),
    _long(
        "a line of text behind the audio, always",
        REFUSED,
        stream=of(lambda content: content + b"\n" + b"upstream connect error"),
        is_kept=False,
    ),
    _long("another run's audio behind it, once", RIGHT, stream=[_with_strangers], gone=False),
    _long("another run's audio behind it, always", REFUSED, stream=_with_strangers, is_kept=False),
    _long(
        "a trailer chunk with JSON, always",
        REFUSED,
        stream=in_chunks(chunk, chunk(b'{"error": "late"}') + b"0\r\n\r\n"),
        is_kept=False,
    ),
    _long(
        "a WAV with text behind it, always",
        REFUSED,
        stream=of(lambda content: content + b"upstream connect error"),
        make=audio.wav,
        is_kept=False,
    ),
    _long("ended by closing, whole", RIGHT, framing="close"),
    _long("HTTP/1.0, whole", RIGHT, stream=with_head(version="1.0", then=[Act.CLOSE])),
    _long("ended by a reset behind the last byte", SLOW | RIGHT, stream=with_head(then=[0.02, Act.RESET])),
    _long("no end, then silence", SLOW | RIGHT, stream=with_head(then=[Act.STALL])),
    _long("no sample count, in chunks", RIGHT, make=audio.piped),
    _long("no sample count, in chunks; storage has it", RIGHT, make=audio.piped, gone=False, is_kept=True),
    _long("no sample count, with Content-Length", RIGHT, make=audio.piped, framing="length"),
    _long("no sample count, ended by closing", RIGHT, is_notable=True, make=audio.piped, framing="close"),
    _long("no sample count, HTTP/1.0", RIGHT, stream=with_head(version="1.0", then=[Act.CLOSE]), make=audio.piped),
    _long(
        "an MP3, ended by closing; storage has it",
        RIGHT,
        framing="close",
        make=lambda c: audio.converted(c, "mp3"),
        gone=False,
    ),
    _long("whole, ends well", RIGHT, is_kept=True),
    _long("whole, ends well; storage has it", RIGHT, gone=False, is_kept=True),
    _long("Content-Length whole, ends well", RIGHT, framing="length", is_kept=True),
]

CASES: list[Case] = [*_SHORT, *_LONG]
