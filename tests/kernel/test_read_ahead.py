"""Results that are opened in listing order, through a mount: what tools copy, and what that costs."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.api.faults import Fault
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.faults import results_of, server_of_results
from tests.kernel.harness import KEY, Mount, wait_until

COUNT = 12
_AHEAD = 4

results = results_of(COUNT)
server = server_of_results


def _read_ahead(mount: Mount) -> dict[str, int]:
    found: dict[str, int] = _status(mount)["read_ahead"]
    return found


def _status(mount: Mount) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((mount.path / ".cambfs/status.json").read_text())
    return status


def _opened(mount: Mount, *run_ids: int) -> None:
    files = " ".join(f"{run_id}.flac" for run_id in run_ids)
    assert mount.run(f"cat {files} > /dev/null").status == 0


def _streamed(server: Server) -> set[int]:
    return {run_id for run_id in server.results if server.count("stream", run_id)}


@pytest.mark.parametrize(
    "command", ["cp *.flac {}", "cp -r . {}", "tar -cf - . | tar -xf - -C {}", "rsync -a ./ {}", "cat *.flac > {}/all"]
)
def test_copies_in_listing_order(
    command: str, server: Server, results: dict[int, Path], mounted: Mounted, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    with mounted("--runs", f"1-{COUNT}") as mount:
        done = mount.run(command.format(copies))
        assert (done.status, done.err) == (0, ""), done
        found = _read_ahead(mount)

    names = sorted(f"{run_id}.flac" for run_id in results)
    whole = b"".join(results[int(name.split(".")[0])].read_bytes() for name in names)
    copied = [copies / "all"] if (copies / "all").exists() else [copies / name for name in names]
    assert b"".join(path.read_bytes() for path in copied) == whole
    assert server.count("stream") == COUNT
    assert (found["unopened_results"], found["unopened_bytes"]) == (0, 0)


@pytest.mark.parametrize("order", ["find -name '*.flac' -printf '%i %f\n' | sort -n", "ls *.flac", "cat playlist.m3u8"])
def test_a_folder_in_the_order_of_cp_of_a_shell_and_of_a_player(
    order: str, server: Server, mounted: Mounted, tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{1 + 5 * line % COUNT} Book/{7 * line % COUNT:02}\n" for line in range(COUNT)))
    with mounted("--runs-file", str(names)) as mount:
        in_order = mount.run(f"cd by-name/Book && {order}").out.decode()
        paths = re.findall(r"\d\d\.flac$", in_order, re.MULTILINE)
        assert len(paths) == COUNT
        for path in paths[:2]:
            assert mount.run(["cat", f"by-name/Book/{path}"]).status == 0
        next_ones = {int((mount.path / "by-name/Book" / path).resolve().stem) for path in paths[2 : 2 + _AHEAD]}
        wait_until(lambda: next_ones <= _streamed(server), "the next ones are fetched")


@pytest.mark.parametrize("most_transfers", ["1", "32"])
def test_many_reader_processes_at_once(
    most_transfers: str, server: Server, results: dict[int, Path], mounted: Mounted
) -> None:
    with mounted("--runs", f"1-{COUNT}", "--max-transfers", most_transfers) as mount:
        done = mount.run("ls *.flac | sort -n | xargs -P 4 -n 1 sha256sum | sort -n -k 2 | wc -l")
        assert (done.status, done.out.strip()) == (0, str(COUNT).encode())
        mount.await_idle()
        for run_id, path in results.items():
            assert mount.run(f"cmp {run_id}.flac {path}").status == 0

    assert server.count("stream") == COUNT


def test_nothing_is_fetched_for_a_listing_or_without_it(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", f"1-{COUNT}", "--read-ahead", "0") as mount:
        assert mount.run("ls -l").status == 0
        _opened(mount, 3, 4)
        mount.await_idle()
        assert _read_ahead(mount)["results"] == 0

    assert len(_streamed(server) - {3, 4}) <= 1  # which proved storage


def test_a_player_that_opens_each_file_twice(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", f"1-{COUNT}") as mount:
        _opened(mount, 1, 1, 2, 2)
        wait_until(lambda: _streamed(server) == set(range(1, 3 + _AHEAD)), "the next ones are fetched")


def test_a_killed_reader_costs_no_more_than_four(server: Server, mounted: Mounted) -> None:
    with mounted("--runs", f"1-{COUNT}") as mount:
        with mount.start("exec 3< 1.flac 4< 2.flac; read") as reader:
            wait_until(lambda: _read_ahead(mount)["results"] > 0, "something is fetched ahead")
            reader.send_signal(signal.SIGKILL)
        mount.await_idle()
        found = _read_ahead(mount)
        assert found["unopened_results"] <= _AHEAD
        assert _streamed(server) <= set(range(1, 3 + _AHEAD))
        assert mount.run("cat .cambfs/metrics").out.count(b"\ncambfs_read_ahead_unopened_results ") == 1


def test_programs_that_look_at_every_beginning_fetch_little_ahead(audio: Audio, tmp_path: Path) -> None:
    """As those that collect titles and lengths for a library of music."""
    with (
        Server(dict.fromkeys(range(1, COUNT + 1), audio.sentence.with_name("105.flac")), key=KEY) as server,
        Mount(server, tmp_path / "home", "--runs", f"1-{COUNT}") as mount,
    ):
        for run_id in range(1, 8):
            assert mount.run(f"head -c 4096 {run_id}.flac > /dev/null").status == 0
            wait_until(lambda: not _status(mount)["transfers"], "nothing is downloaded any more")
        assert _read_ahead(mount)["results"] <= _AHEAD + 1, "the last one may be begun before the second is closed"
        _opened(mount, 1, 2)
        wait_until(lambda: _read_ahead(mount)["results"] >= _AHEAD or {3, 4, 5, 6} <= mount.cached_runs(), "copied")


def test_a_sequence_that_breaks(server: Server, mounted: Mounted, results: dict[int, Path]) -> None:
    for run_id in (3, 4, 5, 6):
        server.fail(Fault("stall", run_id=run_id, after_bytes=20_000))
    with mounted("--runs", f"1-{COUNT}") as mount:
        _opened(mount, 1, 2)
        wait_until(lambda: server.stalled == _AHEAD, "four are fetched ahead")
        _opened(mount, 11, 8, 1, 10)  # so many that 3 does not continue it
        server.release()
        assert mount.run(f"cmp 3.flac {results[3]}").status == 0
        mount.await_idle()
        assert _read_ahead(mount)["unopened_results"] == _AHEAD - 1


def test_two_readers_that_take_turns(server: Server, mounted: Mounted, tmp_path: Path) -> None:
    """As a player in one folder while `cp` copies another."""
    folders = {"A": [9, 3, 7, 1, 5, 11], "B": [12, 2, 8, 4, 10, 6]}
    lines = [f"{run} {folder}/{place}\n" for folder, runs in folders.items() for place, run in enumerate(runs)]
    (tmp_path / "names.txt").write_text("".join(lines))
    with mounted("--runs-file", str(tmp_path / "names.txt")) as mount:
        assert mount.run("ls by-name/A by-name/B").status == 0
        for place in range(2):
            assert mount.run(f"cat by-name/A/{place}.flac by-name/B/{place}.flac > /dev/null").status == 0
            mount.await_idle()
        assert _read_ahead(mount)["results"] == 0
        assert mount.run("cat by-name/A/2.flac by-name/B/2.flac > /dev/null").status == 0
        wait_until(lambda: _streamed(server) >= {*folders["A"]}, "the rest of A is fetched")
        assert mount.run("cat by-name/A/3.flac by-name/B/3.flac > /dev/null").status == 0
        wait_until(lambda: _streamed(server) == set(range(1, COUNT + 1)), "the rest of B is fetched")
        mount.await_idle()
        before = server.count("stream")
        assert mount.run("cat by-name/*/[45].flac > /dev/null").status == 0
        assert server.count("stream") == before == COUNT
        assert _read_ahead(mount)["unopened_results"] == 0


@pytest.mark.parametrize("title", ["by-name/Book/playlist.m3u8", "all.m3u8"])
def test_a_playlist_is_played_in_its_order(title: str, server: Server, mounted: Mounted, tmp_path: Path) -> None:
    order = [9, 3, 7, 1, 5] if title.startswith("by-name") else [1, 3, 5, 7, 9]
    (tmp_path / "book.txt").write_text("".join(f"{run}  Book/{run}\n" for run in [9, 3, 7, 1, 5]))
    with mounted("--runs-file", str(tmp_path / "book.txt")) as mount:
        if title == "all.m3u8":
            assert mount.run("ls by-name/Book").status == 0
        assert mount.run(f"cat {title} by-name/Book/{order[0]}.flac by-name/Book/{order[1]}.flac").status == 0
        wait_until(lambda: _streamed(server) == set(order), "the others are fetched ahead")


def test_a_busy_api_is_asked_for_nothing_ahead(server: Server, mounted: Mounted) -> None:
    server.fail(Fault("status", status=429, run_id=3, times=None))
    with mounted("--runs", f"1-{COUNT}") as mount:
        _opened(mount, 1, 2)
        wait_until(lambda: server.count("stream", 3), "the next one is asked for")
        mount.await_idle()
        _opened(mount, 7, 8, 9)
        mount.await_idle()

    assert server.count("stream", 3) == 1
    assert _streamed(server).isdisjoint({10, 11, 12})


def test_a_small_cache_is_not_emptied_by_it(server: Server, mounted: Mounted, results: dict[int, Path]) -> None:
    limit = 4 * max(path.stat().st_size for path in results.values())
    with mounted("--runs", f"1-{COUNT}", "--cache-size", str(limit)) as mount:
        assert mount.run("ls -l").status == 0
        streams = server.count("stream")
        for run_id in sorted(results):
            assert mount.run(f"cmp {run_id}.flac {results[run_id]}").status == 0
        mount.await_idle()

    assert server.count("stream") - streams <= COUNT


def test_unmounting_ends_it(server: Server, mounted: Mounted) -> None:
    for run_id in (3, 4, 5, 6):
        server.fail(Fault("stall", run_id=run_id, after_bytes=20_000))
    with mounted("--runs", f"1-{COUNT}") as mount:
        _opened(mount, 1, 2)
        wait_until(lambda: server.stalled == _AHEAD, "four are fetched ahead")
    assert mount.cached_runs() <= {1, 2}
    assert mount.parts() == []
    server.release()
