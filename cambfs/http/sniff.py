"""Checks by its first bytes whether a response is audio: servers send errors as 200, and label audio wrongly.

`audio` knows the formats. No threads of its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

from cambfs import audio, flac
from cambfs.errors import BrokenBody, LinkError, NotAudio
from cambfs.redaction.masking import Key
from cambfs.redaction.response_text import first_words, with_words

# The magic word of FLAC, and the length and type of its first block.
_LEAST_BYTES = 8
# So much of a text is read for its message.
_MAX_TEXT = 65536
# How audio begins, the length of an MP4's first box, below 64 KiB, among it.
_BEGINNINGS = (flac.MAGIC, b"ID3", b"RIFF", b"RF64", b"BW64", b"OggS", b"\xff", b"\0\0")


class Peekable(Protocol):
    framed: bool

    def peek(self, count: int, deadline: float) -> bytes: ...


def refuse_other_than_audio(body: Peekable, status: int, what: str, deadline: float, hide: Key) -> None:
    """Raises NotAudio, with a text that begins with `what` and lacks `hide`, unless the body begins as an audio file
    does, whatever its label says. Takes no byte from the body. Raises BrokenBody for the very beginning of a FLAC, and
    for a body that could have been audio when only the end of the connection ended it. Raises LinkError as `peek`
    does."""
    start = body.peek(_LEAST_BYTES, deadline)
    if _may_be_audio(start):
        if audio.signature(start) == "FLAC":
            return  # no more than is needed: the first bytes of a slow stream are not held back
        start = body.peek(audio.SIGNATURE_BYTES, deadline)
        if audio.signature(start):
            return
        is_cut_short = start.startswith(flac.MAGIC) and len(start) < flac.STREAMINFO_END
        if is_cut_short or (not body.framed and len(start) < audio.SIGNATURE_BYTES):
            raise BrokenBody(f"{what}: the connection ended before the type of the response was clear")
    if not start:
        raise NotAudio(f"{what}: the API sent an empty response instead of audio", status)
    words = first_words(_text(body, start, deadline), hide)
    raise NotAudio(with_words(f"{what}: the API sent something other than audio", words), status)


def _may_be_audio(start: bytes) -> bool:
    """Whether more bytes could make it audio."""
    return any(start.startswith(one) or one.startswith(start) for one in _BEGINNINGS)


def _text(body: Peekable, start: bytes, deadline: float) -> bytes:
    """As much of a text as arrives. A text that stalls, as streams of events do, is recognised by its beginning."""
    with suppress(LinkError):
        return body.peek(_MAX_TEXT, deadline)[:_MAX_TEXT]
    return start
