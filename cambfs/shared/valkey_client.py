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
from functools import partial
from threading import Lock
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from cambfs.errors import CambfsError, ConfigError
from cambfs.shared.address import Address, Layout
from cambfs.shared.breaker import Breaker
from cambfs.shared.engine import PATIENCE_S, EngineClosed, EngineDown, EngineFull, RunMoves
from cambfs.shared.sockets import Connection, Sockets
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
    # The server had sent something, or closed the connection, before it was asked anything.
    (re.compile("Connection not ready"), "the server refuses connections: in protected mode, or because of maxclients"),
    # Which line of a script it was says nothing to a user.
    (re.compile("ACL failure in script: "), ""),
    (re.compile("The user executing the script can't run.*"), "this user has no permissions for what cambfs does"),
    (re.compile(r",? script: .*on @user_script.*"), ""),
)
# An administrator may take EVALSHA away from all users (rename-command).
_FORBIDDEN = re.compile("ACL failure in script|user executing the script can't|unknown command")
_REPLICA = "against a read only "  # replica, or slave
_ANSWER_S = 0.25  # also for each step of TLS
_CONNECT_S = 0.25
# Routers and load balancers forget a silent connection after some minutes, and tell neither end.
_KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
# Errors of writing alone; a server that has one of them goes on to give what it has.
_TAKES_NOTHING = {
    "MISCONF ": "its snapshots fail; set save '' there",
    "NOREPLICAS ": "it has too few replicas; set min-replicas-to-write 0 there",
    _REPLICA: "it is a read only replica; name the primary",
}


class WriteRefused(Exception):
    """The server lets this user read and not write. The text is the server's."""


class Client(Protocol):
    """What `valkey_engine` uses of the three clients of the library, which have no common type."""

    def unlink(self, *names: str) -> Any: ...
    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...
    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any: ...
    def info(self, **targets: Any) -> Any: ...
    def pipeline(self, transaction: Any = None) -> Any: ...


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
        self._begun = 0
        self._connections = self._new_connections()
        self._is_closed = False

    def call(self, work: Callable[[Client], T]) -> T:
        """What the work returns. Raises EngineDown."""
        self._check_open()
        with self._breaker.attempt():
            future: Future[T] = Future()
            connections = self._connections
            try:
                self._start("engine", lambda: self._settle(future, connections, work))
                return future.result(PATIENCE_S)
            except FutureTimeout:
                down = EngineDown(f"{self.address}: no response within {PATIENCE_S} s")
                self._replace(connections)
                connections.end(down)
                self._check_open()
                raise down from None
            except EngineDown:
                self._check_open()
                raise
            except CambfsError as error:  # no thread could be started
                raise EngineDown(str(error)) from None

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        self._connections.end(EngineDown(f"{self.address}: not used any more"))

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosed(f"{self.address}: not used any more")

    def _settle(self, future: Future[T], connections: Connections, work: Callable[[Client], T]) -> None:
        try:
            self._check_open()
            future.set_result(work(connections.client()))
        except Exception as error:
            down = meaning_of(error, str(self.address), self._password)
            is_over, is_replica = type(down) is EngineDown, _REPLICA in str(error)
            if is_over and connections.failure is not None:
                down = EngineDown(str(connections.failure))  # of which this one is only a result
            if is_over or is_replica:  # the name may be that of another server by now
                self._replace(connections)
            future.set_exception(down)  # before other calls fail because of what follows
            if is_over:
                connections.end(down)
            elif is_replica:
                connections.retire()
        connections.tidy()

    def _replace(self, connections: Connections) -> None:
        """The next call connects anew, with nothing that was known of servers."""
        with self._lock:
            if self._connections is connections:
                self._connections = self._new_connections()

    def _new_connections(self) -> Connections:
        """Each with another host first: the time of a call is over before several silent ones were tried."""
        first = self._begun % len(self.address.hosts)
        self._begun += 1
        hosts = self.address.hosts[first:] + self.address.hosts[:first]
        return Connections(replace(self.address, hosts=hosts), self._password)


class Connections:
    """The connections of all calls until one of the calls fails."""

    def __init__(self, address: Address, password: str) -> None:
        self._address = address
        self._password = password
        self._sockets = Sockets()
        self._is_over = False  # written once
        self.failure: EngineDown | None = None  # the first one, which ended all calls
        self._lock = Lock()  # guards the client
        self._client: Client | None = None

    def client(self) -> Client:
        """Two threads may make one at the same time, and then one of them is kept. Raises as `connect`."""
        if self._client is None:
            made = connect(self._address, self._password, self._sockets)
            with self._lock:
                self._client = self._client or made
            if self._client is not made:
                _close_idle(made)
        return self._client

    def end(self, failure: EngineDown) -> None:
        """Calls that wait for a server fail soon, because of this."""
        self.failure = self.failure or failure
        self._is_over = True
        self._sockets.cut()
        self.tidy()

    def retire(self) -> None:
        """Calls that wait for a server go on, and are the last."""
        self._is_over = True
        self.tidy()

    def tidy(self) -> None:
        """Call after each call: after the last one of a connections that is over, no connection is left."""
        if self._is_over and self._client is not None:
            _close_idle(self._client)


def connect(address: Address, password: str, sockets: Sockets) -> Client:
    """A client for the address, whose sockets will be among these. For a cluster this asks one of its nodes, otherwise
    no connection is made yet. Raises what `meaning_of` understands."""
    options: dict[str, Any] = {
        "socket_timeout": _ANSWER_S,
        "socket_connect_timeout": _CONNECT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": _KEEPALIVE,
    }
    if address.is_tls:
        options |= {"ssl": True, "ssl_check_hostname": True}
    guard: Any = {"valkey_connect_func": partial(_connected, sockets)}
    # Without its name and version the library needs two round trips less, and the user needs fewer rights.
    login: dict[str, Any] = {"username": address.user or None, "password": password or None}
    login |= {"lib_name": None, "lib_version": None}
    client: Any
    match address.layout:
        case Layout.SINGLE:
            [(host, port)] = address.hosts
            client = valkey.Valkey(host, port, db=address.database, **options, **login, **guard)
        case Layout.SENTINEL:
            sentinel: Any = Sentinel(address.hosts, sentinel_kwargs=options | guard)  # type: ignore[no-untyped-call]
            client = sentinel.master_for(address.service, db=address.database, **options, **login, **guard)
        case Layout.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in address.hosts]  # type: ignore[no-untyped-call]
            client = _Cluster(sockets, startup_nodes=nodes, cluster_error_retry_attempts=0, **options, **login)
    checked: Client = client
    return checked


def _connected(sockets: Sockets, connection: Connection) -> None:
    """The library calls this instead of `on_connect`, before it reads anything."""
    sockets.guard(connection)
    connection.on_connect()


class _Cluster(ValkeyCluster):
    """The library calls `on_connect` for each connection, too, and takes no function instead."""

    def __init__(self, sockets: Sockets, **options: Any) -> None:
        self._sockets = sockets
        self._connected: WeakSet[Any] = WeakSet()
        try:
            super().__init__(**options)
        finally:
            for connection in [*self._connected]:  # used no more, but open until the garbage collector finds them
                connection.disconnect()

    def on_connect(self, connection: Any) -> None:
        self._connected.add(connection)
        self._sockets.guard(connection)
        super().on_connect(connection)  # type: ignore[no-untyped-call]


def _close_idle(client: Any) -> None:
    """Closes the connections that no call uses. The library could close all, but not while others read from them."""
    if hasattr(client, "get_nodes"):
        servers = [node.valkey_connection for node in client.get_nodes()]
    else:
        manager = getattr(client.connection_pool, "sentinel_manager", None)
        servers = [client, *(manager.sentinels if manager else ())]
    for server in servers:
        if server is not None:  # None: no call has reached that node
            server.connection_pool.disconnect(inuse_connections=False)


def meaning_of(error: Exception, address: str, password: str = "") -> EngineDown:
    """What a failed call says about the engine. The text begins with the address, and has nothing of the password."""
    # A server that does not know AUTH repeats its beginning.
    text = visible(str(error)).partition(", with args")[0].strip().rstrip(".") or type(error).__name__
    for theirs, ours in _WORDS:
        text = theirs.sub(ours, text)
    if password:
        text = text.replace(password, "…")
    if isinstance(error, EngineClosed):
        return error
    if isinstance(error, WriteRefused):
        return EngineFull(f"{address}: {text[:_MOST_TEXT]}; give this user the rights in docs/many-machines.md")
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM command not allowed" in text:
        return EngineFull(f"{address}: no memory is left; set maxmemory-policy allkeys-lru there")
    for code, reason in _TAKES_NOTHING.items():
        if code in text:
            return EngineFull(f"{address}: {reason}")
    if isinstance(error, exceptions.TryAgainError | exceptions.AskError) or "TTL exhausted" in text:
        return RunMoves(f"{address}: this run is being moved to another node")
    if isinstance(error, MasterNotFoundError) and "AuthenticationError" in str(error):
        return EngineDown(f"{address}: the Sentinels want a password, and get none")
    if isinstance(error, MasterNotFoundError):
        return EngineDown(f"{address}: no Sentinel that answers knows a primary of this service")
    if isinstance(error, exceptions.TimeoutError):
        return EngineDown(f"{address}: no response in time")
    return EngineDown(f"{address}: {text[:_MOST_TEXT]}")


def is_forbidden(error: exceptions.ResponseError) -> bool:
    """Whether this user has no right to do it, or no user has. A script reports that in words of its own."""
    return isinstance(error, exceptions.NoPermissionError) or bool(_FORBIDDEN.search(str(error)))


def is_of_another_type(result: object) -> bool:
    """Whether a command failed because the value there is not of the type that this program stores."""
    return isinstance(result, exceptions.ResponseError) and "WRONGTYPE" in str(result)
