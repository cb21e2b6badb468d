"""Reading cold results in ways that the tools do not, and by many at the same time."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import wait_until

_PYTHON = 'python3 -ISc \'import os, sys; fd = os.open("$F", 0)'
# Each reads from the open on, and never asks for the size.
_BLIND = (
    "dd if=$F bs=4099 status=none",
    f"{_PYTHON}\nwhile d := os.read(fd, 1 << 20): sys.stdout.buffer.write(d)'",
    f"{_PYTHON}\nwhile os.sendfile(1, fd, None, 50_000): pass'",
    f"{_PYTHON}\nwhile os.splice(fd, 1, 50_000): pass'",
)


@pytest.mark.parametrize("length", ["chunked", "content-length"])
@pytest.mark.parametrize("kind", ["minutes", "aligned"])
def test_who_never_asks_for_the_size_gets_no_byte_too_many(
    length: str, kind: str, server: Server, mounted: Mounted, audio: Audio, tmp_path: Path
) -> None:
    """The kernel does not know the size, reads ahead beyond the end, and its requests overtake each other there."""
    source = audio.minutes
    if kind == "aligned":
        source = tmp_path / "aligned"
        source.write_bytes(audio.minutes.read_bytes()[: 16 << 17])
    server.profile = Profile(length=length)  # type: ignore[arg-type]
    server.results.update(dict.fromkeys(range(1, 41), source))
    wanted = source.read_bytes()
    with mounted() as mount, ThreadPoolExecutor(4) as pool:

        def read(run_id: int) -> str | None:
            done = mount.run(_BLIND[run_id % len(_BLIND)].replace("$F", f"{run_id}.flac"))
            return None if (done.status, done.out) == (0, wanted) else f"{done} where there are {len(wanted)}"

        wrong = list(filter(None, pool.map(read, range(1, 41))))
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("length", ["chunked", "content-length", "close"])
def test_sixty_four_readers_share_one_download(length: str, server: Server, mounted: Mounted, audio: Audio) -> None:
    """At random places and whole, at the same time, of a result that has not been read before."""
    server.profile = Profile(length=length, rate=20_000_000, storage="no-ranges")  # type: ignore[arg-type]
    with mounted() as mount:
        done = mount.read("together", "105.flac", 64, audio.minutes)
        assert done.status == 0, done
        assert (server.count("stream"), _sent(server, 105)) == (1, audio.minutes.stat().st_size)
        server.forget()
        assert mount.read("together", "105.flac", 64, audio.minutes).status == 0
        assert mount.run("cat 105.flac | sha256sum").status == 0
        assert server.requests == ()


def test_sixty_four_readers_of_a_result_with_ranges(server: Server, mounted: Mounted, audio: Audio) -> None:
    """A reader far ahead need not wait, and the bytes fetched for it are hardly fetched twice."""
    server.profile = Profile(rate=10_000_000)
    with mounted() as mount:
        done = mount.read("together", "105.flac", 64, audio.minutes)
        assert done.status == 0, done
        assert server.count("stream") == 1
        assert sum(record.sent for record in server.requests) < 2 * audio.minutes.stat().st_size


def test_many_tools_share_one_download(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.profile = Profile(rate=10_000_000)
    whole = hashlib.sha256(audio.minutes.read_bytes()).hexdigest()
    ways = [
        "cat $F",
        "dd if=$F bs=4099 status=none",
        "tail -c +1 $F",
        "tar -cf - $F | tar -xOf -",
        "curl file://$PWD/$F",
    ]
    with mounted() as mount, ThreadPoolExecutor(20) as pool:

        def digest(way: str) -> str:
            return mount.run(f"{way.replace('$F', '105.flac')} | sha256sum").out.split()[0].decode()

        assert set(pool.map(digest, ways * 4)) == {whole}
        assert (server.count("stream"), _sent(server, 105)) == (1, audio.minutes.stat().st_size)


def test_a_seek_far_ahead_does_not_wait_for_the_stream(server: Server, mounted: Mounted, audio: Audio) -> None:
    """The stream stands still; the last bytes come from storage, once that was seen to hold the same file."""
    wanted = audio.minutes.read_bytes()
    server.fail(Fault("stall", run_id=105, after_bytes=2_000_000))
    with mounted() as mount:
        assert mount.run("tail -c 128 105.flac", limit_s=20).out == wanted[-128:]
        middle = mount.run("dd if=105.flac bs=1000 skip=5000 count=3 status=none", limit_s=20)
        assert middle.out == wanted[5_000_000:5_003_000]
        server.heal()
        assert mount.run("cat 105.flac").out == wanted


def test_a_reader_that_leaves_early_does_not_cost_the_whole(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.results[1] = audio.long
    server.fail(Fault("stall", run_id=1, after_bytes=2_000_000))
    with mounted() as mount:
        assert mount.run("head -c 4 1.flac").out == b"fLaC"
        wait_until(lambda: server.stalled, "more has come than was read")
        wait_until(lambda: not server.stalled, "the stream is given up")
        assert server.count("stream", 1) == 1
        assert mount.run("cat 1.flac | cmp - " + str(audio.long)).status == 0, "what had come is of use"


def _sent(server: Server, run_id: int) -> int:
    """Bytes of a run's audio that left the API."""
    return sum(record.sent for record in server.requests if (record.kind, record.run_id) == ("stream", run_id))
