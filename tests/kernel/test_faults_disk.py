"""The cache's directory, and the process that keeps it: killed, full, read-only, gone, damaged, shared.

Caching may be lost, reading never; and nothing that is partial or damaged is ever shown.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.faults import fixed_server, make_results, read, read_all, seen
from tests.kernel.harness import CAMBFS, Mount, environment, run, wait_until

SECTION = "The cache's directory, and crashes"
KILLS = 6
FEW = 24
SUDO = [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Path]:
    return make_results(tmp_path_factory.mktemp("results"), 20)


@pytest.fixture
def server(results: Mapping[int, Path]) -> Iterator[Server]:
    with fixed_server(results) as server:
        yield server


def check_kept(directory: Path, server: Server) -> None:
    """Everything under a result's name is that result, and has its sidecar."""
    for path in directory.glob("*/*.flac"):
        assert path.read_bytes() == server.results[int(path.stem)].read_bytes(), f"{path} is damaged"
        assert json.loads(path.with_suffix(".json").read_text())["size"] == path.stat().st_size


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir(parents=True)
    own = f"size={size},mode=700,uid={os.getuid()},gid={os.getgid()}"
    subprocess.run([*SUDO, "mount", "-t", "tmpfs", "-o", own, "cambfs-test", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run([*SUDO, "umount", "-l", str(path)], check=True)


def test_killed_at_any_moment(server: Server, mounted: Mounted) -> None:
    """While results are fetched, put in their places, and evicted."""
    chance = random.Random(7)
    server.profile = Profile(rate=3_000_000)
    for _ in range(KILLS):
        with mounted("--cache-size", "1500KiB") as mount, ExitStack() as stack:
            assert mount.parts() == [], "what the crash left is still there"
            for run_id in mount.cached_runs():
                assert read(mount, run_id).is_all_of(server.results[run_id])
            for run_id in chance.sample(sorted(server.results), 10):
                stack.enter_context(mount.start(["cat", f"{run_id}.flac"]))
            time.sleep(chance.uniform(0.0, 0.5))
            mount.kill()
        check_kept(mount.cache_dir, server)
    with mounted("--cache-size", "1500KiB") as mount:
        assert mount.parts() == []
        assert all(found.is_all_of(server.results[r]) for r, found in read_all(mount, [1, 2, 3]).items())
        names = {path.suffix for path in mount.cache_dir.glob("*/*") if path.is_file() and path.name[0] != "."}
        assert names <= {".flac", ".json"}
    seen(
        SECTION,
        f"kill -9 at random moments ({KILLS} times here, some 60 in ten minutes of scripts/soak)",
        "after the next mount the right bytes",
        None,
        "whole results only; what was on its way is swept",
    )


def test_a_disk_that_is_full(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    options = ("--cache-dir", str(tmp_path / "small" / "cache"))
    with small_disk(tmp_path / "small", "1m"), mounted(*options, expected=["?cannot be cached"]) as mount:
        for run_ids in ((1, 2, 3, 4, 5, 6), (7, 8), (1, 9)):
            for run_id, found in read_all(mount, run_ids).items():
                assert found.is_all_of(server.results[run_id]), found
        wait_until(lambda: mount_of(tmp_path).exists(), "a result is kept")
        check_kept(tmp_path / "small" / "cache", server)
        server.results[100] = server.results[1].with_name("large")
        server.results[100].write_bytes(b"".join(server.results[i].read_bytes() for i in range(1, 9)))
        begin = time.monotonic()
        assert read(mount, 100).is_all_of(server.results[100])
        took_s = time.monotonic() - begin
    seen(SECTION, "the disk is full", "the right bytes", took_s, "what there is room for; the rest is kept in memory")


def mount_of(tmp_path: Path) -> Path:
    return next((tmp_path / "small" / "cache").glob("*/*.flac"), tmp_path / "none")


def trouble_of(mount: Mount) -> str:
    trouble: str = json.loads(mount.run("cat .cambfs/status.json").out)["cache"]["trouble"]
    return trouble


def test_a_disk_that_becomes_read_only(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    cache = tmp_path / "small" / "cache"
    with small_disk(tmp_path / "small", "8m") as disk:
        with mounted("--cache-dir", str(cache), expected=["cannot be cached: Read-only", "?left the disk"]) as mount:
            assert read(mount, 1).is_all_of(server.results[1])
            wait_until(lambda: (mount_of(tmp_path)).with_suffix(".json").exists(), "it is in the cache")
            mount.await_idle()
            subprocess.run([*SUDO, "mount", "-o", "remount,ro", str(disk)], check=True)
            begin = time.monotonic()
            assert read(mount, 2).is_all_of(server.results[2])
            took_s = time.monotonic() - begin
            wait_until(lambda: "Read-only" in trouble_of(mount), "the status says why nothing is kept")
            server.forget()
            assert read(mount, 1).is_all_of(server.results[1])
            assert not [record for record in server.requests if record.run_id == 1]
        # A mount that cannot cache says so at its beginning.
        env = environment(server, tmp_path / "home")
        done = run(
            [CAMBFS, "mount", "-f", "--cache-dir", str(cache), str(tmp_path / "home" / "mnt")], env=env, limit_s=20
        )
        assert done.status != 0
        assert len(done.err.strip().splitlines()) == 1
        assert "Read-only" in done.err
        subprocess.run([*SUDO, "mount", "-o", "remount,rw", str(disk)], check=True)
        check_kept(cache, server)
    what = "the cache directory becomes read-only"
    seen(SECTION, what, "the right bytes", took_s, "as it was", "nothing (a warning in the log)")


def test_a_directory_that_is_deleted(server: Server, mounted: Mounted) -> None:
    with mounted(expected=["?cannot be cached"]) as mount, ExitStack() as stack:
        assert all(found.is_all_of(server.results[r]) for r, found in read_all(mount, [1, 2, 3]).items())
        wait_until(lambda: mount.cached_runs() == {1, 2, 3}, "they are in the cache")
        holder = stack.enter_context(
            mount.start(f"exec 3<1.flac; echo open; read -r; cmp /dev/fd/3 {server.results[1]}")
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        server.profile = Profile(rate=600_000)
        under_way = stack.enter_context(mount.start(f"cmp 4.flac {server.results[4]}"))
        wait_until(mount.parts, "one is on its way")
        shutil.rmtree(mount.cache_dir)
        server.profile = Profile()
        begin = time.monotonic()
        assert all(found.is_all_of(server.results[r]) for r, found in read_all(mount, [1, 2, 3, 5]).items())
        took_s = time.monotonic() - begin
        assert holder.communicate(b"\n", timeout=20) == (b"", b"")
        assert under_way.wait(20) == 0
        wait_until(lambda: mount.cached_runs() >= {5}, "it is in the cache")
        check_kept(mount.cache_dir, server)
    seen(SECTION, "the cache directory is deleted while mounted", "the right bytes", took_s, "made anew, filled again")


def test_a_cache_smaller_than_a_result(server: Server, mounted: Mounted) -> None:
    with mounted("--cache-size", "100KiB") as mount:
        reads = read_all(mount, [1, 2, 3, 4])
        assert all(found.is_all_of(server.results[run_id]) for run_id, found in reads.items())
        wait_until(lambda: not mount.parts(), "nothing is left")
        assert mount.cached_runs() == set()
    slowest = max(found.seconds for found in reads.values())
    seen(SECTION, "the cache size is smaller than one result", "the right bytes", slowest, "nothing")


def test_files_that_are_damaged_or_foreign(server: Server, mounted: Mounted) -> None:
    damaged = range(1, 9)
    with mounted() as mount:
        assert all(found.is_all_of(server.results[r]) for r, found in read_all(mount, [*damaged, 9]).items())
        wait_until(lambda: mount.cached_runs() == {*damaged, 9}, "they are in the cache")
        (account,) = {path.parent for path in mount.cache_dir.glob("*/*.flac")}
    chance = random.Random(3)
    for run_id in damaged:
        spoil(account / f"{run_id}.flac", run_id, chance)
    plant(account)
    with mounted(expected=[r"run \d+: .*dropped", "?cannot be cached"]) as mount:
        shown = {f"{run_id}.{kind}" for run_id in range(1, 10) for kind in ("flac", "url")}
        assert set(mount.run("ls").out.decode().split()) == shown
        begin = time.monotonic()
        assert all(found.is_all_of(server.results[r]) for r, found in read_all(mount, [*damaged, 9]).items())
        took_s = time.monotonic() - begin
        assert all(server.count("stream", run_id) == 2 for run_id in damaged)
        assert server.count("stream", 9) == 1
        for run_id, found in read_all(mount, [15, 16, 17]).items():
            assert found.is_all_of(server.results[run_id]), "what lies in the place of a result was taken for it"
        kept = {account / f"{run_id}.flac": server.results[run_id].read_bytes() for run_id in damaged}
        wait_until(lambda: all(p.exists() and p.read_bytes() == kept[p] for p in kept), "they are in the cache again")
        wait_until(lambda: not mount.parts(), "nothing is left there")
    seen(
        SECTION,
        "bit flips, truncation, bytes too many, foreign files, links and pipes in the cache directory",
        "the right bytes (a damaged result is fetched again); foreign names never show",
        took_s,
        "the whole results",
        "nothing (a warning in the log)",
    )


@pytest.mark.parametrize("kind", ["directory", "full directory", "pipe", "deep", "huge", "link"])
def test_what_is_no_sidecar(server: Server, mounted: Mounted, kind: str) -> None:
    with mounted() as mount:
        assert read(mount, 1).is_all_of(server.results[1])
    (sidecar,) = mount.cache_dir.glob("*/1.json")
    plant_sidecar(sidecar, kind)
    with mounted(expected=[r"run 1: .*dropped", "?cannot be cached"]) as mount:
        begin = time.monotonic()
        for _ in range(2):
            assert read(mount, 1).is_all_of(server.results[1])
            mount.await_idle()
        took_s = time.monotonic() - begin
        assert mount.cached_runs() == {1}
        assert mount.parts() == []
    check_kept(mount.cache_dir, server)
    if kind == "directory":
        what = "a directory, a pipe, a link, deep or huge JSON in the place of a sidecar"
        seen(SECTION, what, "the right bytes (fetched again)", took_s, "the whole result", "nothing (a warning)")


def plant_sidecar(path: Path, kind: str) -> None:
    path.unlink()
    if kind.endswith("directory"):
        path.mkdir()
        if kind.startswith("full"):
            (path / "file").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.write_text("[" * 4000 if kind == "deep" else '{"size": ' + "9" * 5000)


def test_another_program_that_holds_the_lock_of_an_earlier_version(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        assert read(mount, 1).is_all_of(server.results[1])
        wait_until(lambda: mount.cached_runs() == {1}, "it is in the cache")
        (account,) = (path for path in mount.cache_dir.iterdir() if path.is_dir())
        with (account / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            begin = time.monotonic()
            for run_id in (1, 2, 1, 3):
                assert read(mount, run_id).is_all_of(server.results[run_id])
            took_s = time.monotonic() - begin
            wait_until(lambda: mount.cached_runs() == {1, 2, 3}, "they are in the cache")
    assert took_s < 15
    seen(SECTION, "another program holds a lock in the cache directory", "the right bytes", took_s, "as always")


def test_another_directory_in_the_place_of_the_cache(server: Server, mounted: Mounted) -> None:
    """As if another user put it there; here the user moves it, because other users cannot."""
    with mounted() as mount:
        assert read(mount, 1).is_all_of(server.results[1])
        wait_until(lambda: mount.cached_runs() == {1}, "it is in the cache")
        mount.await_idle()
        (ours,) = (path for path in mount.cache_dir.iterdir() if path.is_dir())
        theirs = ours.with_name("theirs")
        shutil.copytree(ours, theirs)
        forge(theirs, 1, server.results[2].read_bytes())
        forge(theirs, 3, server.results[2].read_bytes())
        ours.rename(ours.with_name("ours"))
        theirs.rename(ours)
        begin = time.monotonic()
        for run_id in (1, 3, 1):
            assert read(mount, run_id).is_all_of(server.results[run_id])
        took_s = time.monotonic() - begin
        wait_until((ours.with_name("ours") / "3.flac").exists, "it is kept in the directory that is held open")
        assert sorted(path.name for path in ours.glob("*.flac")) == ["1.flac", "3.flac"]
        shutil.rmtree(ours)
    seen(
        SECTION,
        "another directory, with other results, is put in the place of the cache directory while mounted",
        "the right bytes",
        took_s,
        "in the directory that was there at the mount",
    )


def forge(account: Path, run_id: int, content: bytes) -> None:
    """A result that fits its sidecar in everything."""
    path = account / f"{run_id}.flac"
    path.write_bytes(content)
    status = path.stat()
    told = {
        "size": len(content),
        "mtime_ns": status.st_mtime_ns,
        "sha256": hashlib.sha256(content).hexdigest(),
        "proof": "frames",
        "identity": [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns],
    }
    (account / f"{run_id}.json").write_text(json.dumps(told))


def test_a_cached_file_that_is_changed_while_it_is_open(server: Server, mounted: Mounted) -> None:
    with mounted(expected=["fetched anew", "?dropped"]) as mount:
        assert read(mount, 1).is_all_of(server.results[1])
        wait_until(lambda: mount.cached_runs() == {1}, "it is in the cache")
        with mount.start("exec 3<1.flac; echo open; read -r") as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"open\n"
            (kept,) = mount.cache_dir.glob("*/1.flac")
            with kept.open("r+b") as file:
                file.seek(5000)
                file.write(b"damage")
            begin = time.monotonic()
            assert read(mount, 1).is_all_of(server.results[1])
            took_s = time.monotonic() - begin
            assert server.count("stream", 1) == 2
            holder.communicate(b"\n", timeout=20)
        wait_until(lambda: kept.exists() and kept.read_bytes() == server.results[1].read_bytes(), "it is right again")
    seen(
        SECTION,
        "a cached file is changed in place while it is open",
        "the right bytes at the next open; who has it open gets EIO within a second of reading",
        took_s,
        "the whole result, fetched again",
        "nothing (a warning in the log)",
    )


def test_a_cache_of_an_earlier_version(server: Server, mounted: Mounted, audio: Audio) -> None:
    server.results.update(dict.fromkeys((101, 102, 103), audio.sentence))
    whole = audio.sentence.read_bytes()
    with mounted() as mount:
        assert all(found.is_all_of(audio.sentence) for found in read_all(mount, [101, 102, 103]).values())
        wait_until(lambda: mount.cached_runs() == {101, 102, 103}, "they are in the cache")
    (account,) = {path.parent for path in mount.cache_dir.glob("*/*.flac")}
    for run_id, content in ((101, whole), (102, whole[: len(whole) * 4 // 10]), (103, b"upstream connect error")):
        age(account, run_id, content)
    server.forget()
    with mounted(expected=[r"run 102: .*dropped", r"run 103: .*dropped"]) as mount:
        sizes = mount.run("stat -c %s 101.flac 102.flac 103.flac").out.split()
        assert sizes == [b"%d" % len(whole)] * 3
        begin = time.monotonic()
        assert all(found.is_all_of(audio.sentence) for found in read_all(mount, [101, 102, 103]).values())
        took_s = time.monotonic() - begin
        assert [server.count("stream", run_id) for run_id in (101, 102, 103)] == [0, 1, 1]
        wait_until(lambda: mount.cached_runs() == {101, 102, 103}, "they are in the cache again")
    assert json.loads((account / "101.json").read_text())["proof"] == "frames"
    seen(
        SECTION,
        "a cache of an earlier version, where a result is cut off, or a text",
        "the right bytes (what does not prove itself is fetched again)",
        took_s,
        "the whole results",
        "nothing (a warning in the log)",
    )


def age(account: Path, run_id: int, content: bytes) -> None:
    """As an earlier version has kept it."""
    (account / f"{run_id}.flac").write_bytes(content)
    told = {"size": len(content), "mtime_ns": 10**18, "sha256": hashlib.sha256(content).hexdigest(), "content_type": ""}
    (account / f"{run_id}.json").write_text(f'{json.dumps(told)}\n["3f2b8a52", 1, 2, 3, 4]\n')


def test_few_descriptors(server: Server, mounted: Mounted) -> None:
    """As many results at the same time as there are descriptors in all, then one."""
    with mounted(expected=[r"Too many open files \(EMFILE\)", "?cannot be cached: Too many open files"]) as mount:
        assert all(found.is_all_of(server.results[r]) for r, found in read_all(mount, [1, 2, 3]).items())
        wait_until(lambda: mount.cached_runs() == {1, 2, 3}, "they are in the cache")
        mount.await_idle()
        enough = resource.prlimit(mount.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(mount.process.pid, resource.RLIMIT_NOFILE, (FEW, enough[1]))
        with ExitStack() as stack:
            script = "exec 3<{0}.flac || exit 1; echo open; read -r; cmp /dev/fd/3 {1}"
            holders = [
                stack.enter_context(mount.start(script.format(run_id, server.results[run_id])))
                for run_id in sorted(server.results)
            ]
            for holder in holders:
                assert holder.stdout is not None
                assert holder.stdout.readline() in (b"open\n", b"")
            errors = [holder.communicate(b"\n", timeout=30)[1].decode() for holder in holders]
        others = [error for error in errors if error and "Too many open files" not in error]
        assert not others
        assert any(errors)
        assert mount.cached_runs() >= {1, 2, 3}, "a result was evicted, which frees no descriptor"
        resource.prlimit(mount.process.pid, resource.RLIMIT_NOFILE, enough)
        for run_id in sorted(server.results):
            assert read(mount, run_id).is_all_of(server.results[run_id])
    seen(SECTION, "no descriptors are left", "EMFILE, and the right bytes as soon as some are", None, "as it was")


def spoil(path: Path, how: int, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == 1:
        data.pop()
    elif how == 2:
        data += b"\0"
    elif how == 3:
        data = data[: len(data) // 2]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def plant(account: Path) -> None:
    for name in ("x.flac", "0012.flac", "-3.flac", "12.FLAC", "part/99.0123456789abcdef", "part/strange", "10.json"):
        (account / name).write_bytes(b"fLaC, but nobody fetched it")
    (account / "15.flac").mkdir()
    os.mkfifo(account / "16.flac")
    (account / "17.flac").symlink_to("/etc/passwd")
    (account / "part" / "directory").mkdir()


def test_two_mounts_that_share_a_cache_under_load(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    shared = ("--cache-dir", str(tmp_path / "shared"), "--cache-size", "1500KiB")
    expected = ["?cannot be cached", "?dropped"]
    with (
        mounted(*shared, home="one", expected=expected) as one,
        mounted(*shared, home="two", expected=expected) as two,
        ThreadPoolExecutor(8) as pool,
    ):
        chance = random.Random(5)
        works = [(chance.choice((one, two)), run_id) for run_id in chance.choices(sorted(server.results), k=120)]
        for found, (_, run_id) in zip(pool.map(lambda work: read(*work), works), works, strict=True):
            assert found.is_all_of(server.results[run_id]), found
        one.await_idle()
        two.await_idle()
        check_kept(tmp_path / "shared", server)
        assert not list((tmp_path / "shared").glob("*/part/*"))
    seen(
        SECTION,
        "two mounts fetch into and evict from one cache directory",
        "the right bytes",
        None,
        "whole results only",
    )
