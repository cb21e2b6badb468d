"""Whether the link does what it says: its round trip, its rate and its loss, measured from outside.

Threads: none here; `peer` is a process on the other side.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench_lib.figures import CannotMeasure
from bench_lib.link import bytes_seen
from bench_lib.real_link import peer
from bench_lib.real_link.network import API, Network, Terms

_LIMIT_S = 20.0
_PINGS = 15
_ROUND_TRIP_MORE_S = 0.003
_CONNECTIONS = 4
_RAMP_ROUND_TRIPS, _STEADY_S = 15, 1.5
_RATE_SHARE = 0.05
_PACKETS = 20_000
_DEVIATIONS = 4
_SO_RCVBUFFORCE = 33


@dataclass(frozen=True)
class Found:
    """What the link really does: seconds, Mbit/s with the headers of packets, packets lost of `sent`."""

    terms: Terms
    round_trip_s: float
    megabits: float
    lost: int
    sent: int = _PACKETS

    def __str__(self) -> str:
        times = f"round trip {self.round_trip_s * 1000:.1f} ms, {self.megabits:.1f} Mbit/s"
        return f"{times}, {self.lost} of {self.sent:,} packets lost"

    def faults(self) -> list[str]:
        """What is not as promised; none of a good link."""
        terms = self.terms
        expected = self.sent * terms.loss_percent / 100
        checks = {
            "round trip": 0 <= self.round_trip_s - terms.round_trip_s <= _ROUND_TRIP_MORE_S,
            "rate": abs(self.megabits / terms.megabits - 1) <= _RATE_SHARE,
            "loss": abs(self.lost - expected) <= _DEVIATIONS * expected**0.5,
        }
        return [name for name, is_right in checks.items() if not is_right]


def prove(network: Network) -> Found:
    """Raises CannotMeasure when the link is not what it says."""
    with _peer(network):
        found = Found(network.terms, _round_trip_s(), _megabits(network.terms), _lost())
    if faults := found.faults():
        raise CannotMeasure(f"the link of {network.terms} is not as promised in {', '.join(faults)}: {found}")
    return found


@contextmanager
def _peer(network: Network) -> Iterator[None]:
    command = network.beyond([sys.executable, str(Path(peer.__file__)), API])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise CannotMeasure("the other side of the link does not answer")
            yield
        finally:
            process.kill()


def _connect() -> socket.socket:
    return socket.create_connection((API, peer.BYTES_PORT), timeout=_LIMIT_S)


def _round_trip_s() -> float:
    """The best of some TCP connections, each of which takes one: the others waited for a processor, too."""
    samples = []
    for _ in range(_PINGS):
        begin = time.perf_counter()
        with _connect():
            samples.append(time.perf_counter() - begin)
    return min(samples)


def _megabits(terms: Terms) -> float:
    """What comes out of the link during downloads that have reached their full speed."""
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(_CONNECTIONS):
            selector.register(stack.enter_context(_connect()), selectors.EVENT_READ)
        _receive(selector, max(_RAMP_ROUND_TRIPS * terms.round_trip_s, 1))
        # Bytes of packets, for those of a stream come in leaps: a lost packet holds up the ones behind it.
        begin, before = time.perf_counter(), bytes_seen("near")
        _receive(selector, _STEADY_S)
        return (bytes_seen("near") - before) * 8 / (time.perf_counter() - begin) / 1e6


def _receive(selector: selectors.BaseSelector, seconds: float) -> None:
    buffer = bytearray(1 << 20)
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        for key, _ in selector.select(seconds):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.recv_into(buffer)


def _lost() -> int:
    """Of `_PACKETS` datagrams, sent well below the rate."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        receiver.sendto(str(_PACKETS).encode(), (API, peer.PACKETS_PORT))
        receiver.settimeout(_LIMIT_S)
        came = 0
        try:
            while came < _PACKETS:
                receiver.recv(peer.PACKET_BYTES)
                came += 1
                receiver.settimeout(1)
        except TimeoutError:
            pass
        return _PACKETS - came
