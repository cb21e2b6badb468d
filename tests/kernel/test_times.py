"""The time of a file, as tools see it: the audio's Last-Modified, in any order of requests, and in every mount."""

from __future__ import annotations

import pytest

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.kernel.conftest import Mounted

_ORDERS = {
    "stat": "stat -c %Y 101.flac",
    "cat": "cat 101.flac > /dev/null; stat -c %Y 101.flac",
    "ls": "ls -l > /dev/null; stat -c %Y 101.flac",
    "other": "stat 105.flac > /dev/null; stat -c %Y 101.flac",
    "copy": 'cp -p 101.flac "$HOME_DIR/copy"; stat -c %Y "$HOME_DIR/copy"',
}


@pytest.mark.parametrize("length", ["chunked", "content-length"])
def test_the_time_is_the_audios_in_every_order_and_mount(length: str, server: Server, mounted: Mounted) -> None:
    server.profile = Profile(length=length)  # type: ignore[arg-type]
    made = b"%d\n" % int(server.results[101].stat().st_mtime)
    for order, command in _ORDERS.items():
        for _ in range(2):  # cold, and then with the cache of the first mount
            with mounted("--runs", "101,105", home=order) as mount:
                done = mount.run(f"HOME_DIR={mount.home}; {command}")
                assert done.out == made, f"{order}: {done}"
                assert mount.run("cat 101.flac > /dev/null; stat -c %Y 101.flac").out == made
