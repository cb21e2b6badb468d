"""Errors as readers in a mount see them: the right bytes or an errno, and never a short file."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount, wait_until

_LENGTHS = ("chunked", "content-length", "close")
_TIMEOUT = ("--timeout", "2")
# Far more than the timeout, far less than for ever.
_SOON_S = 30.0


def _fails(mount: Mount, command: str, words: str) -> None:
    done = mount.run(command, limit_s=_SOON_S)
    assert done.status != 0, done
    assert words in done.err, done


@pytest.mark.parametrize("target", ["stream", "sign"])
def test_a_refused_key_is_eacces(target: str, server: Server, mounted: Mounted) -> None:
    words = b'{"error": "Invalid API key", "status": 401}'
    with mounted(expected=["101.*Invalid API key.*EACCES"]) as mount:
        server.fail(Fault("status", target=target, times=None, status=401, body=words))  # type: ignore[arg-type]
        _fails(mount, f"cat 101.{'url' if target == 'sign' else 'flac'}", "Permission denied")
        server.heal()
        assert mount.run("cmp 101.flac 101.flac && cat 101.url").status == 0, "once the key is taken again, all is well"


def test_a_forbidden_run_is_eacces(server: Server, mounted: Mounted) -> None:
    server.profile = Profile(forbidden=frozenset([101]))
    with mounted(expected=["101.*EACCES"]) as mount:
        for command in ("cat 101.flac", "stat 101.flac", "cat 101.url", "cp 101.flac /dev/null"):
            _fails(mount, command, "Permission denied")
        assert mount.run("sha256sum 105.flac").status == 0


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_temporary_failures_are_not_seen(status: int, server: Server, mounted: Mounted, audio: Audio) -> None:
    for target in ("stream", "sign", "stored"):
        server.fail(Fault("status", target=target, status=status))
    with mounted() as mount:
        assert mount.run("cat 105.flac").out == audio.minutes.read_bytes()
        assert mount.run("stat -c %s 101.flac").out == b"%d\n" % audio.sentence.stat().st_size
        assert mount.run("cat 101.url").status == 0


def test_lasting_failures_are_eio(server: Server, mounted: Mounted) -> None:
    for target in ("stream", "sign"):
        server.fail(Fault("status", target=target, times=None, status=500))
    with mounted(*_TIMEOUT, expected=["101.*500.*EIO"]) as mount:
        for command in ("cat 101.flac", "stat 101.flac", "cat 101.url"):
            _fails(mount, command, "Input/output error")
        server.heal()
        assert mount.run("cat 101.flac 101.url").status == 0


def test_an_api_that_is_down_is_econnrefused(server: Server, mounted: Mounted, audio: Audio) -> None:
    with mounted(*_TIMEOUT, expected=["105.*ECONNREFUSED"]) as mount:
        assert mount.run("cat 101.flac").status == 0
        server.stop()
        for command in ("cat 105.flac", "stat 105.flac", "cp 105.flac /dev/null"):
            _fails(mount, command, "Connection refused")
        assert mount.run("cat 101.flac").out == audio.sentence.read_bytes()
        assert mount.run("ls -l 101.flac && df .").status == 0


def test_mounted_while_the_api_is_down(server: Server, mounted: Mounted) -> None:
    server.stop()
    with mounted(*_TIMEOUT, expected=["key could not be checked", "ECONNREFUSED"]) as mount:
        assert mount.run("ls").status == 0
        _fails(mount, "cat 105.flac", "Connection refused")


def test_a_stalled_result_delays_nobody_else(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.fail(Fault("stall", run_id=105, after_bytes=1_000_000, times=None))
    server.fail(Fault("stall", target="stored", run_id=105, after_bytes=BEFORE_HEADERS, times=None))
    with mounted(*_TIMEOUT, expected=["105.*ETIMEDOUT"]) as mount, contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(mount.start("cat 105.flac | wc -c; exit ${PIPESTATUS[0]}")) for _ in range(20)]
        wait_until(lambda: server.stalled, "the stream has stalled")
        for command in ("ls -l 101.flac", "df .", "ls", "cat 101.url", "stat ."):
            assert mount.run(command, limit_s=_SOON_S).status == 0
        assert mount.run("cat 101.flac", limit_s=_SOON_S).out == audio.sentence.read_bytes()
        for reader in stalled:
            out, err = reader.communicate(timeout=_SOON_S)
            assert reader.returncode == 1
            assert b"Connection timed out" in err
            assert int(out) < audio.minutes.stat().st_size
        server.heal()
        # An attempt that began before may be shared for as long as it lasts.
        wait_until(lambda: mount.run("cat 105.flac").out == audio.minutes.read_bytes(), "it is read anew")


# A cut body of the framing "close" ends like a whole one: only storage shows the difference.
_BREAKS = [
    (kind, length, storage)
    for kind in ("cut", "reset")
    for length in ("chunked", "content-length", "close")
    for storage in ("ranges", "unreachable")
    if (kind, length, storage) != ("cut", "close", "unreachable")
]


@pytest.mark.parametrize(("kind", "length", "storage"), _BREAKS)
def test_a_body_that_breaks_is_resumed(
    kind: str, length: str, storage: str, server: Server, mounted: Mounted, audio: Audio
) -> None:
    server.profile = Profile(length=length, storage=storage)  # type: ignore[arg-type]
    for after_bytes in (4, 100_000, 3_000_000, audio.minutes.stat().st_size - 1):
        server.fail(Fault(kind, run_id=105, after_bytes=after_bytes))  # type: ignore[arg-type]
    with mounted("--timeout", "10") as mount:
        done = mount.run("cat 105.flac")
        assert (done.status, done.out == audio.minutes.read_bytes()) == (0, True), done
        assert mount.run("flac -ts 105.flac").status == 0


@pytest.mark.parametrize(
    ("kind", "length"),
    [("cut", "chunked"), ("cut", "content-length"), *(("reset", length) for length in _LENGTHS), ("drip", "chunked")],
)
def test_a_body_that_never_comes_whole_is_never_a_short_file(
    kind: str, length: str, server: Server, mounted: Mounted, audio: Audio
) -> None:
    server.profile = Profile(length=length, storage="unreachable")  # type: ignore[arg-type]
    server.fail(Fault(kind, after_bytes=2_000_000, times=None, interval_s=0.3))  # type: ignore[arg-type]
    commands = (
        "cp 105.flac $O/cp",
        "cat 105.flac > $O/cat",
        "tar -cf $O/tar 105.flac",
        "dd if=105.flac of=$O/dd bs=4099",
    )
    with mounted("--timeout", "1", expected=["105.*(EIO|ETIMEDOUT)"]) as mount, ThreadPoolExecutor() as pool:
        for done in pool.map(lambda command: mount.run(f"O={mount.home}; {command}", limit_s=_SOON_S), commands):
            assert done.status != 0, f"a part was taken for the whole: {done}"
        assert mount.cached_runs() == set()
        server.heal()
        wanted = audio.minutes.read_bytes()
        wait_until(lambda: mount.run("cat 105.flac").out == wanted, "it is read again")


def test_a_cut_that_looks_like_an_end_is_not_kept(server: Server, mounted: Mounted, audio: Audio) -> None:
    """Neither the framing nor the storage shows that something is missing, so it is not trusted any longer."""
    server.profile = Profile(length="close", storage="unreachable")
    server.fail(Fault("cut", run_id=105, after_bytes=2_000_000))
    wanted = audio.minutes.read_bytes()
    with mounted("--timeout", "5", expected=["?105"]) as mount:
        done = mount.run("cat 105.flac")
        assert wanted.startswith(done.out)
        mount.await_idle()
        assert (mount.cached_runs() == set()) == (done.out != wanted)
    with mounted() as mount:
        assert mount.run("cat 105.flac").out == wanted


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"detail": "Your trial has ended"}'),
        ("audio/flac", b'{"detail": "Your trial has ended"}'),
        ("text/html", b"<html><title>Your trial has ended</title></html>"),
        ("audio/flac", b""),
    ],
)
def test_text_in_place_of_audio_is_eio(content_type: str, body: bytes, server: Server, mounted: Mounted) -> None:
    server.fail(Fault("content", times=None, content_type=content_type, body=body))
    with mounted(*_TIMEOUT, expected=["101.*trial has ended.*EIO" if body else "101.*EIO"]) as mount:
        _fails(mount, "cat 101.flac", "Input/output error")
        assert mount.cached_runs() == set()
        server.heal()
        assert mount.run("flac -ts 101.flac").status == 0


# Python handles SIGINT itself, which a page fault does not wait for.
_MAP = """python3 -ISc 'import mmap, os, signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
print(len(mmap.mmap(os.open("$F.flac", 0), 0, mmap.MAP_SHARED, 1)[:]))'"""
# Each with the byte of the audio before which nothing comes any more.
_STUCK = {
    "stat $F.flac": BEFORE_HEADERS,
    "cat $F.flac": BEFORE_HEADERS,
    "cat $F.url": BEFORE_HEADERS,
    "sha256sum $F.flac": 1_000_000,
    _MAP: 1_000_000,
}


def _stall(server: Server, run_id: int, after_bytes: int) -> None:
    """Every response about a run stops there; of those that are not audio only the headers are held back."""
    server.fail(Fault("stall", run_id=run_id, after_bytes=after_bytes, times=None))
    for target in ("sign", "stored") if after_bytes == BEFORE_HEADERS else ():
        server.fail(Fault("stall", target=target, run_id=run_id, after_bytes=after_bytes, times=None))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stuck_reader_dies_of_a_signal(
    number: signal.Signals, server: Server, mounted: Mounted, audio: Audio
) -> None:
    with mounted("--timeout", "60") as mount:
        for run_id, (command, after_bytes) in enumerate(_STUCK.items(), 1):
            server.results[run_id] = audio.minutes
            _stall(server, run_id, after_bytes)
            with mount.start("exec " + command.replace("$F", str(run_id))) as reader:
                wait_until(lambda: server.stalled, f"the server stalls for {command}")
                reader.send_signal(number)
                try:
                    assert reader.wait(10) != 0
                except subprocess.TimeoutExpired:
                    pytest.fail(f"{command} survived {number.name}")
            server.heal()
            wait_until(lambda: not server.stalled, "nothing stalls any more")
        assert mount.run("cat 101.flac").status == 0


def test_ending_the_mount_frees_who_is_stuck(server: Server, mounted: Mounted) -> None:
    with mounted("--timeout", "60") as mount, contextlib.ExitStack() as stack:
        _stall(server, 105, 1_000_000)
        stuck = [stack.enter_context(mount.start("exec sha256sum 105.flac")) for _ in range(5)]
        wait_until(lambda: server.stalled, "the stream has stalled")
        _stall(server, 101, BEFORE_HEADERS)
        stuck += [stack.enter_context(mount.start(f"exec {command}")) for command in ("stat 101.url", "cat 101.flac")]
        wait_until(lambda: server.stalled > 2, "the signing and the other stream have stalled")
        mount.process.send_signal(signal.SIGTERM)
        for reader in stuck:
            assert reader.wait(10) != 0
        assert mount.process.wait(10) == 0
