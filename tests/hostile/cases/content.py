"""Cases about what a body holds: signatures of what is no audio, and ends that come too early, too late or unproven."""

from __future__ import annotations

import base64
import gzip
import json

from tests.hostile import audio
from tests.hostile.case import EITHER, REFUSED, RIGHT, SLOW, Group, Reply, in_chunks, of, says, text, with_head
from tests.hostile.replies import AUDIO, Act, Asked, Step, chunk, chunked, chunks, head, sized, well

_WORDS = b"upstream connect error or disconnect/reset before headers"
_EVENT = b'event: error\ndata: {"detail": "synthesis failed"}\n\n'


def _typed(content_type: str) -> Reply:
    """The audio under another label."""
    return lambda asked: [chunked(asked.content, f"Content-Type: {content_type}")]


def _unlabelled(asked: Asked) -> list[Step]:
    return [chunked(asked.content)]


_no_audio = Group("what is no audio", gone=True)
_SIGNATURES = [
    _no_audio("text/plain", REFUSED, stream=text(_WORDS), journal="upstream connect error"),
    _no_audio("text/plain, and storage has the audio", EITHER, stream=text(_WORDS), gone=False),
    _no_audio("text as audio/flac", REFUSED, stream=text(_WORDS, "audio/flac"), journal="upstream connect error"),
    _no_audio("text as application/octet-stream", REFUSED, stream=text(_WORDS, "application/octet-stream")),
    _no_audio("an event stream", REFUSED, stream=text(_EVENT, "text/event-stream"), journal="synthesis failed"),
    _no_audio("null", REFUSED, stream=text(b"null", "application/json")),
    _no_audio("null as audio/flac", REFUSED, stream=text(b"null", "audio/flac")),
    _no_audio("a JSON string", REFUSED, stream=text(b'"not ready yet"', "application/json"), journal="not ready yet"),
    _no_audio("a JSON string as audio/flac", REFUSED, stream=text(b'"not ready yet"', "audio/flac")),
    _no_audio("a JSON number as audio/flac", REFUSED, stream=text(b"42", "audio/flac")),
    _no_audio("true as octets", REFUSED, stream=text(b"true", "application/octet-stream")),
    _no_audio("a JSON object as audio/flac", REFUSED, stream=text(b'{"detail": "no audio yet"}', "audio/flac")),
    _no_audio("JSON behind a BOM", REFUSED, stream=text(b"\xef\xbb\xbf" + b'{"detail": "no audio yet"}', "audio/flac")),
    _no_audio("UTF-16", REFUSED, stream=text(_WORDS.decode().encode("utf-16"), "audio/flac")),
    _no_audio("UTF-32", REFUSED, stream=text(_WORDS.decode().encode("utf-32"), "audio/flac")),
    _no_audio("HTML as audio/flac", REFUSED, stream=text(b"<!DOCTYPE html><title>Bad Gateway</title>", "audio/flac")),
    _no_audio("HTML behind a comment and spaces", REFUSED, stream=text(b" " * 600 + b"<!-- --><html>no</html>")),
    _no_audio("XML as audio/flac", REFUSED, stream=text(b"<?xml version='1.0'?><Error/>", "audio/flac")),
    _no_audio("terminal escapes", REFUSED, stream=text(b"\x1b]0;owned\x07\x1b[31mfailed\x9b0m\r\n")),
    _no_audio("words that begin with f", REFUSED, stream=text(b"failed to fetch the audio", "audio/flac")),
    _no_audio(
        "words whose first letter comes alone",
        REFUSED,
        stream=says(
            head("200 OK", AUDIO, "Transfer-Encoding: chunked") + chunk(b"f"), 0.05, chunk(b"ailed") + b"0\r\n\r\n"
        ),
    ),
    _no_audio("lower case flac", REFUSED, stream=of(lambda content: b"flac" + content[4:])),
    _no_audio("white space before the audio", REFUSED, stream=of(lambda content: b"\r\n" + content)),
    _no_audio("a BOM before the audio", REFUSED, stream=of(lambda content: b"\xef\xbb\xbf" + content)),
    _no_audio("the audio as base64", REFUSED, stream=of(base64.b64encode)),
    _no_audio(
        "the audio as a data URL", REFUSED, stream=of(lambda c: b"data:audio/flac;base64," + base64.b64encode(c))
    ),
    _no_audio(
        "the audio as JSON", REFUSED, stream=of(lambda c: json.dumps({"audio": base64.b64encode(c).decode()}).encode())
    ),
    _no_audio("the audio gzipped, unsaid", REFUSED, stream=of(gzip.compress)),
    _no_audio("chunk framing as content", REFUSED, stream=of(lambda content: chunks(content) + b"0\r\n\r\n")),
    _no_audio("a whole HTTP response as content", REFUSED, stream=of(lambda content: sized(content, AUDIO))),
    _no_audio(
        "a multipart body", REFUSED, stream=of(lambda content: b"--x\r\nContent-Type: audio/flac\r\n\r\n" + content)
    ),
    _no_audio("zeros", REFUSED, stream=of(lambda content: bytes(len(content)))),
    _no_audio("spaces", REFUSED, stream=of(lambda content: b" " * len(content))),
    _no_audio("0xFF", REFUSED, stream=of(lambda content: b"\xff" * len(content))),
    _no_audio("empty, in chunks", REFUSED, stream=of(lambda _: b"")),
    _no_audio("empty, Content-Length: 0", REFUSED, stream=of(lambda _: b""), framing="length"),
    _no_audio("empty, ended by closing", REFUSED, stream=of(lambda _: b""), framing="close"),
    _no_audio("one letter", REFUSED, stream=of(lambda _: b"f")),
    _no_audio("fLaC and nothing else", REFUSED, stream=of(lambda _: b"fLaC")),
    _no_audio("fLaC and then words", REFUSED, stream=of(lambda _: b"fLaC: " + _WORDS)),
    _no_audio("a PNG", REFUSED, stream=of(lambda content: b"\x89PNG\r\n\x1a\n" + content)),
    _no_audio("a PDF", REFUSED, stream=of(lambda content: b"%PDF-1.7\n" + content)),
    _no_audio("a ZIP", REFUSED, stream=of(lambda content: b"PK\3\4" + content)),
    _no_audio("a RIFF that is no WAVE", REFUSED, stream=of(lambda content: b"RIFF\x00\x10\0\0WEBP" + content)),
    _no_audio("OggS alone", REFUSED, stream=of(lambda _: b"OggS")),
    _no_audio("an ID3 tag before words", REFUSED, stream=of(lambda _: audio.with_id3(_WORDS))),
    _no_audio("an MP3 frame head before words", REFUSED, stream=of(lambda _: b"\xff\xfb\x90\x64" + _WORDS)),
    _no_audio("ftyp of a length that cannot be", REFUSED, stream=of(lambda content: b"\xff\0\0\x01ftypM4A " + content)),
    _no_audio("words in the first answer only", EITHER, stream=[text(_WORDS)], gone=False),
    _no_audio("labelled text/html, and is audio", RIGHT, stream=_typed("text/html"), gone=False),
    _no_audio("labelled application/json, and is audio", RIGHT, stream=_typed("application/json"), gone=False),
    _no_audio("labelled audio/mpeg, and is FLAC", RIGHT, stream=_typed("audio/mpeg"), gone=False),
    _no_audio("not labelled, and is audio", RIGHT, stream=_unlabelled, gone=False),
    _no_audio("FLAC behind ID3", RIGHT, make=audio.with_id3),
    _no_audio("a WAV", RIGHT, make=audio.wav),
    _no_audio("an MP3", RIGHT, make=lambda c: audio.converted(c, "mp3")),
    _no_audio("an Ogg", RIGHT, make=lambda c: audio.converted(c, "ogg", "-c:a", "libvorbis")),
    _no_audio("an MP4", RIGHT, make=lambda c: audio.converted(c, "mp4", "-c:a", "aac")),
]


def _first(count: int) -> Reply:
    """So many bytes, and a proper end; from the end when below 0."""
    return of(lambda content: content[:count])


def _fraction(part: float) -> Reply:
    return of(lambda content: content[: int(len(content) * part)])


def _at_a_frame(content: bytes) -> bytes:
    return content[: audio.frame_end(content, len(content) // 2)]


def _with_strangers(asked: Asked) -> list[Step]:
    return well(asked.having(asked.content + asked.stranger))


_short = Group("ends that come too early")
_short_alone = Group("ends that come too early", gone=True)
_SHORT = [
    _short("40 % in chunks, once; storage has the whole", RIGHT, stream=[_fraction(0.4)]),
    _short_alone("40 % in chunks, once", RIGHT, stream=[_fraction(0.4)]),
    _short("40 % in chunks, twice", EITHER, stream=[_fraction(0.4)] * 2),
    _short_alone("40 % in chunks, always", REFUSED, stream=_fraction(0.4), is_kept=False),
    _short("40 % in chunks, always; storage has the whole", EITHER, stream=_fraction(0.4)),
    _short("40 %, always; storage has just as much", REFUSED, stream=_fraction(0.4), stored=_fraction(0.4), is_kept=False),
    _short_alone("40 %, then 60 %, then the whole", EITHER, stream=[_fraction(0.4), _fraction(0.6)]),
    _short_alone("60 %, then 40 %, then the whole", EITHER, stream=[_fraction(0.6), _fraction(0.4)]),
    _short("nothing, once", EITHER, stream=[_first(0)]),
    _short("one byte, once", RIGHT, stream=[_first(1)]),
    _short_alone("the magic, once", RIGHT, stream=[_first(4)]),
    _short_alone("all of STREAMINFO but a byte, once", RIGHT, stream=[_first(41)]),
    _short_alone("STREAMINFO, once", RIGHT, stream=[_first(42)]),
    _short_alone("STREAMINFO, always", REFUSED, stream=_first(42), is_kept=False),
    _short_alone("4,096 bytes, once", RIGHT, stream=[_first(4096)]),
    _short_alone("without the last byte, once", RIGHT, stream=[_first(-1)]),
    _short_alone("without the last byte, always", REFUSED, stream=_first(-1), is_kept=False),
    _short_alone("up to a frame's end, once", RIGHT, stream=[of(_at_a_frame)]),
    _short_alone("up to a frame's end, always", REFUSED, stream=of(_at_a_frame), is_kept=False),
    _short("with the right length in a header of no meaning", RIGHT, stream=[lambda a: [chunked(a.content[:9000], f"X-Length: {a.size}")]]),
    _short_alone("Content-Length agrees, 40 %, once", RIGHT, stream=[_fraction(0.4)], framing="length", is_size_loose=True),
    _short_alone("Content-Length agrees, 40 %, always", REFUSED, stream=_fraction(0.4), framing="length", is_size_loose=True),
    _short_alone("ended by closing, 40 %, once", RIGHT, stream=[_fraction(0.4)], framing="close"),
    _short_alone("ended by closing, 40 %, always", REFUSED, stream=_fraction(0.4), framing="close", is_kept=False),
    _short_alone("ended by closing, up to a frame's end, once", RIGHT, stream=[of(_at_a_frame)], framing="close"),
    _short_alone("a WAV, 40 %, once", RIGHT, stream=[_fraction(0.4)], make=audio.wav),
    _short_alone("a WAV, 40 %, always", REFUSED, stream=_fraction(0.4), make=audio.wav, is_kept=False),
    _short("a WAV, 40 %, once; storage has the whole", RIGHT, stream=[_fraction(0.4)], make=audio.wav),
    _short("an MP3, 40 %, once; storage has the whole", RIGHT, stream=[_fraction(0.4)], make=lambda c: audio.converted(c, "mp3")),
    _short("an MP3, 40 %, always; storage has the whole", EITHER, stream=_fraction(0.4), make=lambda c: audio.converted(c, "mp3")),
    _short("an Ogg, 40 %, always; storage has the whole", EITHER, stream=_fraction(0.4), make=lambda c: audio.converted(c, "ogg", "-c:a", "libvorbis")),
    _short("no sample count, inside a frame, once; storage has the whole", RIGHT, stream=[_fraction(0.4)], make=audio.piped),
    _short("no sample count, up to a frame's end, once; storage has the whole", RIGHT, stream=[of(_at_a_frame)], make=audio.piped),
    _short_alone("no sample count, inside a frame, once", RIGHT, stream=[_fraction(0.4)], make=audio.piped),
    _short_alone("no sample count, inside a frame, always", REFUSED, stream=_fraction(0.4), make=audio.piped, is_kept=False),
]  # fmt: skip

_long = Group("ends that come too late, or unproven", gone=True)
_LONG = [
    _long("500 zeros behind the audio, once", RIGHT, stream=[of(lambda content: content + bytes(500))], gone=False),
    _long("500 zeros behind the audio, always", REFUSED, stream=of(lambda content: content + bytes(500)), is_kept=False),
    _long("a line of text behind the audio, always", REFUSED, stream=of(lambda content: content + b"\n" + _WORDS), is_kept=False),
    _long("another run's audio behind it, once", RIGHT, stream=[_with_strangers], gone=False),
    _long("another run's audio behind it, always", REFUSED, stream=_with_strangers, is_kept=False),
    _long("the audio twice, always", REFUSED, stream=of(lambda content: content * 2), is_kept=False),
    _long("a trailer chunk with JSON, always", REFUSED, stream=in_chunks(chunk, chunk(b'{"error": "late"}') + b"0\r\n\r\n"), is_kept=False),
    _long("a WAV with text behind it, always", REFUSED, stream=of(lambda content: content + _WORDS), make=audio.wav, is_kept=False),
    _long("ended by closing, whole", RIGHT, framing="close"),
    _long("HTTP/1.0, whole", RIGHT, stream=with_head(version="1.0", then=[Act.CLOSE])),
    _long("ended by a reset behind the last byte", SLOW | RIGHT, stream=with_head(then=[0.02, Act.RESET])),
    _long("no end, then silence", SLOW | RIGHT, stream=with_head(then=[Act.STALL])),
    _long("no sample count, in chunks", RIGHT, make=audio.piped),
    _long("no sample count, in chunks; storage has it", RIGHT, make=audio.piped, gone=False, is_kept=True),
    _long("no sample count, with Content-Length", RIGHT, make=audio.piped, framing="length"),
    _long("no sample count, ended by closing", RIGHT, make=audio.piped, framing="close"),
    _long("no sample count, HTTP/1.0", RIGHT, stream=with_head(version="1.0", then=[Act.CLOSE]), make=audio.piped),
    _long("an MP3, ended by closing; storage has it", RIGHT, framing="close", make=lambda c: audio.converted(c, "mp3"), gone=False),
    _long("whole, ends well", RIGHT, is_kept=True),
    _long("whole, ends well; storage has it", RIGHT, gone=False, is_kept=True),
    _long("Content-Length whole, ends well", RIGHT, framing="length", is_kept=True),
]  # fmt: skip

CASES = [*_SIGNATURES, *_SHORT, *_LONG]
