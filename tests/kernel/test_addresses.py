"""A name with several addresses, of which only the last responds."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.harness import Mount

# `cambfs`, but every name has two addresses of a listener that never responds before its own.
_PROGRAM = """
import socket, sys
found = socket.getaddrinfo

def with_dead_ones(host, port, *more, **most):
    dead = found("127.0.0.1", int(sys.argv[1]), *more, **most)
    return dead + dead + found(host, port, *more, **most)

socket.getaddrinfo = with_dead_ones
from cambfs.cli import main
main(sys.argv[2:])
"""


def test_dead_addresses_are_passed_by(server: Server, audio: Audio, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as dead, socket.socket() as one, socket.socket() as two:
        for filling in (one, two):
            filling.setblocking(False)
            filling.connect_ex(dead.getsockname())
        command = [sys.executable, "-c", _PROGRAM, str(dead.getsockname()[1])]
        with Mount(server, tmp_path / "home", "--timeout", "20", command=command) as mount:
            assert mount.run(["cat", "101.flac"]).out == audio.sentence.read_bytes()
            assert mount.run(["stat", "-c", "%s", "105.flac"]).out == b"%d\n" % audio.minutes.stat().st_size
