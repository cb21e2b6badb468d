"""Connections to Valkey and Redis servers: one server, what Sentinels name, or a cluster; and what their errors mean.

Importing this raises ConfigError when the libraries are not installed; only `valkey_engine` does.

Threads: any call; each waits for at most PATIENCE_S while a worker `engine` makes its requests. The library limits the
time of each step, but not of resolving a name, and not of all steps together. `Link._lock` is a leaf.
"""

from __future__ import annotations

import re
import shlex
import socket
import sys
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from threading import Lock
from typing import Any, Protocol, TypeVar

from cambfs.errors import CambfsError, ConfigError
from cambfs.shared.address import Address, Layout
from cambfs.shared.breaker import Breaker
from cambfs.shared.engine import PATIENCE_S, EngineDown, EngineFull, RunMoves
from cambfs.text import visible

try:
    import libvalkey  # noqa: F401  valkey uses it when it is there, and reads half as fast without
    import valkey
    from valkey import exceptions as exceptions
    from valkey.cluster import ClusterNode, ValkeyCluster
    from valkey.sentinel import MasterNotFoundError, Sentinel
except ImportError:
    # Not `cambfs[shared]`: the pip of another environment would look for cambfs in a registry.
    _install = f"{shlex.quote(sys.executable)} -m pip install valkey libvalkey"
    raise ConfigError(f"a shared cache needs two more libraries; run: {_install}") from None

T = TypeVar("T")
_MOST_TEXT = 200  # characters of a server's own words
# What the library says, and the same for a user.
_WORDS = (
    (re.compile(r"Error -?\d+ connecting to (\S+)\. "), r"cannot connect to \1: "),
    (re.compile(r"Error while reading from \S+?(?: :|:) \(-?\d+, '(.*)'\)"), r"no response: \1"),
    # After a failure `Link` closes the connections of all calls.
    (re.compile("no response: Bad file descriptor"), "closed, because another request had failed"),
    # The server had sent something, or closed the connection, before it was asked anything.
    (re.compile("Connection not ready"), "the server refuses connections: in protected mode, or because of maxclients"),
)
_ANSWER_S = 0.25  # also for each step of TLS
_CONNECT_S = 0.25
# Routers and load balancers forget a silent connection after some minutes, and tell neither end.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
# Errors of writing alone; a server that has one of them goes on to give what it has.
_TAKES_NOTHING = {
    "MISCONF ": "its snapshots fail; set save '' there",
    "NOREPLICAS ": "it has too few replicas; set min-replicas-to-write 0 there",
}


class Client(Protocol):
    """What `valkey_engine` uses of the three clients of the library, which have no common type."""

    def unlink(self, *names: str) -> Any: ...
    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...
    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any: ...
    def info(self, **targets: Any) -> Any: ...
    def pipeline(self, transaction: Any = None) -> Any: ...
    def close(self) -> None: ...


class Link:
    """The way to the servers. `start(name, work)` runs work in a thread."""

    def __init__(
        self,
        address: Address,
        password: str,
        start: Callable[[str, Callable[[], None]], None],
        breaker: Breaker | None = None,
    ) -> None:
        self.address = address
        self._password = password
        self._start = start
        self._breaker = breaker or Breaker(str(address))
        self._lock = Lock()  # guards the next three
        self._connects = 0
        self._client: Client | None = None  # thrown away after each failure, with all that it knows of servers
        self._is_closed = False

    def call(self, work: Callable[[Client], T]) -> T:
        """What the work returns. Raises EngineDown."""
        with self._breaker.attempt():
            future: Future[T] = Future()
            try:
                self._start("engine", lambda: self._settle(future, work))
                return future.result(PATIENCE_S)
            except FutureTimeout:
                self._discard()
                raise EngineDown(f"{self.address}: no response within {PATIENCE_S} s") from None
            except EngineDown:
                raise
            except CambfsError as error:  # no thread could be started
                raise EngineDown(str(error)) from None

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._discard()

    def _settle(self, future: Future[T], work: Callable[[Client], T]) -> None:
        client: Client | None = None
        try:
            client = self._connected()
            future.set_result(work(client))
        except Exception as error:
            down = meaning_of(error, str(self.address), self._password)
            if type(down) is EngineDown:
                client = self._take() or client
            future.set_exception(down)  # before other calls fail because of what follows
        if client is not None and client is not self._client:
            client.close()  # one that another call has closed may have connected again

    def _connected(self) -> Client:
        """The client. Two threads may make one at the same time, and then one of them is kept."""
        if (client := self._client) is not None:
            return client
        made = connect(self._next_address(), self._password)
        with self._lock:
            if self._client is None and not self._is_closed:
                self._client = made
            kept = self._client
        if kept is not made:
            made.close()
        if kept is None:
            raise EngineDown("this mount is ending")
        return kept

    def _next_address(self) -> Address:
        """Each time with another host first: the time of a call is over before several silent ones were tried."""
        with self._lock:
            first = self._connects % len(self.address.hosts)
            self._connects += 1
        return replace(self.address, hosts=self.address.hosts[first:] + self.address.hosts[:first])

    def _take(self) -> Client | None:
        """The client, for its end. The next call makes another one."""
        with self._lock:
            client, self._client = self._client, None
        return client

    def _discard(self) -> None:
        if (client := self._take()) is not None:
            client.close()


def connect(address: Address, password: str) -> Client:
    """A client for the address. For a cluster this asks one of its nodes, otherwise no connection is made yet. Raises
    what `meaning_of` understands."""
    options: dict[str, Any] = {
        "socket_timeout": _ANSWER_S,
        "socket_connect_timeout": _CONNECT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": _KEEPALIVE,
    }
    if address.is_tls:
        options |= {"ssl": True, "ssl_check_hostname": True}
    # Without its name and version the library needs two round trips less, and the user needs fewer rights.
    login: dict[str, Any] = {"username": address.user or None, "password": password or None}
    login |= {"lib_name": None, "lib_version": None}
    client: Any
    match address.layout:
        case Layout.SINGLE:
            [(host, port)] = address.hosts
            client = valkey.Valkey(host, port, db=address.database, **options, **login)
        case Layout.SENTINEL:
            sentinel: Any = Sentinel(address.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
            client = sentinel.master_for(address.service, db=address.database, **options, **login)
        case Layout.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in address.hosts]  # type: ignore[no-untyped-call]
            client = ValkeyCluster(startup_nodes=nodes, cluster_error_retry_attempts=0, **options, **login)
    checked: Client = client
    return checked


def meaning_of(error: Exception, address: str, password: str = "") -> EngineDown:
    """What a failed call says about the engine. The text begins with the address, and has nothing of the password."""
    # A server that does not know AUTH repeats its beginning.
    text = visible(str(error)).partition(", with args")[0].strip().rstrip(".") or type(error).__name__
    for theirs, ours in _WORDS:
        text = theirs.sub(ours, text)
    if password:
        text = text.replace(password, "…")
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM command not allowed" in text:
        return EngineFull(f"{address}: no memory is left; set maxmemory-policy allkeys-lru there")
    for code, reason in _TAKES_NOTHING.items():
        if code in text:
            return EngineFull(f"{address}: it takes nothing new: {reason}")
    if isinstance(error, exceptions.TryAgainError | exceptions.AskError) or "TTL exhausted" in text:
        return RunMoves(f"{address}: this run is being moved to another node")
    if isinstance(error, MasterNotFoundError) and "AuthenticationError" in str(error):
        return EngineDown(f"{address}: the Sentinels want a password, and get none")
    if isinstance(error, MasterNotFoundError):
        return EngineDown(f"{address}: no Sentinel that answers knows a primary of this service")
    if isinstance(error, exceptions.TimeoutError):
        return EngineDown(f"{address}: no response in time")
    return EngineDown(f"{address}: {text[:_MOST_TEXT]}")


def is_of_another_type(result: object) -> bool:
    """Whether a command failed because the value there is not of the type that this program stores."""
    return isinstance(result, exceptions.ResponseError) and "WRONGTYPE" in str(result)
