"""WAVs through a mount: the very bytes of `flac -d`, for tools, for many readers, and when the download goes wrong."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.faults import FAILED
from tests.kernel.harness import run, wait_until
from tests.kernel.tools import outcome
from tests.wav.flacs import with_other_md5

_TOOLS = (
    *("cat", "cp", "dd-odd", "dd-skip", "tail-from", "rsync", "curl", "file"),
    *("python-mmap", "python-sendfile", "python-splice", "python-pread", "python-seek"),
    *("ffprobe", "ffmpeg-seek", "sox-stat", "mpv-seek"),
)
_FIRST_RUN = 1001
_SECOND_BYTES = 48_000 * 2


@pytest.fixture(scope="session")
def wav(audio: Audio, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the three minutes."""
    path = tmp_path_factory.mktemp("wav") / "minutes.wav"
    done = run(["flac", "-d", "-s", "-o", str(path), str(audio.minutes)])
    assert done.status == 0, done
    path.chmod(0o444)
    return path


def test_every_tool_on_a_cold_wav(server: Server, mounted: Mounted, audio: Audio, wav: Path, tmp_path: Path) -> None:
    runs = dict(zip(_TOOLS, itertools.count(_FIRST_RUN), strict=False))
    server.results.update(dict.fromkeys(runs.values(), audio.minutes))

    def compare(tool: str) -> str | None:
        name, scratch = f"{runs[tool]}.wav", tmp_path / f"out-{tool}"
        local = tmp_path / tool
        local.mkdir()
        (local / name).hardlink_to(wav)
        wanted, _ = outcome(tool, name, wav, scratch, lambda command: run(command, cwd=local))
        found, done = outcome(tool, name, wav, scratch, mount.run)
        return None if found == wanted else f"{tool}: {done}\n  {found}\n  where locally {wanted}"

    with mounted() as mount, ThreadPoolExecutor(4) as pool:
        differences = list(filter(None, pool.map(compare, _TOOLS)))
        assert not differences, "\n".join(differences)


def test_sizes_cost_no_audio_and_a_read_costs_one_download(
    server: Server, mounted: Mounted, audio: Audio, wav: Path
) -> None:
    server.results.update(dict.fromkeys(range(1, 6), audio.minutes))
    with mounted() as mount:
        assert mount.run(f"cmp 105.wav {wav}").status == 0
        server.forget()
        sizes = mount.run("stat -c %s 1.wav 2.wav 3.wav 4.wav 5.wav")
        assert sizes.out.split() == [str(wav.stat().st_size).encode()] * 5
        assert server.count("stream") == 0
        assert mount.run(f"cmp 1.wav {wav} && cmp 1.flac {audio.minutes}").status == 0
        assert server.count("stream") == 1
        mount.await_idle()
        assert mount.cached_runs() == {1, 105}


def test_a_second_mount_needs_no_request(server: Server, mounted: Mounted, wav: Path) -> None:
    with mounted() as mount:
        assert mount.run("cat 105.wav > /dev/null").status == 0
        mount.await_idle()
    server.forget()
    with mounted() as mount:
        assert mount.run(f"cmp 105.wav {wav}").status == 0
        assert server.count("stream") == 0


def test_the_first_second_is_there_when_that_of_the_flac_is(
    server: Server, mounted: Mounted, audio: Audio, wav: Path
) -> None:
    tenth = audio.minutes.stat().st_size // 10
    server.fail(Fault("stall", run_id=105, after_bytes=tenth))
    with mounted() as mount:
        first = mount.run(f"head -c {_SECOND_BYTES} 105.wav")
        assert first.out == wav.read_bytes()[:_SECOND_BYTES], first
        assert server.stalled == 1
        server.release()
        assert mount.run(f"cmp 105.wav {wav}").status == 0


def test_a_place_far_ahead_is_there_before_what_is_between(
    server: Server, mounted: Mounted, audio: Audio, wav: Path
) -> None:
    server.fail(Fault("stall", run_id=105, after_bytes=audio.minutes.stat().st_size // 10))
    with mounted() as mount:
        last = mount.run("tail -c 1000 105.wav")
        assert last.out == wav.read_bytes()[-1000:], last
        assert server.stalled == 1
        server.release()


def test_eight_readers_share_one_download(server: Server, mounted: Mounted, wav: Path) -> None:
    server.profile = Profile(rate=20_000_000, storage="no-ranges")
    with mounted() as mount:
        done = mount.read("together", "105.wav", 8, wav)
        assert done.status == 0, done
        assert server.count("stream") == 1


def test_a_killed_reader_leaves_the_others_alone(server: Server, mounted: Mounted, audio: Audio, wav: Path) -> None:
    server.fail(Fault("stall", run_id=105, after_bytes=audio.minutes.stat().st_size // 2))
    with (
        mounted(expected=["?" + FAILED]) as mount,
        mount.start("exec cat 105.wav > /dev/null") as killed,
        mount.start(f"exec cmp 105.wav {wav}") as other,
    ):
        wait_until(lambda: server.stalled, "the download stalls")
        killed.kill()
        killed.wait(20)
        server.release()
        assert other.wait(60) == 0


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_download_that_breaks_once(kind: str, server: Server, mounted: Mounted, wav: Path) -> None:
    server.fail(Fault(kind, run_id=105, after_bytes=1_000_000))  # type: ignore[arg-type]
    with mounted() as mount:
        assert mount.run(f"cmp 105.wav {wav}").status == 0


def test_a_download_that_always_breaks(server: Server, mounted: Mounted, wav: Path) -> None:
    server.profile = Profile(storage="unreachable")
    server.fail(Fault("cut", run_id=105, after_bytes=1_000_000, times=None))
    with mounted("--timeout", "2s", expected=["?" + FAILED, "?run 105"]) as mount:
        done = mount.run("cat 105.wav")
        assert done.status != 0
        assert wav.read_bytes().startswith(done.out)
        assert not mount.cached_runs()
        server.heal()
        assert mount.run(f"cmp 105.wav {wav}").status == 0


def test_a_flac_that_is_not_what_it_promises(
    server: Server, mounted: Mounted, audio: Audio, wav: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.flac"
    other.write_bytes(with_other_md5(audio.minutes.read_bytes()))
    server.results[7] = other
    with mounted(expected=[FAILED]) as mount:
        for _ in range(2):
            done = mount.run("cat 7.wav")
            assert b"Input/output error" in done.err.encode(), done
            assert len(done.out) < wav.stat().st_size
        assert b"flac -t" in mount.run("cat .cambfs/errors").out
        assert mount.run(f"cmp 7.flac {other}").status == 0


def test_a_flac_that_does_not_count_its_samples(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.results[7] = audio.piped
    decoded = run(
        ["flac", "-d", "-s", "-c", "--force-raw-format", "--endian=little", "--sign=signed", str(audio.piped)]
    )
    with mounted() as mount:
        assert int(mount.run("stat -c %s 7.wav").out) == 44 + len(decoded.out)
        assert mount.run("cat 7.wav").out[44:] == decoded.out


def test_a_flac_without_samples(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    empty, wav = tmp_path / "empty.flac", tmp_path / "empty.wav"
    for path in (empty, wav):
        assert run(["sox", "-n", "-r", "48000", "-b", "16", str(path), "trim", "0", "0"]).status == 0
    server.results[7] = empty
    with mounted() as mount:
        assert mount.run(f"cmp 7.wav {wav} && stat -c %s 7.wav && cmp 7.flac {empty}").out == b"44\n"
        mount.await_idle()
        assert mount.cached_runs() == {7}


def test_other_results(server: Server, mounted: Mounted, audio: Audio, tmp_path: Path) -> None:
    ogg = tmp_path / "other.ogg"
    assert run(["sox", str(audio.sentence), "-t", "ogg", str(ogg)]).status == 0
    server.results.update({7: ogg, 8: audio.wav})
    with mounted(expected=["not FLAC"] * 2) as mount:
        for command in ("cat 7.wav", "stat 7.wav"):
            assert "No such file" in mount.run(command).err
        assert b"open the .flac file" in mount.run("cat .cambfs/errors").out
        assert mount.run(f"cmp 8.wav {audio.wav} && cmp 8.flac {audio.wav}").status == 0


def test_they_are_listed_on_request(mounted: Mounted) -> None:
    with mounted("--runs", "101,105", "--wav", "--no-url-files", home="with") as mount:
        assert mount.run("ls").out.split() == [b"101.flac", b"101.wav", b"105.flac", b"105.wav"]
        assert mount.run("ls -l").status == 0
    with mounted("--runs", "101,105", "--no-url-files", home="without") as mount:
        assert mount.run("ls").out.split() == [b"101.flac", b"105.flac"]
