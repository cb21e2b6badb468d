"""Bodies that are not audio, and audio under wrong labels."""

from __future__ import annotations

import base64
import gzip
import json

from tests.hostile import audio
from tests.hostile.case import EITHER, REFUSED, RIGHT, Case, Group, of, says, text
from tests.hostile.replies import AUDIO, Asked, Reply, Step, chunk, chunked, chunks, head, sized

_WORDS = b"upstream connect error or disconnect/reset before headers"
_EVENT = b'event: error\ndata: {"detail": "synthesis failed"}\n\n'


def _typed(content_type: str) -> Reply:
    """The audio under another label."""
    return lambda asked: [chunked(asked.content, f"Content-Type: {content_type}")]


def _unlabelled(asked: Asked) -> list[Step]:
    return [chunked(asked.content)]


_no_audio = Group("what is no audio", gone=True)
_SIGNATURES = [
    _no_audio("text/plain", REFUSED, stream=text(_WORDS), error_log="upstream connect error"),
    _no_audio("text/plain, and storage has the audio", EITHER, stream=text(_WORDS), gone=False),
    _no_audio(
        "text as audio/flac",
        REFUSED,
        is_notable=True,
        stream=text(_WORDS, "audio/flac"),
        error_log="upstream connect error",
    ),
    _no_audio("text as application/octet-stream", REFUSED, stream=text(_WORDS, "application/octet-stream")),
    _no_audio("an event stream", REFUSED, stream=text(_EVENT, "text/event-stream"), error_log="synthesis failed"),
    _no_audio("null", REFUSED, stream=text(b"null", "application/json")),
    _no_audio("null as audio/flac", REFUSED, stream=text(b"null", "audio/flac")),
    _no_audio("a JSON string", REFUSED, stream=text(b'"not ready yet"', "application/json"), error_log="not ready yet"),
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

CASES: list[Case] = [*_SIGNATURES]
