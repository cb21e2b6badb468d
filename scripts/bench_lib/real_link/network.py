"""The link: two TUN devices, one here and one in a network namespace that exists only for it, joined by `link.c`.

This side is the user's machine; the other has two addresses, for the API and for the storage. No threads here;
`link.c` is a process with two.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench_lib.figures import CannotMeasure
from bench_lib.running import Running

# Addresses that are reserved for benchmarks between networks.
_NETWORK = "198.18.0.0/24"
_HERE, API, STORAGE = "198.18.0.1", "198.18.0.2", "198.18.0.3"
_SOURCE = Path(__file__).with_name("link.c")
# As much as the link sends in this time waits in its queue; more is dropped, as a router does.
_QUEUE_S = 0.1
_WAIT_IN_DEVICE = 20_000
_CALM_S, _CALM_PACKETS, _CALM_LIMIT_S = 0.1, 5, 20.0


@dataclass(frozen=True)
class Terms:
    """What a link does: round trip in ms, rate in Mbit/s each way, and the share of packets lost, in per cent."""

    round_trip_ms: int
    megabits: int
    loss_percent: float = 0

    @property
    def round_trip_s(self) -> float:
        return self.round_trip_ms / 1000

    def transfer_s(self, size: int) -> float:
        """For `size` bytes at the full rate, without the headers of packets."""
        return size * 8 / (self.megabits * 1e6)

    @property
    def congestion(self) -> str:
        """How senders find their rate: as Linux does without being told; but with loss that takes minutes for 15 MB at
        100 ms, and servers of large providers use BBR. BBR in turn stays slow for long when a busy machine delays it
        once, so it is not for every link here."""
        return "bbr" if self.loss_percent else "cubic"

    def __str__(self) -> str:
        loss = f", {self.loss_percent:g} % loss" if self.loss_percent else ""
        return f"{self.round_trip_ms} ms, {self.megabits} Mbit/s{loss}"


@dataclass(frozen=True)
class Packets:
    """From the other side, since the link exists: all, those lost on purpose, and those that found the queue full."""

    taken: int
    lost: int
    refused: int


def build(directory: Path) -> Path:
    """Compiles `link.c` into the directory. Raises CannotMeasure."""
    if shutil.which("gcc") is None:
        raise CannotMeasure("the link is a C program, and gcc is missing; apt install gcc libc6-dev")
    program = directory / "link"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(f"the link cannot be compiled: {(done.stderr.splitlines() or ['gcc failed'])[0]}")
    return program


class Network(Running[str]):
    """A link for as long as the `with` lasts. Raises CannotMeasure on entering where there can be none."""

    def __init__(self, program: Path, terms: Terms) -> None:
        self.terms = terms
        delay_us = terms.round_trip_ms * 500
        queue_bytes = int(terms.megabits * 1e6 / 8 * _QUEUE_S)
        words = (delay_us, terms.megabits * 1_000_000, queue_bytes, round(terms.loss_percent * 10_000))
        self._command = [str(program), *map(str, words)]

    def start(self) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def await_ready(self) -> None:
        if self._line() != "ready":
            raise CannotMeasure(f"there is no link: {self.process.communicate()[1].strip()}")
        self._configure()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def packets(self) -> Packets:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return Packets(*map(int, self._line().split()))

    def calm(self) -> None:
        """Returns when next to nothing comes from the other side any more. Raises CannotMeasure after a time limit."""
        deadline = time.monotonic() + _CALM_LIMIT_S
        before = self.packets().taken
        while time.monotonic() < deadline:
            time.sleep(_CALM_S + self.terms.round_trip_s)
            now = self.packets().taken
            if now - before < _CALM_PACKETS:
                return
            before = now
        raise CannotMeasure(f"the link is still busy after {_CALM_LIMIT_S:.0f} s")

    def _configure(self) -> None:
        for address in (API, STORAGE):
            _run(self.beyond(["ip", "address", "add", f"{address}/24", "dev", "far"]))
        _run(["ip", "address", "add", f"{_HERE}/24", "dev", "near"])
        for name, where in (("near", list), ("far", self.beyond)):
            _run(where(["ip", "link", "set", name, "up", "txqueuelen", str(_WAIT_IN_DEVICE), "addrgenmode", "none"]))
            _run(where(["ip", "link", "set", "lo", "up"]))
            # A namespace may not choose any algorithm as its default, but any for a route.
            route = ["ip", "route", "change", _NETWORK, "dev", name, "congctl", self.terms.congestion]
            _run(where(route))
            # What one connection learns of the link must not speed up the next contender's.
            _run(where(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/tcp_no_metrics_save"]))

    def beyond(self, command: Sequence[str]) -> list[str]:
        """The command, to be run on the other side."""
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(f"there is no link: {done.stderr.strip()}")
