"""Whether an answer is audio, by its first bytes: servers send errors as 200, and label audio wrongly.

Not which audio it is (`flac`). No threads of its own.
"""

from __future__ import annotations

from typing import Protocol

from cambfs.errors import BrokenBody, NotAudio
from cambfs.http.answers import message, with_words

_AUDIO = (b"fLaC", b"RIFF", b"OggS", b"ID3")
_TEXT = (b"{", b"[", b"<")
_TEXT_TYPES = ("application/json", "text/html")
# As much white space before a text as is looked behind, and as much of a text as is read for its words.
_MAX_SPACE = 512
_MAX_TEXT = 65536


class Peekable(Protocol):
    content_type: str
    framed: bool

    def peek(self, count: int, deadline: float) -> bytes: ...


def refuse_text(body: Peekable, status: int, what: str, deadline: float, hide: str) -> None:
    """Raises NotAudio, in words that begin with `what` and lack `hide`, when the body is empty, JSON or HTML. What is
    known to be audio is never refused, whatever its label. No byte is taken from the body. Raises BrokenBody when the
    connection ended before anything came, and nothing but that says that the body is empty."""
    start = body.peek(4, deadline)
    if start.startswith(_AUDIO):
        return
    if not start and not body.framed:
        raise BrokenBody(f"{what}: the connection ended before the first byte")
    if start.isspace():
        start = body.peek(_MAX_SPACE, deadline).lstrip()
    if start.lstrip().startswith(_TEXT) or (start and body.content_type in _TEXT_TYPES):
        words = message(body.peek(_MAX_TEXT, deadline)[:_MAX_TEXT], hide)
        raise NotAudio(with_words(f"{what}: the API answered with text in place of audio", words), status)
    if not start:
        raise NotAudio(f"{what}: the API answered with nothing in place of audio", status)
