"""Connections: which are used again, and what happens when that fails. The next run's bytes are its own."""

from __future__ import annotations

import gc
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

from cambfs.errors import BadResponse, CambfsError, LinkError, RemoteError, TimedOut
from cambfs.http.client import Client
from cambfs.names import RunId
from cambfs.remote.source import Body, SignedUrl
from cambfs.wire import connection, pool
from cambfs.wire.connection import Connection, Made
from cambfs.wire.deadline_reader import DeadlineReader
from tests.waiting import asleep
from tests.wire.raw_server import CERTIFICATE, CHUNKED, FLAC, KEY, OK, RUN, WAIT_S, Script, Server, chunk, send, sized

END = b"0\r\n\r\n"
SHORT = FLAC[:9]
EVIL = sized(b"fLaC evil")


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    context = None
    if request.param:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(CERTIFICATE))
    with Server(tls=context) as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, KEY, timeout_s=WAIT_S) as made:
        yield made


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REST_S", 0.0)


def drained(body: Body) -> bytes:
    found = b""
    while data := body.read(65536):
        found += data
    body.close()
    return found


def whole(client: Client) -> bytes:
    return drained(client.open_stream(RUN))


# Rest


def test_a_connection_rests_before_it_is_used_again(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts += [send(sized(SHORT))] * 5
    monkeypatch.setattr(connection, "REST_S", 100.0)
    for _ in range(3):
        assert whole(client) == SHORT
    assert server.connections == 3
    asleep(monkeypatch, 100.0)
    for _ in range(2):
        assert whole(client) == SHORT
    assert server.connections == 3


class Resting(Connection):
    """One end of a pair of sockets; `other` is the other one, and `was_closed` shows whether it was closed."""

    def __init__(self, connect_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        super().__init__("localhost")
        self.sock, self.other = socket.socketpair()
        self.made = Made(connect_s, 0.0, "", {})
        self.bytes_per_s = bytes_per_s
        self.was_closed = False

    def close(self) -> None:
        self.was_closed = True
        self.sock.close()
        self.other.close()


class Sleeper:
    """The pool's clock, which stands still until the pool sleeps. `slept` has the seconds of each sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []
        self._meanwhile = meanwhile
        for module in (pool, connection):
            monkeypatch.setattr(module, "since_boot_s", lambda: self.now_s)
        monkeypatch.setattr(pool, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds
        self._meanwhile()


@pytest.mark.usefixtures("no_rest")
def test_the_one_that_was_used_last_comes_first_and_few_are_kept() -> None:
    idle = pool._Idle(2)
    made = [Resting() for _ in range(3)]
    for one in made:
        idle.put(one)
    assert [one.was_closed for one in made] == [True, False, False]
    taken: list[object] = [idle.take(is_long=False) for _ in range(3)]
    assert taken == [made[2], made[1], None]
    idle.put(made[1])
    made[1].other.send(b"x")
    assert idle.take(is_long=False) is None
    assert made[1].was_closed
    made[2].close()


@pytest.mark.parametrize(("connect_s", "is_awaited"), [(0.5, True), (0.1, False)])
def test_a_rest_is_waited_for_where_a_new_connection_takes_longer(
    connect_s: float, is_awaited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REST_S", 0.4)
    clock = Sleeper(monkeypatch)
    idle, resting = pool._Idle(2), Resting(connect_s)
    idle.put(resting)
    clock.now_s += 0.1

    assert idle.take(is_long=False) is (resting if is_awaited else None)
    assert clock.slept == ([pytest.approx(0.3)] if is_awaited else [])
    resting.close()


@pytest.mark.parametrize("is_long", [True, False])
def test_audio_takes_the_fastest_connection_and_a_short_response_leaves_it_free(
    is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Sleeper(monkeypatch)
    idle, slow, fast, medium = (
        pool._Idle(3),
        Resting(bytes_per_s=1e5),
        Resting(bytes_per_s=9e6),
        Resting(bytes_per_s=2e6),
    )
    for one in (slow, fast, medium):
        idle.put(one)
    clock.now_s += 2 * connection.REST_S

    found = [idle.take(is_long) for _ in range(3)]
    assert found == ([fast, medium, slow] if is_long else [slow, medium, fast])
    for one in (slow, fast, medium):
        one.close()


def test_of_too_many_the_fastest_is_kept() -> None:
    """A listing has many short responses. The audio that follows needs that one."""
    idle, fast, *others = pool._Idle(2), Resting(bytes_per_s=9e6), Resting(), Resting(), Resting()
    for one in (fast, *others):
        idle.put(one)
    assert [one.was_closed for one in (fast, *others)] == [False, True, True, False]
    idle.close()


@pytest.mark.parametrize(("other_bytes_per_s", "is_awaited"), [(1e6, True), (8e6, False)])
def test_audio_waits_for_the_rest_of_a_connection_that_is_far_faster(
    other_bytes_per_s: float, is_awaited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Sleeper(monkeypatch)
    idle, other, fast = pool._Idle(2), Resting(bytes_per_s=other_bytes_per_s), Resting(9.0, bytes_per_s=9e6)
    idle.put(other)
    clock.now_s += 2 * connection.REST_S
    idle.put(fast)

    assert idle.take(is_long=True) is (fast if is_awaited else other)
    assert clock.slept == [pytest.approx(connection.REST_S if is_awaited else 0.0)]
    other.close()
    fast.close()


def test_a_short_response_waits_for_no_rest_while_a_connection_has_rested(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Sleeper(monkeypatch)
    idle, fast, resting = pool._Idle(2), Resting(bytes_per_s=9e6), Resting(connect_s=9.0)
    idle.put(fast)
    clock.now_s += 2 * connection.REST_S
    idle.put(resting)

    assert idle.take(is_long=False) is fast
    fast.close()
    resting.close()


def test_a_new_connection_takes_the_time_of_tls_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    Sleeper(monkeypatch)
    idle, resting = pool._Idle(2), Resting()
    resting.made = Made(connect_s=0.0, secure_s=1.0, tls="TLSv1.3", certificate={})
    idle.put(resting)
    assert idle.take(is_long=False) is resting
    resting.close()


def test_bytes_that_come_while_a_rest_is_waited_for_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    resting = Resting(connect_s=9.0)
    Sleeper(monkeypatch, lambda: resting.other.send(EVIL))
    idle = pool._Idle(2)
    idle.put(resting)

    assert idle.take(is_long=False) is None
    assert resting.was_closed


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize("response", [sized(SHORT), CHUNKED + chunk(SHORT) + END])
@pytest.mark.parametrize("late", [b"x", b"\r\n", EVIL])
def test_bytes_that_come_while_it_rests_are_nobodys(
    server: Server, client: Client, response: bytes, late: bytes
) -> None:
    read, sent = threading.Event(), threading.Event()

    def belated(connection: socket.socket) -> bool:
        connection.sendall(response)
        assert read.wait(WAIT_S)
        connection.sendall(late)
        sent.set()
        return True

    server.scripts += [belated, send(sized(FLAC))]
    assert whole(client) == SHORT
    read.set()
    assert sent.wait(WAIT_S)
    assert whole(client) == FLAC
    assert server.connections == 2


def test_bytes_that_come_a_little_behind_the_end(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a rest they would stand before the next response, or be taken for it."""
    monkeypatch.setattr(connection, "REST_S", WAIT_S)
    read = threading.Event()

    def belated(connection: socket.socket) -> bool:
        connection.sendall(CHUNKED + chunk(SHORT) + END)
        assert read.wait(WAIT_S)
        connection.sendall(EVIL)
        return True

    server.scripts += [belated, send(sized(FLAC)), send(sized(SHORT))]
    assert whole(client) == SHORT
    read.set()
    assert whole(client) == FLAC
    assert whole(client) == SHORT
    assert server.connections == 3


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request travels for the whole rest."""
    monkeypatch.setattr(connection, "_shortest_round_trip_s", lambda _sock: 2 * connection.REST_S)


@pytest.mark.usefixtures("long_way")
@pytest.mark.parametrize("early", [EVIL, sized(SHORT), b"x", b""])
def test_what_comes_sooner_than_a_request_travels_is_no_response(
    server: Server, client: Client, early: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was sent before the request arrived. The rest goes on while the request travels."""
    monkeypatch.setattr(connection, "REST_S", WAIT_S)
    server.scripts += [send(sized(SHORT)), send(early, keep=False), send(sized(FLAC))]
    assert whole(client) == SHORT
    assert whole(client) == FLAC
    assert (server.connections, server.scripts) == (2, [])


@pytest.mark.usefixtures("long_way")
def test_a_request_is_sent_before_the_rest_is_over_where_it_travels_for_long(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, over = Sleeper(monkeypatch), threading.Event()
    look = Connection.takes_request

    def looking(one: Connection) -> bool:
        is_quiet = look(one)
        if one._has_rested:
            over.set()
        return is_quiet

    def late(one: socket.socket) -> bool:
        clock.now_s += 2 * connection.REST_S
        assert over.wait(WAIT_S)
        one.sendall(sized(FLAC))
        return True

    monkeypatch.setattr(Connection, "takes_request", looking)
    server.scripts += [send(sized(SHORT)), late]
    assert whole(client) == SHORT
    assert whole(client) == FLAC
    assert (server.connections, clock.slept) == (1, [0.0])


@pytest.mark.usefixtures("long_way")
def test_what_a_late_look_finds_may_have_come_too_early(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a thread may look long after the bytes came."""
    clock = Sleeper(monkeypatch)

    def early(one: socket.socket) -> bool:
        clock.now_s += 2 * connection.REST_S  # before the thread looks
        one.sendall(EVIL)
        return False

    server.scripts += [send(sized(SHORT)), early, send(sized(FLAC))]
    assert whole(client) == SHORT
    assert whole(client) == FLAC
    assert (server.connections, server.scripts) == (2, [])


def test_the_kernel_tells_the_shortest_round_trip(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as sock:
        assert 0 < connection._shortest_round_trip_s(sock) < 1
    assert connection._shortest_round_trip_s(sock) == 0
    ours, other = socket.socketpair()
    with ours, other:
        assert connection._shortest_round_trip_s(ours) == 0


def test_the_kernel_may_not_have_measured_a_round_trip() -> None:
    class Unmeasured(socket.socket):
        def getsockopt(self, level: int, name: int, size: int = 0) -> Any:  # noqa: ARG002
            return b"\xff" * size

    with Unmeasured() as sock:
        assert connection._shortest_round_trip_s(sock) == 0


@pytest.mark.parametrize(("round_trip_s", "early_s"), [(0.06, 0.03), (0.04, 0.0)])
def test_only_a_long_way_makes_a_rest_shorter(
    round_trip_s: float, early_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a short way there is no time for a thread that looks late."""
    monkeypatch.setattr(connection, "_shortest_round_trip_s", lambda _sock: round_trip_s)
    clock, resting = Sleeper(monkeypatch), Resting()
    resting.begin_rest()
    assert resting.usable_at == pytest.approx(clock.now_s + connection.REST_S - early_s)
    resting.close()


@pytest.mark.usefixtures("no_rest")
def test_a_connection_that_rests_holds_no_buffer(server: Server, client: Client) -> None:
    server.scripts += [send(sized(SHORT))]
    before = _buffers_bytes()
    assert whole(client) == SHORT
    assert _buffers_bytes() - before < 1000


def _buffers_bytes() -> int:
    gc.collect()
    return sum(len(one._buffer) for one in gc.get_objects() if type(one) is DeadlineReader)


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize("is_lost", [False, True])
def test_a_connection_keeps_its_rate_and_a_fresh_one_in_its_place_has_none(
    server: Server, client: Client, is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    begin_rest = Connection.begin_rest

    def noting(one: Connection) -> None:
        begin_rest(one)
        rates.append(one.bytes_per_s)

    monkeypatch.setattr(Connection, "begin_rest", noting)
    long = FLAC + bytes(128 * 1024)
    server.scripts += [send(sized(long)), *([send(b"", keep=False)] * is_lost), send(sized(SHORT))]
    assert whole(client) == long
    assert whole(client) == SHORT
    assert rates[0] > 0
    assert rates[1:] == [0.0 if is_lost else rates[0]]


@pytest.mark.usefixtures("no_rest")
def test_bytes_that_come_just_before_the_request(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = threading.Event()
    take = pool._Idle.take

    def belated(connection: socket.socket) -> bool:
        connection.sendall(sized(SHORT))
        assert taken.wait(WAIT_S)
        connection.sendall(EVIL)
        return True

    def take_slowly(idle: pool._Idle, is_long: bool) -> Any:
        found = take(idle, is_long)
        if found is not None:
            taken.set()
            assert select.select([found.sock], [], [], WAIT_S)[0]
        return found

    monkeypatch.setattr(pool._Idle, "take", take_slowly)
    server.scripts += [belated, send(sized(FLAC))]
    assert whole(client) == SHORT
    assert whole(client) == FLAC


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize(
    "response",
    [
        sized(SHORT) + b"x",
        sized(SHORT) + EVIL,
        CHUNKED + chunk(SHORT) + END + b"\r\n",
        CHUNKED + chunk(SHORT) + END + EVIL,
        b"HTTP/1.1 102 Processing\r\n\r\n" + sized(SHORT),
        OK + b"Content-Length: 9\r\nContent-Length: 9\r\n\r\n" + SHORT,
        CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n") + chunk(SHORT) + END,
        OK + b"Content-Length: 9\r\nConnection: close\r\n\r\n" + SHORT,
    ],
)
def test_after_anything_odd_a_fresh_connection_is_used(server: Server, client: Client, response: bytes) -> None:
    server.scripts += [send(response), send(sized(FLAC))]
    assert whole(client) == SHORT
    assert whole(client) == FLAC
    assert server.connections == 2


# A kept connection that is lost


def lost(*pieces: bytes) -> Script:
    """A server that closes the connection, as the next request is sent on it, after these bytes."""
    return send(*pieces, keep=False)


SIGNED = b'{"output_url": "https://storage.example/a"}'
MANY = b'{"5": "https://storage.example/5", "6": "https://storage.example/6"}'
Ask = Callable[[Client, str], object]
ASKED: dict[str, tuple[Ask, bytes]] = {
    "stream": (lambda client, _: whole(client), sized(FLAC)),
    "sign": (lambda client, _: client.sign(RUN), sized(SIGNED)),
    "bulk": (lambda client, _: client.sign_many([RUN, RunId(6)]), sized(MANY)),
    "storage": (lambda client, url: drained(client.open_stored(SignedUrl(f"{url}/a", {}, 1), 0, None)), sized(FLAC)),
}


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize("what", ASKED)
@pytest.mark.parametrize("stray", [b"", b"\r\n", b"\r\n\r\nx\r\n", b"HTTP/1.1 2", OK, EVIL[1:]])
def test_a_request_is_sent_once_more_on_a_fresh_connection(
    server: Server, client: Client, what: str, stray: bytes
) -> None:
    ask, response = ASKED[what]
    server.scripts += [send(sized(FLAC)), lost(stray), send(response), send(sized(FLAC))]
    whole(client)
    ask(client, server.url)
    assert whole(client) == FLAC
    assert (server.connections, server.scripts) == (2, [])


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize(
    ("ask", "is_audio"),
    [
        (lambda client, _: client.open_stream(RUN), True),
        (lambda client, url: client.open_stored(SignedUrl(f"{url}/a", {}, 1), 0, None), True),
        (lambda client, url: client.open_stored(SignedUrl(f"{url}/a", {}, 1), 0, 1 << 20), True),
        (lambda client, url: client.open_stored(SignedUrl(f"{url}/a", {}, 1), 0, 4096), False),
        (lambda client, url: client.open_stored(SignedUrl(f"{url}/a", {}, 1), -4096, None), False),
        (lambda client, _: client.sign(RUN), False),
    ],
)
@pytest.mark.parametrize("is_audio_last", [True, False])
def test_audio_comes_over_the_connection_that_brought_audio(
    server: Server, client: Client, ask: Callable[[Client, str], Any], is_audio: bool, is_audio_last: bool
) -> None:
    ports: list[int] = []

    def noting(response: bytes) -> Script:
        def script(one: socket.socket) -> bool:
            ports.append(one.getpeername()[1])
            one.sendall(response)
            return True

        return script

    server.scripts += [noting(response) for response in (sized(FLAC), sized(SIGNED), sized(SIGNED), sized(FLAC))]
    body = client.open_stream(RUN)
    client.sign(RUN)
    drained(body)
    if is_audio_last:
        server.scripts.pop(0)
    else:
        client.sign(RUN)
    with suppress(BadResponse), closing(ask(client, server.url)):  # audio is no signed URL, nor the end of an object
        pass
    assert ports[-1] == ports[0 if is_audio else 1]
    assert server.connections == 2


@pytest.mark.usefixtures("no_rest")
def test_so_it_is_behind_a_redirect(server: Server, client: Client) -> None:
    location = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    server.scripts += [send(sized(FLAC)), lost(), send(location), send(sized(SHORT))]
    whole(client)
    assert whole(client) == SHORT


@pytest.mark.usefixtures("no_rest")
def test_it_is_sent_once_more_and_not_twice(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC)), lost(), lost()]
    whole(client)
    with pytest.raises(LinkError, match="closed the connection without a response"):
        whole(client)
    assert (server.connections, server.scripts) == (2, [])


TOO_LATE = lost(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate")


@pytest.mark.usefixtures("no_rest")
@pytest.mark.parametrize("what", ASKED)
def test_a_server_that_gave_up_waiting_is_asked_once_more(server: Server, client: Client, what: str) -> None:
    ask, response = ASKED[what]
    server.scripts += [send(sized(FLAC)), TOO_LATE, send(response), send(sized(FLAC))]
    whole(client)
    ask(client, server.url)
    assert whole(client) == FLAC
    assert (server.connections, server.scripts) == (2, [])


@pytest.mark.usefixtures("no_rest")
def test_it_is_asked_no_third_time(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC)), TOO_LATE, TOO_LATE, TOO_LATE]
    whole(client)
    for _ in range(2):  # the second one is on a fresh connection from the beginning
        with pytest.raises(RemoteError, match="408"):
            whole(client)
    assert (server.connections, server.scripts) == (3, [])


@pytest.mark.parametrize(("stray", "kind"), [(b"", LinkError), (b"\r\n", BadResponse), (OK, LinkError)])
def test_on_a_fresh_connection_it_is_sent_once(
    server: Server, client: Client, stray: bytes, kind: type[CambfsError]
) -> None:
    server.scripts += [lost(stray)]
    with pytest.raises(kind):
        whole(client)
    assert server.connections == 1


@pytest.mark.usefixtures("no_rest")
def test_a_timeout_is_not_repeated(server: Server) -> None:
    asked: list[bytes] = []
    server.on_request = asked.append
    server.scripts += [send(sized(FLAC)), server.stall(), send(sized(SHORT))]
    with Client(server.url, KEY, timeout_s=1.0) as client:
        whole(client)
        with pytest.raises(TimedOut):
            whole(client)
    assert asked.count(b"/tts-result/5") == 2


@pytest.mark.usefixtures("no_rest")
def test_after_silence_on_a_kept_connection_none_of_the_others_is_used(server: Server) -> None:
    server.scripts += [send(sized(FLAC)), send(sized(FLAC)), server.stall(), send(sized(SHORT)), send(sized(FLAC))]
    with Client(server.url, KEY, timeout_s=0.3) as client:
        for body in [client.open_stream(RUN), client.open_stream(RUN)]:
            drained(body)
        assert server.connections == 2
        with pytest.raises(TimedOut):
            whole(client)
        assert server.connections == 3, "the next request came on a fresh one"
        assert whole(client) == FLAC


@pytest.mark.usefixtures("no_rest")
def test_an_answer_on_a_kept_connection_is_not_repeated(server: Server, client: Client) -> None:
    server.scripts += [send(sized(FLAC)), send(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")]
    whole(client)
    with pytest.raises(RemoteError):
        whole(client)
    assert server.scripts == []


# The request on the wire.


def test_a_signed_url_is_sent_as_it_is() -> None:
    targets: list[bytes] = []
    with Server() as server, Client(server.url, KEY, timeout_s=WAIT_S) as client:
        server.on_request = targets.append
        for target in ("/a%7Eb//c/../d?x=%2f%2F~{}|'\"<>^`&y=%7e%41", "/?a=b?c", "?x=1", "/%zz"):
            server.scripts += [send(sized(FLAC))]
            drained(client.open_stored(SignedUrl(server.url + target, {}, 1), 0, None))
    assert targets == [
        b"/a%7Eb//c/../d?x=%2f%2F~{}|'\"<>^`&y=%7e%41",
        b"/?a=b?c",
        b"/?x=1",
        b"/%zz",
    ]


def test_what_no_request_line_can_hold_is_escaped() -> None:
    targets: list[bytes] = []
    with Server() as server, Client(server.url, KEY, timeout_s=WAIT_S) as client:
        server.on_request = targets.append
        server.scripts += [send(sized(FLAC))]
        drained(client.open_stored(SignedUrl(f"{server.url}/a b/ü?c d", {}, 1), 0, None))
    assert targets == [b"/a%20b/%C3%BC?c%20d"]


@pytest.mark.usefixtures("no_rest")
def test_a_connection_that_has_rested_for_minutes_also_asleep_is_not_used(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.scripts += [send(sized(FLAC))] * 3
    assert whole(client) == whole(client) == FLAC
    assert server.connections == 1
    asleep(monkeypatch, connection.STALE_S)

    assert whole(client) == FLAC
    assert server.connections == 2
