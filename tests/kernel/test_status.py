"""The status of a mount, read through the mount."""

from __future__ import annotations

import json
import os
import signal
import stat
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cambfs import __version__
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.harness import CAMBFS, Mount, run


def status_of(mount: Mount) -> dict[str, Any]:
    done = mount.run("cat .cambfs/status.json")
    assert done.status == 0, done
    found: dict[str, Any] = json.loads(done.out)
    return found


def test_status_is_about_this_mount_and_makes_no_request(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", "101") as mount:
        server.forget()
        found = status_of(mount)
        assert (found["version"], found["pid"]) == (__version__, mount.process.pid)
        assert (found["mount_point"], found["base_url"]) == (str(mount.path), server.base_url)
        assert found["cache"]["path"].startswith(str(mount.cache_dir))
        assert mount.run("cat .cambfs/known").out == b"101\n"
        assert server.requests == ()


def test_status_counts_what_the_server_saw(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        server.forget()
        assert mount.run("cat 101.flac 105.flac > /dev/null; cat 7.flac").status == 1
        mount.await_idle()
        found = status_of(mount)
        seen = [str(record.kind) for record in server.requests]
        names = {"stream": "stream", "sign": "sign", "storage": "stored"}
        assert {kind: sum(found["requests"].get(kind, {}).values()) for kind in names} == {
            kind: seen.count(name) for kind, name in names.items()
        }
        assert found["requests"]["stream"] == {"2xx": 2, "4xx": 1}
        assert found["received_bytes"] >= sum(server.results[run_id].stat().st_size for run_id in (101, 105))
        assert (found["cache"]["results"], found["cache"]["misses"]) == (2, 3)
        [error] = found["errors"]
        assert "\t".join(error.values()).encode() + b"\n" == mount.run("cat .cambfs/errors").out
        families = text_string_to_metric_families(mount.run("cat .cambfs/metrics").out.decode())
        assert {"cambfs_requests", "cambfs_cache_bytes", "cambfs_info"} <= {family.name for family in families}


def test_an_open_status_stays_as_it_was(mounted: Mounted) -> None:
    with mounted() as mount:
        early = os.open(mount.path / ".cambfs/status.json", os.O_RDONLY)
        try:
            first = os.pread(early, 10, 0)
            assert mount.run("cat 101.flac > /dev/null").status == 0
            whole = json.loads(first + os.pread(early, 1 << 20, 10))
        finally:
            os.close(early)
        assert whole["requests"] == {}
        assert status_of(mount)["requests"] != {}


def test_the_files_are_their_owners_alone_and_listed(mounted: Mounted) -> None:
    with mounted() as mount:
        names = {"errors", "pid", "status.json", "metrics", "known"}
        found = {path.name: path.stat() for path in (mount.path / ".cambfs").iterdir()}
        assert set(found) == names
        assert {stat.filemode(one.st_mode) for one in found.values()} == {"-r--------"}
        assert len({one.st_ino for one in found.values()}) == len(names)


# The command.


def test_the_command_shows_a_mount_to_people_and_to_programs(mounted: Mounted) -> None:
    with mounted() as mount:
        assert mount.run("cat 101.flac > /dev/null").status == 0
        done = run([CAMBFS, "status", str(mount.path)])
        assert (done.status, done.err) == (0, ""), done
        assert done.out.startswith(f"{mount.path}  cambfs {__version__}, process {mount.process.pid}".encode())
        assert b"\x1b" not in done.out
        found = json.loads(run([CAMBFS, "status", "--json", str(mount.path)]).out)
        assert found["pid"] == mount.process.pid


def test_the_command_shows_all_mounts(mounted: Mounted) -> None:
    with mounted(home="one") as one, mounted(home="two") as two:
        done = run([CAMBFS, "status", "--json"])
        assert done.status == 0, done
        assert {str(one.path), str(two.path)} <= {found["mount_point"] for found in json.loads(done.out)}


def test_a_mount_that_hangs_does_not_hang_the_command(mounted: Mounted) -> None:
    with mounted() as mount:
        os.kill(mount.process.pid, signal.SIGSTOP)
        try:
            done = run([CAMBFS, "status", str(mount.path)], on_hang=mount.kill)
        finally:
            os.kill(mount.process.pid, signal.SIGCONT)
        assert done.status == 1
        assert done.err == f"cambfs: {mount.path}: the mount does not respond; to end it: cambfs unmount {mount.path}\n"


def test_the_command_says_how_to_remove_a_dead_mount(mounted: Mounted) -> None:
    with mounted() as mount:
        mount.status = -signal.SIGKILL
        mount.process.kill()
        mount.process.wait()
        done = run([CAMBFS, "status", str(mount.path)])
        assert (done.status, done.out) == (1, b"")
        assert done.err == (
            f"cambfs: {mount.path}: the process of the mount has died;"
            f" to remove what is left: cambfs unmount {mount.path}\n"
        )
        assert run([CAMBFS, "unmount", str(mount.path)]).status == 0


def test_the_command_watches_until_the_mount_ends(mounted: Mounted) -> None:
    with mounted() as mount, mount.start(f"cd /; exec {CAMBFS} status --watch {mount.path}") as watching:
        assert watching.stdout is not None
        heads = 0
        while heads < 2:
            line = watching.stdout.readline()
            assert line, "it goes on while the mount does"
            heads += line.startswith(os.fsencode(mount.path))
        assert run([CAMBFS, "unmount", str(mount.path)]).status == 0
        assert watching.wait(60) == 1
