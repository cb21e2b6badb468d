"""What a user sees of the shared cache: the settings, `status`, and how the mount goes on without the server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import CAMBFS, KEY, Mount, environment, run, wait_until
from tests.shared.servers import Server as Engine
from tests.shared.servers import free_port, running
from tests.shared.slow_link import SlowLink

PASSWORD = "s3cret-of-the-farm"
# What a mount logs when this machine is so busy that the engine seems to be down.
_BUSY = "no response"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with running("redis", tmp_path, password=PASSWORD) as engine:
        yield engine


def _options(engine: Engine, tmp_path: Path) -> list[str]:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    return ["--shared-cache", f"valkey://127.0.0.1:{engine.port}", "--shared-cache-password-file", str(file)]


def _shared(mount: Mount) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(mount.run("cat .cambfs/status.json").out)["shared"]
    return found


def test_two_machines_download_once_and_status_says_so(
    server: Server, mounted: Mounted, engine: Engine, tmp_path: Path
) -> None:
    options, size = _options(engine, tmp_path), server.results[101].stat().st_size
    one, two = (mounted(*options, home=home, expected=(f"?{_BUSY}",)) for home in ("one", "two"))
    with one, two:
        assert "No such file" in one.run("cat 999.flac").err  # not counted as led
        server.forget()
        assert _shared(one)["is_up"] or _BUSY in one.log
        assert one.run("cat 101.flac > /dev/null").status == 0
        wait_until(lambda: engine.admin.keys("*101}:f") or _BUSY in one.log, "it is shared")
        assert two.run(f"cmp 101.flac {server.results[101]}").status == 0
        if _BUSY in one.log + two.log:
            return  # the bytes were right, and that is all
        assert [record.kind for record in server.requests].count("stream") == 1
        assert (_shared(one)["led"], _shared(one)["sent_bytes"]) == (1, size)
        assert (_shared(two)["hits"], _shared(two)["received_bytes"]) == (1, size)
        line = f"shared    valkey://127.0.0.1:{engine.port}/0, up for "
        assert line.encode() in run([CAMBFS, "status", str(two.path)]).out
        assert two.run("grep '^cambfs_shared_up 1' .cambfs/metrics").status == 0


def test_a_lease_that_no_machine_holds_keeps_no_result_away(
    server: Server, mounted: Mounted, engine: Engine, tmp_path: Path
) -> None:
    options = _options(engine, tmp_path)
    one, two = (mounted(*options, home=home, expected=(f"?{_BUSY}",)) for home in ("one", "two"))
    with one, two:
        assert one.run("cat 101.flac > /dev/null").status == 0
        wait_until(lambda: engine.admin.keys("*101}:f") or _BUSY in one.log, "it is shared")
        for key in engine.admin.keys("*101}:f"):
            engine.admin.flushall()
            engine.admin.set(key[:-1] + b"l", b"random")
        assert two.run(f"cmp 101.flac {server.results[101]}").status == 0
        assert _BUSY in one.log + two.log or _shared(two)["led"] == 1


def test_readers_beside_each_other_share_a_slow_link(tmp_path: Path, audio: Audio, engine: Engine) -> None:
    """Four results of 1 MB, each in one piece, would take longer than a mount waits for an engine."""
    result = audio.sentence.with_name("104.flac")
    options, runs = _options(engine, tmp_path), (1, 2, 3, 4)
    with Server(dict.fromkeys(runs, result), key=KEY) as server, SlowLink(engine.port, 4e6) as link:
        with Mount(server, tmp_path / "one", *options, "--read-ahead", "0", expected=(f"?{_BUSY}",)) as one:
            wait_until(
                lambda: _reads(one, result, runs) and len(engine.admin.keys("*:f")) == len(runs), "all are shared"
            )
        options[1] = f"valkey://127.0.0.1:{link.port}"
        for attempt in range(5):  # a busy machine may take longer than a slow link
            server.forget()
            home = tmp_path / f"two-{attempt}"
            with Mount(server, home, *options, "--read-ahead", "0", expected=(f"?{_BUSY}",)) as two:
                assert _reads(two, result, runs)
            if not server.count("stream"):
                return
    raise AssertionError("the engine seemed to be down each time")


def _reads(mount: Mount, result: Path, runs: Sequence[int]) -> bool:
    names = " ".join(f"{run_id}.flac" for run_id in runs)
    return mount.run(f"printf '%s\\n' {names} | xargs -P {len(runs)} -I @ cmp @ {result}").status == 0


def test_a_mount_goes_on_without_the_server(server: Server, mounted: Mounted, engine: Engine, tmp_path: Path) -> None:
    with mounted(*_options(engine, tmp_path), expected=("?shared cache",)) as mount:
        engine.kill()
        assert mount.run("cat 101.flac > /dev/null").status == 0
        found = _shared(mount)
        assert found["is_up"] is False
        assert f"valkey://127.0.0.1:{engine.port}/0" in found["reason"]
        assert PASSWORD not in json.dumps(found)
        line = next(
            line for line in run([CAMBFS, "status", str(mount.path)]).out.decode().splitlines() if "down" in line
        )
        address = f"127.0.0.1:{engine.port}"
        assert line.startswith(f"shared    valkey://{address}/0, down for ")
        assert f"s: cannot connect to {address}: Connection refused; results come from the API" in line or _BUSY in line
        told = run([CAMBFS, "doctor", str(mount.path)], env=environment(server, tmp_path)).out.decode()
        assert f"its shared cache valkey://{address}/0 is down: " in told
        assert f"→ cambfs doctor --shared-cache valkey://{address}/0" in told
        assert f"to find out why: cambfs doctor --shared-cache valkey://{address}/0" in mount.log


def test_a_wrong_address_is_a_warning_when_it_is_mounted(server: Server, tmp_path: Path) -> None:
    directory, address = tmp_path / "camb", f"127.0.0.1:{free_port()}"
    directory.mkdir()
    command = [CAMBFS, "mount", "--shared-cache", f"valkey://{address}", str(directory)]
    done = run(command, env=environment(server, tmp_path))
    try:
        assert done.status == 0
        [line] = done.err.splitlines()
        assert line.startswith("cambfs: warning: the shared cache is down, so results come from the API: ")
        assert f"valkey://{address}/0" in line
        assert line.endswith(f"; to find out why: cambfs doctor --shared-cache valkey://{address}")
        assert run(["cmp", str(directory / "101.flac"), str(server.results[101])]).status == 0
    finally:
        run([CAMBFS, "unmount", str(directory)])


@pytest.mark.parametrize(
    ("refuse", "reason"),
    [
        (lambda engine: engine.admin.config_set("min-replicas-to-write", 1), "it has too few replicas"),
        (lambda engine: engine.admin.replicaof("127.0.0.1", free_port()), "it is a read only replica"),
    ],
    ids=["no replicas", "replica"],
)
def test_what_a_server_has_is_read_while_it_takes_nothing_new(
    refuse: Callable[[Engine], None],
    reason: str,
    server: Server,
    mounted: Mounted,
    engine: Engine,
    tmp_path: Path,
) -> None:
    options = _options(engine, tmp_path)
    expected = (f"?{_BUSY}", "?new results are not shared")
    one, two = (mounted(*options, home=home, expected=expected) for home in ("one", "two"))
    with one, two:
        assert one.run("cat 101.flac > /dev/null").status == 0
        wait_until(lambda: engine.admin.keys("*101}:f") or _BUSY in one.log, "it is shared")
        refuse(engine)
        server.forget()
        assert two.run(f"cmp 105.flac {server.results[105]}").status == 0
        assert two.run(f"cmp 101.flac {server.results[101]}").status == 0
        if _BUSY in one.log + two.log:
            return
        assert server.count("stream", 101) == 0
        assert _shared(two)["is_up"]
        shown = run([CAMBFS, "status", str(two.path)]).out.decode()
        assert re.search(f" s, but it refused a new result [0-9].* ago: {reason}", shown)
        assert two.run("grep '^cambfs_shared_refuses 1' .cambfs/metrics").status == 0
        told = run([CAMBFS, "doctor", str(two.path)], env=environment(server, tmp_path)).out.decode()
        assert f"its shared cache {_shared(two)['address']} refused a new result " in told
        assert two.log.count("new results are not shared") == 1


def test_wrong_settings_are_one_line_and_nothing_is_mounted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "camb").mkdir()
    for url, words in (
        (f"valkey://me:{PASSWORD}@farm", "CAMBFS_SHARED_CACHE_PASSWORD"),
        ("http://farm", "valkey://HOST:6379/0"),
    ):
        command = [CAMBFS, "mount", "--shared-cache", url, str(tmp_path / "camb")]
        done = run(command, env=environment(server, tmp_path))
        assert done.status == 2
        assert words in done.err.splitlines()[-1]
        assert PASSWORD not in done.err
