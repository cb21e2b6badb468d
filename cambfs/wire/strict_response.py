"""One HTTP/1 response as it arrives over a connection: read strictly, or refused.

This is the one place that reads status lines, header lines and the framing of bodies. Every response passes through it:
of the API, of storage, of redirects and of proxies. http.client and urllib3 parse leniently, and that cannot be
changed. They accept signs and underscores in the size of a chunk, and any two bytes behind its data. They ignore an
unknown Transfer-Encoding, and take all 1xx but 100 for the response. So their parsers are not used.

A response that is valid but unusual is read, and its connection is not used again: an interim response before the
response, a Content-Length beside the chunks (the chunks decide, as RFC 9112 says; servers behind a careless proxy send
both), or the same Content-Length more than once. After anything invalid the connection is closed, too.

`headers` interprets the headers beyond the framing, `deadline_reader` waits for bytes. Threads: one reads; `body`
arranges how another one closes.
"""

from __future__ import annotations

import http.client
import re
import socket

from urllib3 import HTTPHeaderDict

from cambfs.wire.deadline_reader import DeadlineReader
from cambfs.wire.headers import Framing, read_framing

_MAX_INTERIM = 16
# Limits for one head, and for the trailers.
_MAX_FIELDS = 100
_MAX_HEAD_BYTES = 65536
# The line with the size of a chunk; and the extensions of all of them.
_MAX_SIZE_LINE_BYTES = 1024
_MAX_EXTENSIONS_BYTES = 65536
# A chunk whose size is wrong by a few bytes would pass the next one's framing as data. So the last bytes of a chunk are
# returned only when the right bytes behind them are there.
_HELD_BYTES = 16 * 1024
# A connection sends about so much at once from the beginning. Only what follows shows its rate.
_LEAST_TELLING_BYTES = 64 * 1024
_LEAST_WAIT_S = 1e-3
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([^\r\n\0]*))?\r\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)\r\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[^\r\n\0]*)?\r\n")
_SWITCHING_PROTOCOLS = 101
_WITHOUT_BODY = (204, 304)


class Malformed(http.client.HTTPException):
    """The bytes are not valid HTTP. The text says what is wrong, in words of ours."""


class StrictResponse:
    """Replaces `http.client.HTTPResponse`, as the `response_class` of a connection of urllib3.

    `begin` reads the head. It raises Malformed, OSError for an error of the connection, RemoteDisconnected when there
    was no byte. `read1` raises Malformed or IncompleteRead for a body that is broken.
    """

    def __init__(self, sock: socket.socket, debuglevel: int = 0, method: str | None = None) -> None:  # noqa: ARG002
        self._sock = sock
        self.fp: DeadlineReader | None = DeadlineReader(sock)
        self._reader = self.fp
        self.version = 0
        self.status = 0
        self.reason = ""
        self.headers = self.msg = http.client.HTTPMessage()
        self.will_close = True
        self.had_interim = False
        self._chunked = False
        self._left: int | None = None  # bytes of the body, or of the chunk; None: until the connection ends
        self._in_chunks = False
        self._is_chunk_checked = False  # the end of its data was checked
        self._at_trailers = False
        self._extensions_bytes = 0
        self._body_bytes = 0
        self._head_waited_s = 0.0
        self._failure: Exception | None = None  # an error behind bytes that are returned first

    # The head

    def begin(self) -> None:
        version, self.status, self.reason = self._read_status()
        self.version = 11 if version == "HTTP/1.1" else 10
        fields = self._read_fields()
        for name, value in fields:
            self.msg[name] = value
        self._frame(HTTPHeaderDict(fields))
        self._head_waited_s = self._reader.waited_s

    def _read_status(self) -> tuple[str, int, str]:
        """Of the first response that is not interim. http.client calls it when it opens a tunnel through a proxy."""
        for _ in range(_MAX_INTERIM + 1):
            line = self._reader.readline(_MAX_HEAD_BYTES)
            if not line:
                raise http.client.RemoteDisconnected("the connection ended without a response")
            match = _STATUS_LINE.fullmatch(line)
            if match is None:
                raise Malformed("no status line of HTTP/1")
            status = int(match[2])
            if status == _SWITCHING_PROTOCOLS:
                raise Malformed("an unrequested 101")
            if status >= 200:
                return f"HTTP/1.{int(match[1])}", status, (match[3] or b"").decode("latin-1")
            self._read_fields()
            self.had_interim = True
        raise Malformed("too many interim responses")

    def _read_fields(self) -> list[tuple[str, str]]:
        """Header or trailer lines, and the empty line behind them."""
        fields: list[tuple[str, str]] = []
        left_bytes = _MAX_HEAD_BYTES
        while (line := self._reader.readline(left_bytes)) != b"\r\n":
            if not line:
                raise ConnectionResetError("the connection ended in the middle of a head")
            left_bytes -= len(line)
            match = _FIELD.fullmatch(line)
            if match is None:
                raise Malformed("headers beyond the limits" if not left_bytes else "a line that is no header")
            fields.append((match[1].decode("ascii"), match[2].strip(b" \t").decode("latin-1")))
            if len(fields) > _MAX_FIELDS or not left_bytes:
                raise Malformed("headers beyond the limits")
        return fields

    def _frame(self, headers: HTTPHeaderDict) -> None:
        try:
            framing = read_framing(headers)
        except ValueError as error:
            raise Malformed(str(error)) from None
        if framing.chunked and self.version < 11:
            raise Malformed("chunks in HTTP/1.0")
        is_odd = framing.is_odd
        if self.status in _WITHOUT_BODY:
            is_odd = framing.is_told
            framing = Framing(chunked=False, length=0)
        self._chunked, self._left = framing.chunked, 0 if framing.chunked else framing.length
        says_close = self.version < 11 or "close" in headers.get("Connection", "").lower()
        self.will_close = says_close or is_odd or self.had_interim or not framing.is_told

    # The body

    def read1(self, limit: int) -> bytes:
        """Bytes of the body that have arrived, at most `limit` (1 at least); waits for the first. None at its end."""
        if self._failure is not None:
            raise self._failure
        if self.fp is None:
            return b""
        data = self._read_chunks(limit) if self._chunked else self._read_plain(limit)
        self._body_bytes += len(data)
        return data

    read = read1  # urllib3 checks that it exists

    def _read_plain(self, limit: int) -> bytes:
        wanted = limit if self._left is None else min(limit, self._left)
        if wanted and not self._reader.fill(wanted) and self._left:
            raise http.client.IncompleteRead(b"", self._left)
        data = self._reader.take(wanted)
        if self._left is not None:
            self._left -= len(data)
        if not data or self._left == 0:
            self._end()
        return data

    def _read_chunks(self, limit: int) -> bytes:
        """Of all chunks that are there, not only the first: many servers send small ones."""
        self._reader.fill(limit)
        pieces: list[bytes] = []
        try:
            while limit and (piece := self._next_piece(limit, may_wait=not pieces)):
                pieces.append(piece)
                limit -= len(piece)
        except Exception as error:
            if not pieces:
                raise
            self._failure = error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _next_piece(self, limit: int, may_wait: bool) -> bytes:
        """Of one chunk; none at the end, or where the reader would have to wait."""
        if not self._left and not self._at_trailers:
            if not may_wait and not self._reader.has_line(behind=2):
                return b""
            self._begin_chunk()
        if self._at_trailers:
            if may_wait:
                self._read_fields()
                self._end()
            return b""
        piece = self._reader.take(min(limit, self._checked_bytes(may_wait)))
        self._left = (self._left or 0) - len(piece)
        return piece

    def _checked_bytes(self, may_wait: bool) -> int:
        """How much of the chunk may be returned: all of it once its end was checked, otherwise the bytes far from its
        end."""
        assert self._left
        if self._is_chunk_checked:
            return self._left
        free = self._left - _HELD_BYTES
        if may_wait and not (self._reader.fill(1) if free > 0 else self._reader.await_bytes(self._left + 2)):
            raise http.client.IncompleteRead(b"", self._left)
        if self._reader.buffered >= self._left + 2:
            if self._reader.look(self._left, 2) != b"\r\n":
                raise Malformed("a chunk that does not end where it said")
            self._is_chunk_checked = True
            return self._left
        return max(free, 0)

    def _begin_chunk(self) -> None:
        if self._in_chunks:
            self._reader.take(2)
        match = _CHUNK_SIZE.fullmatch(self._reader.readline(_MAX_SIZE_LINE_BYTES))
        if match is None:
            raise Malformed("an invalid chunk size")
        self._extensions_bytes += len(match[2] or b"")
        if self._extensions_bytes > _MAX_EXTENSIONS_BYTES:
            raise Malformed("chunk extensions beyond the limits")
        self._in_chunks, self._is_chunk_checked = True, False
        self._left = int(match[1], 16)
        self._at_trailers = not self._left

    @property
    def bytes_per_s(self) -> float | None:
        """The rate of the body while it was waited for; None for a body that is too small to show one."""
        if self._body_bytes < _LEAST_TELLING_BYTES:
            return None
        return self._body_bytes / max(self._reader.waited_s - self._head_waited_s, _LEAST_WAIT_S)

    # The end

    def _end(self) -> None:
        """The end of the body, proven by its framing. Bytes behind it belong to no response to a request of ours."""
        is_reusable = not self.will_close and self._reader.is_at_end()
        self._close_file()
        if not is_reusable:
            self._sock.close()

    def close(self) -> None:
        """Before the end of the body, this ends the connection, too; but not behind the head that opens a tunnel."""
        if self.fp is not None:
            self._close_file()
            if self.status:
                self._sock.close()

    def _close_file(self) -> None:
        self.fp = None
        self._reader.close()

    def isclosed(self) -> bool:
        return self.fp is None

    @property
    def closed(self) -> bool:
        return self.fp is None
