"""The cache, seen through mounts: what it keeps, what it saves, and that it never costs a byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import CAMBFS, KEY, Mount, environment, run, wait_until

_MIB = 1 << 20


def _make(directory: Path, run_ids: range, size: int) -> dict[int, Path]:
    """Results of this size, each of other bytes."""
    made = {}
    for run_id in run_ids:
        made[run_id] = directory / f"result-{run_id}"
        made[run_id].write_bytes((b"fLaC" + random.Random(run_id).randbytes(size))[:size])
    return made


def _read(mount: Mount, run_id: int) -> bytes:
    done = mount.run(f"cat {run_id}.flac")
    assert done.status == 0, done
    return done.out


def test_after_a_remount_nothing_is_asked(server: Server, mounted: Mounted) -> None:
    wanted = {run_id: path.read_bytes() for run_id, path in server.results.items()}
    with mounted() as mount:
        assert {run_id: _read(mount, run_id) for run_id in wanted} == wanted
        before = mount.run("stat -c '%n %s %Y %i' 101.flac 105.flac").out
    server.forget()
    with mounted() as mount:
        assert mount.run("stat -c '%n %s %Y %i' 101.flac 105.flac").out == before
        assert {run_id: _read(mount, run_id) for run_id in wanted} == wanted
        assert mount.run("ls -l | wc -l").out == b"5\n"
        assert [record for record in server.requests if record.kind not in ("sign", "bulk")] == []
    server.stop()
    server.forget()
    with mounted() as mount:
        assert mount.run("stat -c '%n %s %Y %i' 101.flac 105.flac").out == before
        assert {run_id: _read(mount, run_id) for run_id in wanted} == wanted
        assert mount.run("flac -ts 105.flac").status == 0


def test_a_partly_read_result_is_not_taken_for_whole(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.profile = Profile(rate=4_000_000)
    server.results[1] = audio.long
    with mounted() as mount:
        assert mount.run("head -c 5 1.flac").out == audio.long.read_bytes()[:5]
    server.profile = Profile()
    with mounted() as mount:
        assert mount.cached_runs() == set()
        assert _read(mount, 1) == audio.long.read_bytes()


def test_least_recently_used_results_go(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    server.results.update(_make(tmp_path, range(1, 6), _MIB))
    with mounted("--cache-size", "3MiB") as mount:
        for run_id in (1, 2, 3, 1, 4):
            _read(mount, run_id)
            mount.await_idle()
        wait_until(lambda: mount.cached_runs() == {1, 3, 4}, "the cache holds 1, 3 and 4")
        _read(mount, 5)
        mount.await_idle()
        wait_until(lambda: mount.cached_runs() == {1, 4, 5}, "the cache holds 1, 4 and 5")
        assert [server.count("stream", run_id) for run_id in range(1, 6)] == [1] * 5
        assert _read(mount, 2) == server.results[2].read_bytes()
        assert server.count("stream", 2) == 2
        mount.await_idle()
    with mounted("--cache-size", "1MiB") as mount:
        wait_until(lambda: mount.cached_runs() == {2}, "a smaller cache is made smaller, though nothing comes")


def test_an_open_result_survives_its_eviction(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    results = _make(tmp_path, range(1, 8), _MIB)
    server.results.update(results)
    with mounted("--cache-size", "2MiB") as mount, mount.start("exec 3<1.flac; echo open; read -r; cat <&3") as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        for run_id in range(2, 8):
            assert _read(mount, run_id) == results[run_id].read_bytes()
        server.forget()
        reader.stdin.write(b"\n")
        reader.stdin.close()
        assert reader.stdout.read() == results[1].read_bytes()
        assert [record for record in server.requests if record.run_id == 1] == []


@pytest.mark.parametrize("disk", ["disk", "memory"])
def test_a_result_larger_than_the_cache_is_served_and_not_kept(disk: str, mounted: Mounted, audio: Audio) -> None:
    options = ["--cache-size", "4MiB", *(["--no-disk-cache"] if disk == "memory" else [])]
    with mounted(*options) as mount:
        assert _read(mount, 105) == audio.minutes.read_bytes()
        assert _read(mount, 101) == audio.sentence.read_bytes()
        wait_until(lambda: not mount.parts(), "nothing on its way is left")
        assert mount.cached_runs() == (set() if disk == "memory" else {101})
        assert _read(mount, 105) == audio.minutes.read_bytes()


def test_two_mounts_share_a_cache(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    server.results.update(_make(tmp_path, range(1, 5), _MIB))
    cache = ("--cache-dir", str(tmp_path / "shared"), "--cache-size", "3MiB")
    with mounted(*cache, home="one") as one, mounted(*cache, home="two") as two:
        wanted = server.results[1].read_bytes()
        assert _read(one, 1) == wanted
        wait_until(lambda: list((tmp_path / "shared").glob("*/1.flac")), "the cache holds what was read")
        assert _read(two, 1) == wanted
        assert server.count("stream", 1) == 1
        inodes = [mount.run("stat -c '%i %s %Y' 1.flac 1.url").out.split()[:4] for mount in (one, two)]
        assert inodes[0] == inodes[1]
        for run_id in (2, 3, 4, 1, 2, 3, 4):
            assert _read(two, run_id) == server.results[run_id].read_bytes()
            assert _read(one, run_id) == server.results[run_id].read_bytes()
        kept = list((tmp_path / "shared").glob("*/*.flac"))
        assert 1 <= len(kept) <= 3


def test_another_key_is_another_account(server: Server, mounted: Mounted, audio: Audio, tmp_path: Path) -> None:
    cache = ("--cache-dir", str(tmp_path / "shared"))
    with mounted(*cache, home="one") as one:
        assert _read(one, 101) == audio.sentence.read_bytes()
    with Server(server.results, key="another-key") as other:
        two = Mount(other, tmp_path / "two", *cache, key="another-key")
        with two:
            assert mount_is_empty(two)
            assert _read(two, 101) == audio.sentence.read_bytes()
        assert other.count("stream") == 1
    assert len(list((tmp_path / "shared").glob("*/101.flac"))) == 2
    for path in (tmp_path / "shared").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, f"others may look into {path}"


def mount_is_empty(mount: Mount) -> bool:
    return mount.run("ls").out == b""


@pytest.mark.parametrize("damage", ["bit", "truncated", "longer", "empty", "sidecar", "sidecar-gone"])
def test_a_damaged_result_is_fetched_again(damage: str, server: Server, mounted: Mounted, audio: Audio) -> None:
    wanted = audio.minutes.read_bytes()
    with mounted() as mount:
        assert _read(mount, 105) == wanted
    (kept,) = mount.cache_dir.glob("*/105.flac")
    if damage == "bit":
        kept.write_bytes(wanted[:3_000_000] + bytes([wanted[3_000_000] ^ 1]) + wanted[3_000_001:])
    elif damage == "sidecar":
        kept.with_suffix(".json").write_text('{"size": 5, "sha')
    elif damage == "sidecar-gone":
        kept.with_suffix(".json").unlink()
    else:
        kept.write_bytes({"truncated": wanted[:-1], "longer": wanted + b"\0", "empty": b""}[damage])
    server.forget()
    # Half a result is what a crash leaves, and swept without a word.
    expected = [] if damage == "sidecar-gone" else [r"run 105: .*dropped"]
    with mounted(expected=expected) as mount:
        assert mount.run("stat -c %s 105.flac").out == b"%d\n" % len(wanted)
        assert _read(mount, 105) == wanted
        assert _read(mount, 105) == wanted
        assert server.count("stream", 105) == 1
    assert kept.read_bytes() == wanted


def test_without_a_disk_cache_nothing_is_left_on_the_disk(server: Server, mounted: Mounted, audio: Audio) -> None:
    with mounted("--no-disk-cache") as mount:
        for _ in range(2):
            assert _read(mount, 105) == audio.minutes.read_bytes()
        assert server.count("stream", 105) == 1
        left = [path for path in mount.home.rglob("*") if path.is_file() and not path.is_relative_to(mount.path)]
        assert [path.name for path in left] == ["log"]
    with mounted("--no-disk-cache") as mount:
        assert mount_is_empty(mount)


def test_a_crash_in_the_middle_leaves_nothing_partial(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.fail(Fault("stall", run_id=105, after_bytes=3_000_000))
    with mounted() as mount, mount.start("cat 105.flac > /dev/null") as reader:
        wait_until(lambda: server.stalled, "the stream has stalled")
        wait_until(mount.parts, "a part is on the disk")
        mount.kill()
        assert reader.wait(10) != 0, "the reader took the part for the whole"
    server.heal()
    with mounted() as mount:
        assert mount.parts() == []
        assert mount_is_empty(mount)
        assert _read(mount, 105) == audio.minutes.read_bytes()


def test_the_key_is_not_asked_about_again(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run("ls").status == 0
    server.forget()
    with mounted() as mount:
        assert mount.run("ls").status == 0
    assert server.requests == ()
    assert server.key == KEY


def _cache(mount: Mount, *arguments: str) -> None:
    done = run(
        [CAMBFS, "cache", *arguments, "--cache-dir", str(mount.cache_dir)], env=environment(mount.server, mount.home)
    )
    assert done.status == 0, done


def test_a_result_that_is_cleared_while_open_goes_on_and_is_downloaded_at_the_next_open(
    server: Server, mounted: Mounted
) -> None:
    wanted = server.results[105].read_bytes()
    with mounted() as mount:
        assert _read(mount, 105) == wanted
        wait_until(lambda: mount.cached_runs() == {105}, "105 is cached")
        with mount.start("exec 3<105.flac; head -c 5 <&3; read; cat <&3") as reader:
            assert reader.stdout is not None
            assert reader.stdin is not None
            assert reader.stdout.read(5) == wanted[:5]
            _cache(mount, "clear", "105")
            assert mount.cached_runs() == set()
            reader.stdin.write(b"\n")
            reader.stdin.close()
            assert reader.stdout.read() == wanted[-len(wanted) + 5 :]
        mount.await_idle()
        assert _read(mount, 105) == wanted
        wait_until(lambda: mount.cached_runs() == {105}, "105 is cached again")
        assert server.count("stream", 105) == 2


@pytest.mark.parametrize("size", [_MIB, _MIB // 2, 2 * _MIB])
def test_a_result_that_is_refreshed_is_the_new_one_from_the_next_open_on(
    server: Server, mounted: Mounted, tmp_path: Path, size: int
) -> None:
    server.results.update(_make(tmp_path, range(1, 2), _MIB))
    with mounted() as mount:
        assert _read(mount, 1) == server.results[1].read_bytes()
        wait_until(lambda: mount.cached_runs() == {1}, "1 is cached")
        mount.await_idle()
        new = b"fLaC" + random.Random(99).randbytes(size - 4)
        server.results[1] = tmp_path / "new"
        server.results[1].write_bytes(new)
        _cache(mount, "refresh", "1")
        assert server.count("stream", 1) == 2
        assert _read(mount, 1) == new
        assert mount.run("stat -c %s 1.flac").out == b"%d\n" % size
        assert server.count("stream", 1) == 2
