"""Going to the background: a child in its own session, which reports to its parent how the start went. In the
foreground the service manager gets the report.

`wiring` says what the child does. The fork comes before any thread starts, because a child has none of its parent's
threads. The parent starts one after the fork: a request to a mount that hangs cannot be taken back.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from cambfs.errors import CambfsError, ConfigError
from cambfs.system import private_files

_START_TIMEOUT_S = 30.0
_RESPONSE_TIMEOUT_S = 10.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.02
_PATHS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

_log = logging.getLogger(__name__)


class Report:
    """The child's end of the pipe. A parent that is gone is no reason to fail."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def warn(self, text: str) -> None:
        self._send("warning", text)

    def ready(self) -> None:
        self._send("ready", "")

    def fail(self, text: str) -> None:
        self._send("error", text)

    def _send(self, kind: str, text: str) -> None:
        with suppress(OSError):
            os.write(self._fd, (json.dumps([kind, text]) + "\n").encode())


def notify_service_manager(state: str) -> None:
    """Sends `READY=1` and the like, as sd_notify(3) does. Does nothing if this process is not a service, or the service
    manager has gone."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith(("/", "@")):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)


def start(
    work: Callable[[Report], None], is_mounted: Callable[[], bool], warn: Callable[[str], None], log_file: Path
) -> None:
    """Runs `work` in a child in the background; returns when it has reported ready and `is_mounted` returns true.

    `warn` gets the child's warnings. Raises ConfigError when the child reports an error, dies, or is not ready in time;
    it is gone then. `is_mounted` may block forever.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    receive, send = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_child(work, send, log_file)
    os.close(send)
    try:
        _await_ready(receive, warn, f"the mount ended before it was ready; its log is {log_file}")
        _await_mount(is_mounted)
    except BaseException:
        _end(pid)
        raise
    finally:
        os.close(receive)


def _await_ready(receive: int, warn: Callable[[str], None], on_death: str) -> None:
    for kind, text in _messages(receive, time.monotonic() + _START_TIMEOUT_S):
        if kind == "ready":
            return
        if kind == "error":
            raise ConfigError(text)
        warn(text)
    raise ConfigError(on_death)


def _messages(receive: int, deadline: float) -> Iterator[tuple[str, str]]:
    """The child's reports, up to its end."""
    pending = b""
    while select.select([receive], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(receive, 65536)
        if not piece:
            return
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            kind, text = json.loads(line)
            yield kind, text
    raise ConfigError(f"the mount was not ready after {_START_TIMEOUT_S:g} s; it was stopped")


def _await_mount(is_mounted: Callable[[], bool]) -> None:
    responded = threading.Event()

    def ask() -> None:
        with suppress(OSError):
            while not is_mounted():
                time.sleep(_POLL_S)
            responded.set()

    threading.Thread(target=ask, daemon=True).start()
    if not responded.wait(_RESPONSE_TIMEOUT_S):
        raise ConfigError(f"the mount did not respond within {_RESPONSE_TIMEOUT_S:g} s; it was stopped")


def _end(pid: int) -> None:
    """Ends the child: with SIGTERM, then with SIGKILL."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_TIMEOUT_S
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_S)


def _be_child(work: Callable[[Report], None], send: int, log_file: Path) -> NoReturn:
    report, code = Report(send), 1
    try:
        _keep_paths()
        os.chdir("/")
        os.umask(0o077)
        stderr_fd = _leave_terminal(keep=send)
        try:
            work(_Ready(send, log_file))
            code = 0
        except CambfsError as error:
            report.fail(_with_reason(str(error), stderr_fd))
    except Exception as error:
        _log.exception("unexpected")
        report.fail(f"unexpected {type(error).__name__}: {error}; the log is {log_file}")
    finally:
        logging.shutdown()
        os._exit(code)


def _keep_paths() -> None:
    """Relative paths in the environment keep naming the same file after the working directory changes."""
    for name in _PATHS:
        if path := os.environ.get(name):
            os.environ[name] = str(Path(path).absolute())


class _Ready(Report):
    """Reporting ready also makes the log file the standard error, which until then was kept for the reason.

    The session of its own begins only here: an automounter (autofs, systemd) knows the mount helper that it started by
    its process group, and lets no other process near the mount point until the helper has ended.
    """

    def __init__(self, fd: int, log_file: Path) -> None:
        super().__init__(fd)
        self._log_file = log_file

    def ready(self) -> None:
        os.setsid()
        with suppress(OSError):
            fd = private_files.open_file(str(self._log_file), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.dup2(fd, 2)
            os.close(fd)
            faulthandler.enable()
        super().ready()


def _leave_terminal(keep: int) -> int:
    """Closes everything inherited but `keep`; returns a descriptor that collects the output on standard error."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - strings are what is wanted
        with suppress(OSError):
            if int(name) > 2 and int(name) != keep:
                os.close(int(name))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    stderr_fd = os.memfd_create("stderr")
    for source, target in ((null, 0), (null, 1), (stderr_fd, 2)):
        os.dup2(source, target)
    os.close(null)
    return stderr_fd


def _with_reason(text: str, stderr_fd: int) -> str:
    """The error, and the last message of libfuse or fusermount about it."""
    sys.stderr.flush()
    lines = os.pread(stderr_fd, 65536, 0).decode("utf-8", "replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"{text} ({words})" if words else text


def has_terminal() -> bool:
    """Whether the process has a controlling terminal, and so gets SIGHUP when the terminal is closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
