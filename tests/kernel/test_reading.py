"""Reading cold results in ways that the tools do not, and by many at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from cambfs.demo.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted

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
    """The kernel does not know the size, reads ahead beyond the end, and its answers overtake each other there."""
    source = audio.minutes
    if kind == "aligned":
        source = tmp_path / "aligned"
        source.write_bytes(audio.minutes.read_bytes()[: 16 << 17])
    server.profile = Profile(length=length)  # type: ignore[arg-type]
    server.results.update(dict.fromkeys(range(1, 61), source))
    wanted = source.read_bytes()
    with mounted() as mount, ThreadPoolExecutor(4) as pool:

        def read(run_id: int) -> str | None:
            done = mount.run(_BLIND[run_id % len(_BLIND)].replace("$F", f"{run_id}.flac"))
            return None if (done.status, done.out) == (0, wanted) else f"{done} where there are {len(wanted)}"

        wrong = list(filter(None, pool.map(read, range(1, 61))))
        assert not wrong, "\n".join(wrong)
