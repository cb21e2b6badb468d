"""The addresses of one host: connects to the first that responds, as in RFC 8305 ("Happy Eyeballs").

A name can have addresses that are unreachable from here: an IPv6 route that leads nowhere, or one server of several
that is down. Tried one after the other, each costs the whole time to connect. Here the next attempt begins 250 ms after
the last, or as soon as that has failed. The first to connect wins, and is tried first from then on.

Threads: any number at once; none of its own, since one thread waits for all of its attempts.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
from errno import EINPROGRESS
from itertools import chain, zip_longest
from typing import Any, NamedTuple

from urllib3.util.connection import allowed_gai_family

# RFC 8305, 5: the recommended delay between two attempts.
ATTEMPT_DELAY_S = 0.25


class Address(NamedTuple):
    """An address as `socket.getaddrinfo` returns it."""

    family: int
    kind: int
    protocol: int
    name: str
    place: Any


class Addresses:
    """Connects to one host, and remembers which of its addresses responded last."""

    def __init__(self) -> None:
        self._winner: Any = None  # one word; if two threads connect at once, either value is right

    def connect(self, host: str, port: int, timeout_s: float, options: Iterable[Any] = ()) -> socket.socket:
        """A connected socket with `timeout_s` and these socket options. Raises socket.gaierror; TimeoutError when no
        address has responded after `timeout_s`; the OSError of one address when all have failed before."""
        found = socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
        addresses = interleaved([Address(*one) for one in found])
        addresses.sort(key=lambda address: address.place != self._winner)
        sock = race(addresses, timeout_s, list(options))
        with suppress(OSError):  # it was closed at once, which its first use will show
            self._winner = sock.getpeername()
        return sock


def interleaved(addresses: Iterable[Address]) -> list[Address]:
    """In the system's order, but with families alternating while there is more than one."""
    families: dict[int, list[Address]] = defaultdict(list)
    for address in addresses:
        families[address.family].append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in turns if address is not None]


def race(addresses: Iterable[Address], timeout_s: float, options: list[Any]) -> socket.socket:
    """As `Addresses.connect`. All sockets but the returned one are closed."""
    deadline = time.monotonic() + timeout_s
    waiting, failures = deque(addresses), [OSError("the name has no address")]
    with selectors.PollSelector() as attempts:  # needs no descriptor, and a thread may have any number
        try:
            while waiting or attempts.get_map():
                if waiting:
                    _begin(waiting.popleft(), attempts, failures, options)
                pause_s = ATTEMPT_DELAY_S if waiting else timeout_s
                winner = _first_connected(attempts, min(deadline, time.monotonic() + pause_s), failures)
                if winner is not None:
                    winner.settimeout(timeout_s)
                    return winner
                if time.monotonic() >= deadline:
                    raise TimeoutError("no address has responded in time")
        finally:
            for key in attempts.get_map().values():
                key.fileobj.close()  # type: ignore[union-attr]
    # A refusal tells more than a missing route, as of IPv6 where there is none.
    raise next((one for one in failures if isinstance(one, ConnectionRefusedError)), failures[-1])


def _begin(address: Address, attempts: selectors.BaseSelector, failures: list[OSError], options: Iterable[Any]) -> None:
    sock = None
    try:
        sock = socket.socket(address.family, address.kind, address.protocol)
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)
        _raise_unless(sock.connect_ex(address.place), (0, EINPROGRESS))
        attempts.register(sock, selectors.EVENT_WRITE)
    except OSError as error:
        failures.append(error)
        if sock is not None:
            sock.close()


def _first_connected(attempts: selectors.BaseSelector, until: float, failures: list[OSError]) -> socket.socket | None:
    """None when one has failed, none is left, or at `until`."""
    if not attempts.get_map():
        return None
    for key, _ in attempts.select(max(until - time.monotonic(), 0.0)):
        sock = key.fileobj
        assert isinstance(sock, socket.socket)
        attempts.unregister(sock)
        try:
            _raise_unless(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), (0,))
        except OSError as error:
            failures.append(error)
            sock.close()
        else:
            return sock
    return None


def _raise_unless(code: int, good: tuple[int, ...]) -> None:
    if code not in good:
        raise OSError(code, os.strerror(code))
