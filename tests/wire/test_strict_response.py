"""Heads and framing, byte for byte: accepted and refused input, and the state of the connection afterwards."""

from __future__ import annotations

import http.client
import io
import itertools
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.wire.deadline_reader import DeadlineReader, is_quiet, step
from cambfs.wire.strict_response import Malformed, StrictResponse
from tests.wire.raw_server import CHUNKED, FLAC, OK, WAIT_S, chunk

END = b"0\r\n\r\n"
# Wrong ends of a body or a head.
REFUSALS = (http.client.HTTPException, OSError)


@dataclass
class Found:
    """The bytes of one response. `is_kept`: its connection can be used again."""

    response: StrictResponse
    data: bytes
    failure: Exception | None
    is_kept: bool


@contextmanager
def fed(pieces: Sequence[bytes], is_kept_open: bool = False) -> Iterator[socket.socket]:
    """A socket that sends the next piece only when a reader waits for it, and behind the last one the end."""
    ours, theirs = socket.socketpair()
    left = list(pieces)

    def feed(_reader: DeadlineReader) -> None:
        if left:
            theirs.sendall(left.pop(0))
        elif is_kept_open:
            raise TimeoutError("nothing more comes")
        else:
            theirs.shutdown(socket.SHUT_WR)

    with pytest.MonkeyPatch.context() as patch, ours, theirs:
        patch.setattr(DeadlineReader, "_wait", feed)
        yield ours


def received(*pieces: bytes, is_kept_open: bool = False, limit: int = 1 << 18) -> Found:
    with fed(pieces, is_kept_open) as sock:
        response = StrictResponse(sock)
        data, failure = b"", None
        try:
            response.begin()
            while piece := response.read1(limit):
                assert len(piece) <= limit
                data += piece
        except REFUSALS as error:
            failure = error
        is_kept = response.isclosed() and sock.fileno() >= 0 and not response.will_close and failure is None
        response.close()
        return Found(response, data, failure, is_kept)


# Heads


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        (b"HTTP/1.1 200 OK", 200, "OK"),
        (b"HTTP/1.1 200 ", 200, ""),
        (b"HTTP/1.1 200", 200, ""),
        (b"HTTP/1.0 404 Not  Found", 404, "Not  Found"),
        (b"HTTP/1.1 999 \xff\t!", 999, "\xff\t!"),
    ],
)
def test_status_lines(line: bytes, status: int, reason: str) -> None:
    found = received(line + b"\r\nContent-Length: 0\r\n\r\n", is_kept_open=True)
    assert (found.response.status, found.response.reason, found.failure) == (status, reason, None)
    assert found.response.version == (10 if b"1.0" in line else 11)
    assert found.is_kept == (b"1.0" not in line)


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.2 200 OK", b"HTTP/2 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.10 200 OK", b"http/1.1 200 OK",
        b"HTTP/1.1  200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 099 OK", b"HTTP/1.1 +20 OK", b"HTTP/1.1 2_0 OK", b"HTTP/1.1 200OK", b"HTTP/1.1 200 O\rK",
        b"HTTP/1.1 200 O\0K", b"HTTP/1.1 200 OK\r", b"HTTP/1.1 101 Switching Protocols", b"", b"fLaC",
        b"\r\nHTTP/1.1 200 OK", b"ICY 200 OK",
        b"HTTP/1.1 200 " + b"x" * 70_000,
    ],
)  # fmt: skip
def test_status_lines_that_are_none(line: bytes) -> None:
    found = received(line + b"\r\nContent-Length: 4\r\n\r\nfLaC", is_kept_open=True)
    assert isinstance(found.failure, Malformed)
    assert found.data == b""


@pytest.mark.parametrize(
    "line",
    [
        b"X Y: z", b"X : z", b"X\t: z", b": z", b"no header", b" X: folded", b"\tX: folded", b"X: a\r\n b", b"X: a\rb",
        b"X: a\0b", b"X: a\r", b"X(: z", b"\xff: z", b"X\0: z", b"X: " + b"x" * 70_000, b"X: y\r\n" * 101 + b"X: y",
        b"X: " + b"y" * 4000 + b"\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 16 + b"X: y",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["before", "behind", "interim", "trailer"])
def test_header_lines_that_are_none(line: bytes, place: str) -> None:
    length = b"Content-Length: 4\r\n"
    response = {
        "before": OK + line + b"\r\n" + length + b"\r\nfLaC",
        "behind": OK + length + line + b"\r\n\r\nfLaC",
        "interim": b"HTTP/1.1 103 Early Hints\r\n" + line + b"\r\n\r\n" + OK + length + b"\r\nfLaC",
        "trailer": CHUNKED + chunk(b"fLaC") + b"0\r\n" + line + b"\r\n\r\n",
    }[place]
    found = received(response, is_kept_open=True)
    assert isinstance(found.failure, Malformed)
    assert found.data == (b"fLaC" if place == "trailer" else b"")


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 4\r\n\r\nfLaC",
        OK + b"Content-Length: 4\n\r\nfLaC",
        OK + b"Content-Length: 4\r\n\nfLaC",
        b"HTTP/1.1 102 Processing\n\n" + OK + b"Content-Length: 4\r\n\r\nfLaC",
    ],
)
def test_a_line_that_ends_in_a_line_feed_alone(response: bytes) -> None:
    assert isinstance(received(response).failure, Malformed)


def test_a_head_just_within_its_limits() -> None:
    fields = (
        b"".join(b"X-%02d: y\r\n" % i for i in range(98)) + b"Content-Length:4\r\n" + b"Long: %s\r\n" % (b"y" * 60000)
    )
    found = received(OK + fields + b"\r\nfLaC", is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, True)


def test_values_lose_the_white_space_around_them() -> None:
    found = received(OK + b"Content-Length: \t 0 \t \r\nX:\r\nY:\ta b\xff \r\n\r\n", is_kept_open=True)
    assert found.response.msg.items() == [("Content-Length", "0"), ("X", ""), ("Y", "a b\xff")]


@pytest.mark.parametrize("cut", range(1, len(OK) + 4))
def test_a_head_that_is_cut(cut: int) -> None:
    failure = received((OK + b"\r\n")[:-cut]).failure
    assert isinstance(failure, ConnectionResetError)
    assert isinstance(failure, http.client.RemoteDisconnected) == (cut == len(OK) + 2 or (OK + b"\r\n")[:-cut] == b"")


# Interim responses


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n",
        b"HTTP/1.1 199 Whatever\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 16,
    ],
)
def test_interim_responses_are_skipped_and_the_connection_is_closed(interim: bytes) -> None:
    for response in (OK + b"Content-Length: 4\r\n\r\nfLaC", CHUNKED + chunk(b"fLaC") + END):
        found = received(interim, response, is_kept_open=True)
        assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, False)


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 102 Processing\r\n\r\n" * 17,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nfLaC\n",
        b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"fLaC") + END,
    ],
)
def test_interim_responses_that_are_refused(interim: bytes) -> None:
    found = received(interim + OK + b"Content-Length: 4\r\n\r\nfLaC", is_kept_open=True)
    assert isinstance(found.failure, Malformed)
    assert found.data == b""


# Marks of the end


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [
        (b"Content-Length: 4", True),
        (b"content-length:4", True),
        (b"Content-Length: 0004 ", True),
        (b"Content-Length: 4\r\nConnection: keep-alive", True),
        (b"Content-Length: 4\r\nConnection: close", False),
        (b"Content-Length: 4\r\nConnection: keep-alive\r\nConnection: x, Close", False),
        (b"Content-Length: 4\r\nContent-Length: 4", False),
        (b"Content-Length: 4, 4", False),
    ],
)
def test_lengths(headers: bytes, is_kept: bool) -> None:
    found = received(OK + headers + b"\r\n\r\nfL", b"aC", is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, is_kept)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 4\r\nContent-Length: 5", b"Content-Length: 4, 5", b"Content-Length: +4",
        b"Content-Length: -4",
        b"Content-Length: 0x4", b"Content-Length: 4_0", b"Content-Length: 4 0", b"Content-Length: ",
        b"Content-Length: 4,",
        b"Content-Length: " + b"1" * 19, b"Content-Length: 4.0", b"Content-Length: \xb2",
        b"Transfer-Encoding: chunked\r\nContent-Length: -4", b"Transfer-Encoding: chunked\r\nContent-Length: 4, 5",
        b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: ",
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked;x=1", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: chunked\x0b",
        b"Transfer-Encoding: x\r\nContent-Length: 4",
        b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding\0: chunked",
    ],
)  # fmt: skip
def test_framing_that_is_refused(headers: bytes) -> None:
    found = received(OK + headers + b"\r\n\r\n" + chunk(b"fLaC") + END, is_kept_open=True)
    assert isinstance(found.failure, Malformed)
    assert found.data == b""


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [
        (b"Transfer-Encoding: chunked", True),
        (b"transfer-encoding:CHUNKED", True),
        (b"Transfer-Encoding: \t chunked \t", True),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 99", False),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked", False),
        (b"Transfer-Encoding: chunked\r\nConnection: close", False),
    ],
)
def test_chunks_decide(headers: bytes, is_kept: bool) -> None:
    found = received(OK + headers + b"\r\n\r\n" + chunk(b"fLaC") + END, is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, is_kept)


def test_there_are_no_chunks_before_http_1_1() -> None:
    response = CHUNKED.replace(b"1.1", b"1.0") + chunk(b"fLaC") + END
    assert isinstance(received(response).failure, Malformed)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_without_a_length_the_connection_is_the_body(version: bytes) -> None:
    found = received(b"HTTP/%s 200 OK\r\nConnection: keep-alive\r\n\r\nfL" % version, b"aC")
    assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, False)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(
    ("headers", "is_kept"), [(b"", True), (b"Content-Length: 4\r\n", False), (b"Transfer-Encoding: chunked\r\n", False)]
)
def test_statuses_without_a_body(status: int, headers: bytes, is_kept: bool) -> None:
    found = received(b"HTTP/1.1 %d No\r\n%s\r\n" % (status, headers), is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (b"", None, is_kept)


@pytest.mark.parametrize(
    "response",
    [
        OK + b"Content-Length: 4\r\n\r\nfLaC",
        OK + b"Content-Length: 0\r\n\r\n",
        CHUNKED + chunk(b"fLaC") + END,
        b"HTTP/1.1 204 No\r\n\r\n",
        b"HTTP/1.1 304 No\r\n\r\n",
    ],
)
@pytest.mark.parametrize("surplus", [b"x", b"\r\n", b"\0", OK + b"Content-Length: 4\r\n\r\nevil"])
def test_surplus_closes_the_connection(response: bytes, surplus: bytes) -> None:
    wanted = received(response, is_kept_open=True)
    found = received(response + surplus, is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (wanted.data, None, False)
    assert wanted.is_kept


def test_a_connection_that_ended_with_the_body_is_not_kept() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(OK + b"Content-Length: 4\r\n\r\nfLaC")
        theirs.close()
        response = StrictResponse(ours)
        response.begin()
        assert response.read1(9) == b"fLaC"
        assert ours.fileno() < 0


def test_an_unfinished_body_takes_its_connection_along() -> None:
    with fed([OK + b"Content-Length: 4\r\n\r\nfL"], is_kept_open=True) as sock:
        response = StrictResponse(sock)
        response.begin()
        response.close()
        assert sock.fileno() < 0


@pytest.mark.parametrize(
    "response",
    [
        OK + b"Content-Length: 9\r\n\r\nfLaC",
        CHUNKED + chunk(b"fLaC"),
        CHUNKED + chunk(b"fLaC") + b"9\r\nabc",
        CHUNKED + chunk(b"fLaC") + chunk(b"abc")[:-1],
    ],
)
def test_a_body_that_is_cut(response: bytes) -> None:
    found = received(response)
    assert found.failure is not None
    assert found.data == b"fLaC"


# Chunks


@pytest.mark.parametrize("surplus", [1, 2, 9, 16_000])
def test_of_a_chunk_with_a_wrong_size_nothing_but_its_own_data_is_given(surplus: int) -> None:
    """The next chunk's framing lies in the last bytes, which are held until the line end behind them is there."""
    data = bytes(range(256)) * 400
    body = b"%x\r\n%s\r\n" % (len(data) + surplus, data) + chunk(data)
    found = received(CHUNKED + body + END)
    assert isinstance(found.failure, Malformed)
    assert data.startswith(found.data)


def test_of_a_large_chunk_what_is_far_from_its_end_is_given_as_it_comes() -> None:
    data = bytes(range(256)) * 200
    found = received(CHUNKED + b"%x\r\n%s" % (2 * len(data), data))
    assert isinstance(found.failure, http.client.IncompleteRead)
    assert found.data == data, "the other half is longer than what is held"


@pytest.mark.parametrize(
    "size",
    [
        b"4",
        b"0004",
        b"0000000000000004",
        b"4;x",
        b"4;x=y;z",
        b'4;x="a b"',
        b"4 ;x",
        b"4\t;\xff",
        b"4 ",
        b"4\t ",
        b"4;" + b"x" * 1000,
    ],
)
def test_sizes_of_chunks(size: bytes) -> None:
    found = received(CHUNKED + size + b"\r\nfLaC\r\n" + END, is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, True)


@pytest.mark.parametrize(
    "size",
    [
        b"+4", b"-4", b"0x4", b"4_", b"0_4", b" 4", b"4 4", b"", b";x", b"g", b"4h", b"00000000000000004",
        b"\xff",
        b"4\r", b"4;a\rb", b"4;a\0b", b"4;" + b"x" * 1100, b"\xd9\xa4", b"4,x", b"4:x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [b"", chunk(b"first")])
def test_sizes_of_chunks_that_are_refused(size: bytes, first: bytes) -> None:
    found = received(CHUNKED + first + size + b"\r\nfLaC\r\n" + END, is_kept_open=True)
    assert isinstance(found.failure, Malformed)
    assert found.data == (b"first" if first else b"")


@pytest.mark.parametrize(
    "chunks",
    [
        b"4\nfLaC\r\n" + END,
        b"4\r\nfLaC\n" + END,
        b"4\r\nfLaC" + END,
        b"4\r\nfLaCxx" + END,
        b"4\r\nfLaCx\r\n" + END,
        b"4\r\nfLaC\r" + END,
        b"4\r\nfLaC\r\n0\n\r\n",
        b"4\r\nfLaC\r\n0\r\n\n",
        b"4\r\nfLaC\r\n0\r\nX: y\n\r\n",
        b"4\r\nfLaC\r\n0\r\nX\r\n\r\n",
    ],
)
def test_line_ends_of_chunks(chunks: bytes) -> None:
    found = received(CHUNKED + chunks, is_kept_open=True)
    assert isinstance(found.failure, Malformed)
    assert b"fLaC".startswith(found.data)


def test_a_huge_size_is_only_a_number() -> None:
    found = received(CHUNKED + b"f" * 16 + b"\r\nfLaC")
    assert isinstance(found.failure, http.client.IncompleteRead)
    assert found.data == b"fLaC"


def test_extensions_have_an_end() -> None:
    extended = b"1;%s\r\nx\r\n" % (b"y" * 1000)
    assert received(CHUNKED + extended * 60 + END, is_kept_open=True).is_kept
    assert isinstance(received(CHUNKED + extended * 70 + END, is_kept_open=True).failure, Malformed)


def test_trailers_are_read_and_left_out() -> None:
    found = received(CHUNKED + chunk(b"fLaC") + b"0;x\r\nContent-Length: 9\r\nX: y\r\n\r\n", is_kept_open=True)
    assert (found.data, found.failure, found.is_kept) == (b"fLaC", None, True)


def test_small_chunks_that_are_there_come_together() -> None:
    some = CHUNKED + b"".join(chunk(FLAC[place : place + 10]) for place in range(0, 1000, 10))
    with fed([some, chunk(FLAC[1000:1010]) + b"5\r\n"], is_kept_open=True) as sock:
        response = StrictResponse(sock)
        response.begin()
        assert response.read1(65536) == FLAC[:1000]
        assert response.read1(65536) == FLAC[1000:1010], "a chunk that has only begun is not waited for"
        response.close()


def test_what_came_before_a_broken_chunk_is_given_first() -> None:
    with fed([CHUNKED + chunk(b"a") + chunk(b"b") + b"zz\r\n"], is_kept_open=True) as sock:
        response = StrictResponse(sock)
        response.begin()
        assert response.read1(9) == b"ab"
        for _ in range(2):
            with pytest.raises(Malformed):
                response.read1(9)
        response.close()


def test_a_step_ends_also_when_there_is_more_to_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT_S)
        theirs.sendall(b"X: y\r\n" * 9)
        reader = DeadlineReader(ours)
        with step(0), pytest.raises(TimeoutError):
            reader.readline(99)
        reader.close()
        assert ours.gettimeout() == WAIT_S, "whoever uses the connection next waits as long as before"


class ScriptedSocket:
    """Gives these bytes, or raises these errors, one at a time."""

    def __init__(self, *script: bytes | OSError) -> None:
        self._script = list(script)

    def recv_into(self, view: memoryview) -> int:
        one = self._script.pop(0)
        if isinstance(one, OSError):
            raise one
        view[: len(one)] = one
        return len(one)

    def makefile(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO()

    def gettimeout(self) -> None:
        return None

    def settimeout(self, _: float | None) -> None:
        pass


@pytest.mark.parametrize(
    "script", [[b"abc", ConnectionResetError()], [b"abc", BlockingIOError(), ConnectionResetError()]]
)
def test_what_came_before_a_reset_is_given_first(script: list[bytes | OSError]) -> None:
    reader = DeadlineReader(ScriptedSocket(*script))  # type: ignore[arg-type]
    assert reader.fill(1)
    assert reader.take(1) == b"a"
    assert reader.fill(9)
    assert reader.take(9) == b"bc"
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            reader.fill(1)
    with pytest.raises(ConnectionResetError):
        reader.readline(9)
    reader.close()


def test_a_quiet_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT_S)
        assert is_quiet(ours)
        assert ours.gettimeout() == WAIT_S
        theirs.sendall(b"x")
        assert not is_quiet(ours)
        theirs.close()
        assert not is_quiet(ours)
        ours.close()
        assert not is_quiet(ours)


# Anything, against a reader of whole bodies that is too simple to be wrong


def reference(body: bytes) -> tuple[bytes, bool, bytes]:
    """The content of a chunked body as far as it is right, whether it is so to its end, and what is behind."""
    data = b""
    while match := re.match(rb"([0-9A-Fa-f]{1,16})(?:[ \t]*;[^\r\n\0]*)?\r\n", body):
        size, body = int(match[1], 16), body[match.end() :]
        if not size:
            trailers = re.match(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*\r\n", body)
            return data, trailers is not None, body[trailers.end() :] if trailers else b""
        if body[size : size + 2] != b"\r\n":
            break  # nothing of so small a chunk is returned before its end was checked
        data += body[:size]
        body = body[size + 2 :]
    return data, False, b""


def split(whole: bytes, places: list[int]) -> list[bytes]:
    """`whole` in pieces that end at these places."""
    cuts = sorted({place % (len(whole) + 1) for place in places} | {0, len(whole)})
    return [whole[start:stop] for start, stop in itertools.pairwise(cuts)]


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    size = st.sampled_from([b"%x", b"%X", b"00%x", b"%x;a=b", b"%x ;c"])
    contents = draw(st.lists(st.binary(min_size=1, max_size=300), max_size=8))
    body = b"".join(draw(size) % len(content) + b"\r\n" + content + b"\r\n" for content in contents)
    return body + draw(st.sampled_from([END, b"000;x\r\n\r\n", b"0\r\nX: y\r\nZ:\r\n\r\n"]))


TOKENS = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"0", b"1", b"5", b"a", b"F", b"fLaC", b"fLaCx", b";", b";x", b" ", b"\t", b"-", b"+", b"_",
     b"0x", b"\0", b":", b"X: y", b"5\r\nfLaCx\r\n", END, OK]
)  # fmt: skip
PLACES = st.lists(st.integers(0, 5000), max_size=8)


@given(chunks(), PLACES, st.integers(1, 500), st.sampled_from([b"", b"\r\n", b"x"]))
def test_chunks_that_are_right_in_any_pieces(body: bytes, places: list[int], limit: int, behind: bytes) -> None:
    data, is_whole, _ = reference(body)
    assert is_whole
    found = received(CHUNKED, *split(body + behind, places), is_kept_open=True, limit=limit)
    assert (found.data, found.failure) == (data, None)
    if not behind:
        assert found.is_kept


@given(st.lists(TOKENS | st.binary(max_size=4), max_size=30).map(b"".join), PLACES, st.integers(1, 20))
def test_any_chunks_are_read_as_far_as_they_are_right(body: bytes, places: list[int], limit: int) -> None:
    data, is_whole, behind = reference(body)
    found = received(CHUNKED, *split(body, places), limit=limit)
    assert found.data == data
    assert (found.failure is None) == is_whole
    if behind and len(split(body, places)) == 1:
        assert not found.is_kept


HEAD_TOKENS = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 102 P\r\n\r\n", b"HTTP/1.0 200\r\n", b"HTTP/1.1 204 N\r\n",
     b"HTTP/1.1 101 S\r\n",
     b"Content-Length: 4\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n",
     b"Connection: close\r\n", b"X: y\r\n", b" z\r\n", b"\r\n", b"\n", b"fLaC", b"4\r\nfLaC\r\n", END]
)  # fmt: skip


@given(st.lists(HEAD_TOKENS | st.binary(max_size=5), max_size=12).map(b"".join), PLACES)
def test_any_bytes_are_a_response_or_refused(wire: bytes, places: list[int]) -> None:
    """And the returned bytes stand behind a head, in one piece but for the framing of chunks."""
    found = received(*split(wire, places))
    if found.data:
        assert wire.startswith(b"HTTP/1.")
        assert found.data in wire or re.search(rb"chunked", wire)
    if found.failure is None and not re.search(rb"chunked", wire):
        length = re.search(rb"Content-Length: (\d)", wire.partition(b"\r\n\r\n")[0])
        assert found.response.status == 204 or length is None or len(found.data) == int(length[1])


def rate_of(*pieces: bytes, waits_s: Iterator[float]) -> float | None:
    """After reading all of a response. Each wait for a piece takes the next number of seconds."""
    with fed(pieces) as sock, pytest.MonkeyPatch.context() as patch:
        feed = DeadlineReader._wait

        def wait(reader: DeadlineReader) -> None:
            reader.waited_s += next(waits_s)
            feed(reader)

        patch.setattr(DeadlineReader, "_wait", wait)
        response = StrictResponse(sock)
        response.begin()
        while response.read1(1 << 18):
            pass
        return response.bytes_per_s


def test_the_rate_of_a_body_counts_the_waits_for_it_and_not_the_one_for_its_head() -> None:
    body, half = b"x" * 400_000, 200_000
    head = OK + b"Content-Length: 400000\r\n\r\n"
    pieces = head, body[:half], body[half:]
    assert rate_of(*pieces, waits_s=iter([9.0, 1.5, 0.5])) == 200_000


def test_a_short_body_shows_no_rate() -> None:
    head, body = OK + b"Content-Length: 1000\r\n\r\n", b"x" * 1000
    assert rate_of(head, body, waits_s=iter([0.1, 0.1])) is None
