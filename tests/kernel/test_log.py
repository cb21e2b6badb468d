"""The log of a mount at the level debug."""

from __future__ import annotations

import re

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import wait_until

_REQUEST = re.compile(r"DEBUG (GET|POST) \S+: (\d+) after \d+ ms, (\d+) bytes in \d+ ms, (new|reused) connection, (.+)")


def requests_in(log: str) -> list[re.Match[str]]:
    return [match for line in log.splitlines() if (match := _REQUEST.search(line))]


def test_a_line_a_request_a_cache_hit_and_an_eviction(server: Server, audio: Audio, mounted: Mounted) -> None:
    sizes = {101: audio.sentence.stat().st_size, 105: audio.minutes.stat().st_size}
    # Chunks: so storage is asked, too, whose URLs hold secrets.
    server.profile = Profile(length="chunked")
    limit = ["--cache-size", str(sizes[105] + 1)]
    with mounted("--log-level", "debug", *limit) as mount:
        assert mount.run("cat 101.flac | wc -c").out == b"%d\n" % sizes[101]
        mount.await_idle()
        assert mount.run("cat 101.flac 105.flac | wc -c").out == b"%d\n" % sum(sizes.values())
        mount.await_idle()
        # A probe may go on for a moment.
        wait_until(lambda: len(requests_in(mount.log)) == len(server.requests), "the log has a line a request")
        log = mount.log
    requests = requests_in(log)

    assert {match[5] for match in requests} == {"the key", "run 101", "run 105"}
    assert any(match[3] == str(sizes[101]) for match in requests)
    assert re.search(rf"DEBUG run 101: cache hit, {sizes[101]} bytes$", log, re.M)
    assert re.search(rf"DEBUG run 101: evicted, {sizes[101]} bytes$", log, re.M)
    assert "Signature" not in log
