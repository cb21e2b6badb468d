"""A real mount in a process of its own, and tools run in it with a limit on their time.

Not the tests, nor the audio (`audio`). The embedded API runs in the test's process; the test's process must not read
the mount through memory maps, because a page fault holds the interpreter lock that the API needs to answer it.
A watchdog, a thread for each mount, ends a mount that outlives its limit: callers that hang in it then get an errno.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

CAMBFS = str(Path(sys.executable).with_name("cambfs"))
# A mount hides most of itself in /proc from its own user, all but root. Where the tests run as that user, the mounts
# that they look into do not.
_SHOWS_ITSELF = """
import sys
from cambfs.cli import main
from cambfs.system import limits
limits.forbid_core_dumps = lambda: None
sys.argv[0] = "cambfs"
main()
"""
_COMMAND = (CAMBFS,) if os.geteuid() == 0 else (sys.executable, "-c", _SHOWS_ITSELF)
KEY = "a-key-that-nobody-may-see"
READER = str(Path(__file__).with_name("reader.py"))
PYTHON = (sys.executable, "-I", "-S")

_START_S = 30.0
_END_S = 15.0
_LIFE_S = 110.0
_POLL_S = 0.01
_LOG_LINE = re.compile(r"\S+ \S+ (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")


class Request(Protocol):
    """One that came to a server. `origin` is "api" where the key may go."""

    @property
    def origin(self) -> str: ...

    @property
    def had_key(self) -> bool: ...


class Server(Protocol):
    """The properties of the API that a mount needs."""

    @property
    def base_url(self) -> str: ...

    @property
    def requests(self) -> Sequence[Request]: ...


@dataclass(frozen=True)
class Done:
    """A tool that has ended. `status` is negative when a signal ended it."""

    command: str
    status: int
    out: bytes
    err: str

    def __str__(self) -> str:
        return f"{self.command!r} gave {self.status}, {len(self.out)} bytes, and said {self.err.strip()[-400:]!r}"


class Hung(AssertionError):
    pass


def run(
    command: str | Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limit_s: float = 60.0,
    on_hang: Callable[[], None] = lambda: None,
) -> Done:
    """Runs a command to its end; a text is for bash. Raises Hung after `limit_s`, when `on_hang` has been called to
    free what may hang in the kernel, and the command was killed."""
    argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
    shown = command if isinstance(command, str) else " ".join(command)
    with subprocess.Popen(
        argv,
        cwd=cwd,
        env=dict(env or os.environ, LC_ALL="C.UTF-8"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            on_hang()
            process.communicate()
            raise Hung(f"{shown!r} did not end within {limit_s:g} s") from None
    return Done(shown, process.returncode, out, err.decode(errors="replace"))


def wait_until(is_so: Callable[[], object], what: str, limit_s: float = 20.0) -> None:
    """Polls; raises AssertionError, which says `what`, after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < deadline, f"after {limit_s:g} s still not: {what}"
        time.sleep(_POLL_S)


def environment(server: Server, home: Path, **more: str) -> dict[str, str]:
    """The settings of a user of this server, without the tester's own."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "CAMBFS_FUSE") if name in os.environ}
    own = {"HOME": str(home), "CAMB_API_KEY": KEY, "CAMB_BASE_URL": server.base_url, "PYTHONFAULTHANDLER": "1"}
    return {**kept, **own, **more}


def mounts_below(directory: Path) -> list[Path]:
    """Every mount in a directory, and on itself; the innermost first."""
    lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")[:-1]
    mounts = [Path(os.fsdecode(line.split(b" ")[4])) for line in lines]
    return sorted((mount for mount in mounts if mount.is_relative_to(directory)), reverse=True)


def is_mounted(directory: Path) -> bool:
    return directory in mounts_below(directory)


def detach(directory: Path) -> None:
    """Removes a mount, in whatever state it is."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    while is_mounted(directory):
        subprocess.run([*command, str(directory)], check=True, capture_output=True)


class Mount:
    """`cambfs mount -f` for as long as a `with` lasts.

    At the end: unmounted, the process gone with `status` (0), nothing but `expected` among the warnings of its log, the
    key nowhere. `expected` are regular expressions, each of which must be found in a warning, too, unless it begins
    with "?". After `kill` only what is left of that is looked at. `path` is the tree, `cache_dir` the cache.
    """

    def __init__(
        self,
        server: Server,
        home: Path,
        *options: str,
        expected: Sequence[str] = (),
        key: str = KEY,
        name: str = "mnt",
        command: Sequence[str] = _COMMAND,
        life_s: float = _LIFE_S,
    ) -> None:
        self.server = server
        self.home = home
        self.path = home / name
        self.cache_dir = home / "cache"
        self.expected = list(expected)
        self.status = 0
        self._options = options
        self._key = key
        self._command = command
        self._log_file = home / "log"
        self._was_killed = False
        self._life_s = life_s

    def __enter__(self) -> Self:
        self.home.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        cache = [] if "--no-disk-cache" in self._options else ["--cache-dir", str(self.cache_dir)]
        with self._log_file.open("ab") as log:
            self._log_begin = log.tell()
            self.process = subprocess.Popen(
                [*self._command, "mount", "-f", *cache, *self._options, str(self.path)],
                env=environment(self.server, self.home, CAMB_API_KEY=self._key),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._watchdog = threading.Timer(self._life_s, self.kill, [signal.SIGABRT])
        self._watchdog.daemon = True
        self._watchdog.start()
        try:
            self._await_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def _await_ready(self) -> None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _START_S)
        line = self.process.stdout.readline() if ready else b""
        assert line.startswith(b"mounted at "), f"cambfs mount said {line!r}, and on standard error: {self.log}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if self._was_killed:
                return
            self.process.send_signal(signal.SIGTERM)
            self._check_ended(kind is None)
        finally:
            self.kill()
            self._watchdog.cancel()

    def crash(self) -> None:
        """Ends the daemon and leaves the dead mount."""
        self._was_killed = True
        self.process.kill()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends the daemon as a crash would, and removes the dead mount. Callers that hang in it are freed."""
        if self.process.poll() is None:
            self._was_killed = True
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        detach(self.path)

    def _check_ended(self, is_everything_well: bool) -> None:
        try:
            status = self.process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGABRT)
            raise Hung(f"the mount did not end within {_END_S:g} s of SIGTERM; its log:\n{self.log}") from None
        if is_everything_well:
            assert not is_mounted(self.path)
            assert status == self.status, f"the daemon ended with {status}; its log:\n{self.log}"
            self.check_log()
            self.check_key_is_hidden()

    @property
    def log(self) -> str:
        """The standard error of this mount so far."""
        return self._log_file.read_bytes()[self._log_begin :].decode()

    @property
    def warnings(self) -> list[str]:
        """The lines of the log that are more than information."""
        quiet = ("INFO", "DEBUG")
        return [line for line in self.log.splitlines() if not (m := _LOG_LINE.match(line)) or m[1] not in quiet]

    def check_log(self) -> None:
        patterns = {pattern.removeprefix("?"): pattern.startswith("?") for pattern in self.expected}
        strange = [line for line in self.warnings if not any(re.search(pattern, line) for pattern in patterns)]
        assert not strange, "unexpected in the log:\n" + "\n".join(strange)
        for pattern, is_optional in patterns.items():
            is_there = any(re.search(pattern, line) for line in self.warnings)
            assert is_there or is_optional, f"no warning {pattern!r} in the log:\n{self.log}"

    def check_key_is_hidden(self) -> None:
        assert self._key not in self.log
        for record in self.server.requests:
            assert record.origin == "api" or not record.had_key, f"the key went to storage: {record}"
        for path in self.cache_dir.rglob("*"):
            assert self._key not in path.name
            assert path.suffix == ".flac" or path.is_dir() or self._key.encode() not in path.read_bytes()

    def run(self, command: str | Sequence[str], *, limit_s: float = 60.0) -> Done:
        """Runs a tool with the tree as its working directory."""
        try:
            return run(command, cwd=self.path, limit_s=limit_s, on_hang=lambda: self.kill(signal.SIGABRT))
        except Hung as hung:
            raise Hung(f"{hung}; the daemon's log:\n{self.log}") from None

    def read(self, *arguments: object, limit_s: float = 60.0) -> Done:
        """Runs one of the reader's operations (`reader.py`) in the tree."""
        return self.run([*PYTHON, READER, *map(str, arguments)], limit_s=limit_s)

    @contextlib.contextmanager
    def start(self, command: str | Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A tool that goes on beside the test; killed at the end, at the latest with the mount. Its output goes to
        pipes, and it waits when these are full."""
        argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
        with subprocess.Popen(
            argv, cwd=self.path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                process.kill()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    self.kill(signal.SIGABRT)
                    raise Hung(f"{argv} survived SIGKILL; the daemon's log:\n{self.log}") from None

    def cached_runs(self) -> set[int]:
        """The results on the disk."""
        return {int(path.stem) for path in self.cache_dir.glob("*/*.flac")}

    def parts(self) -> list[Path]:
        """Data that is on its way to the disk."""
        return list(self.cache_dir.glob("*/part/*"))

    def await_idle(self) -> None:
        """Returns when the daemon has closed every result. From here on the last result that was read counts as used
        last."""
        wait_until(lambda: not self._results_open(), "the daemon has closed all results")

    def _results_open(self) -> list[str]:
        found = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(link.readlink()))
        return [path for path in found if ".flac" in path or "/part/" in path]
