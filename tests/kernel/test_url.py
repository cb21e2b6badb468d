"""`.url` files: their contents, with every tool, and that the URLs work."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from cambfs.demo.profile import Profile
from tests.api.faults import BEFORE_HEADERS, Fault
from tests.api.server import Server
from tests.kernel.conftest import Mounted
from tests.kernel.faults import FAILED, read
from tests.kernel.harness import PYTHON, run, wait_until

_TOOLS = {
    "cat": "cat $F",
    "head": "head -n 5 $F",
    "tail": "tail -n 5 $F",
    "dd": "dd if=$F bs=7 status=none",
    "cp": "cp $F $O && cat $O",
    "rsync": "rsync $F $O && cat $O",
    "tar": "tar -cf - $F | tar -xOf -",
    "gzip": "gzip -c $F | gunzip",
    "curl": "curl -sS file://$PWD/$F",
    "grep": "grep -a . $F",
    "sed": "sed -n p $F",
    "stat-first": "stat $F > /dev/null && cat $F",
    "sendfile": "python3 -ISc 'import os; fd = os.open(\"$F\", 0)\nwhile os.sendfile(1, fd, None, 1 << 20): pass'",
    "splice": "python3 -ISc 'import os; fd = os.open(\"$F\", 0)\nwhile os.splice(fd, 1, 1 << 20): pass'",
    "mmap": "python3 -ISc 'import mmap, os; os.write(1, mmap.mmap(os.open(\"$F\", 0), 0, mmap.MAP_SHARED, 1)[:])'",
    "bash": "printf '%s\\n' \"$(<$F)\"",
}
_SHORTCUT = re.compile(rb"\[InternetShortcut\]\r\nURL=(http\S+)\r\n")


# All at once, to be shown; then the beginning, and the rest when it is told to.
_IN_TWO_PARTS = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print(os.pread(fd, 4096, 0).decode(), end="", flush=True)
begin = os.read(fd, 20)
sys.stdin.readline()
os.write(1, begin + os.read(fd, 4096))
"""


def _address(shown: bytes, style: str) -> str:
    """The URL in the text of a `.url` file; raises when the text is not exactly in the style."""
    if style == "json":
        assert shown.count(b"\n") == 1
        assert shown.endswith(b"}\n")
        answer = json.loads(shown)
        assert isinstance(answer["output_url"], str)
        return str(answer["output_url"])
    match = re.fullmatch(rb"(http\S+)\n", shown) if style == "plain" else _SHORTCUT.fullmatch(shown)
    assert match, shown
    return match[1].decode()


def _fetch(url: str) -> str:
    done = run(["curl", "-sSf", url])
    assert done.status == 0, done
    return hashlib.sha256(done.out).hexdigest()


@pytest.mark.parametrize("style", ["json", "plain", "shortcut"])
def test_every_tool_shows_a_url_that_works(style: str, server: Server, mounted: Mounted) -> None:
    audio = server.results[101]
    wanted = hashlib.sha256(audio.read_bytes()).hexdigest()
    server.results.update(dict.fromkeys(range(1, len(_TOOLS) + 1), audio))
    with mounted("--url-style", style) as mount:
        for run_id, (tool, command) in enumerate(_TOOLS.items(), 1):
            name = f"{run_id}.url"
            done = mount.run(f"O={mount.home}/{tool}; {command.replace('$F', name)}")
            assert done.status == 0, f"{tool}: {done}"
            assert mount.run(f"cat {name}").out == done.out, f"{tool} shows something else than cat"
            url = _address(done.out, style)
            assert f"audio_{run_id}." in url, tool
            assert _fetch(url) == wanted, tool
            assert int(mount.run(f"stat -c %s {name}").out) == len(done.out), tool
        assert server.count("stream") == 0


def test_sizes_of_cold_urls_are_exact(server: Server, mounted: Mounted) -> None:
    server.results.update(dict.fromkeys(range(1, 41), server.results[101]))
    names = [f"{run_id}.url" for run_id in range(1, 41)]
    with mounted() as mount:
        sizes = dict(line.split() for line in mount.read("sizes", *names).out.decode().splitlines())
        assert {name: int(size) for name, size in sizes.items()} == {
            name: len(mount.run(f"cat {name}").out) for name in names
        }
        assert sum(server.count("sign", run_id) for run_id in range(1, 41)) == 40


def test_an_expired_url_is_asked_for_anew_at_the_next_open(server: Server, mounted: Mounted) -> None:
    """Its life is long against the resolution of the Date header, whole seconds."""
    server.profile = Profile(url_life_s=5.0)
    with mounted() as mount:
        first = _address(mount.run("cat 101.url").out, "json")
        assert _fetch(first)
        wait_until(lambda: run(["curl", "-sSf", first]).status == 22, "the URL has expired")
        second = _address(mount.run("cat 101.url").out, "json")
        assert second != first
        assert _fetch(second)


def test_a_url_is_asked_for_once_while_it_lives(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        first = mount.run("cat 101.url").out
        assert [mount.run("cat 101.url; stat -c %s 101.url").out for _ in range(3)] == [
            first + b"%d\n" % len(first)
        ] * 3
        assert server.count("sign", 101) == 1


def test_an_open_url_stays_whole_while_its_successor_is_shown(server: Server, mounted: Mounted) -> None:
    """Read in two parts, with an expiry in between: neither reader sees a mix of two responses."""
    server.profile = Profile(url_life_s=1.0)
    with mounted() as mount, mount.start([*PYTHON, "-c", _IN_TWO_PARTS, "101.url"]) as early:
        assert early.stdout is not None
        assert early.stdin is not None
        first = early.stdout.readline()
        wait_until(lambda: mount.run("cat 101.url").out != first, "another URL is shown")
        done = mount.run("cat 101.url; cat 101.url | wc -c; stat -c %s 101.url")
        second, count, size = done.out.splitlines(keepends=True)
        assert _address(second, "json") != _address(first, "json")
        assert len(second) == int(count) == int(size)
        early.stdin.write(b"\n")
        early.stdin.close()
        assert early.stdout.read() == first


def test_an_unknown_run_has_no_url(server: Server, mounted: Mounted) -> None:
    with mounted() as mount:
        done = mount.run("cat 404.url; stat 404.url; test -e 404.url")
        assert done.status == 1
        assert done.err.count("No such file or directory") == 2
        assert done.out == b""
        assert {record.run_id for record in server.requests} <= {0, 404}


def test_a_listing_of_urls_that_cannot_be_had_waits_for_the_first_ones_only(server: Server, mounted: Mounted) -> None:
    server.fail(Fault("status", target="sign", times=None))
    run_ids = (108, 101, 106, 103)
    with mounted("--timeout", "1s", expected=[FAILED + ".*EIO"]) as mount:
        done = mount.run("stat " + " ".join(f"{run_id}.url" for run_id in run_ids))
        assert done.err.count("Input/output error") == len(run_ids), done
    asked = [server.count("sign", run_id) for run_id in run_ids]
    assert min(asked[:2]) > 1
    assert asked[2:] == [1, 1]


def test_where_urls_never_come_the_audio_comes(server: Server, mounted: Mounted) -> None:
    server.fail(Fault("stall", target="sign", after_bytes=BEFORE_HEADERS, times=None))
    with mounted("--timeout", "1s", expected=[FAILED + ".*ETIMEDOUT"]) as mount:
        for run_id in server.results:
            assert "timed out" in mount.run(f"stat {run_id}.url").err
            assert read(mount, run_id).is_all_of(server.results[run_id])
