"""Every tool gets the very bytes of a cold result, and every stat the exact size, however the API behaves.

Each tool has a run of its own, so that it is the first that ever looks at it; the same file under another number.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cambfs.demo.profile import Profile
from tests.api.server import Server
from tests.kernel.audio import Audio
from tests.kernel.conftest import Mounted
from tests.kernel.harness import Mount, run
from tests.kernel.profiles import CASES, Case
from tests.kernel.tools import TOOLS, Outcome, outcome

# As many tools at the same time as keep two cores busy.
_WORKERS = 4
_FIRST_RUN = 1001
_LONG_TOOLS = (
    "cat",
    "cp",
    "dd-odd",
    "sha256sum",
    "tar",
    "rsync",
    "python-mmap",
    "python-sendfile",
    "python-pread",
    "ffmpeg-seek",
)


class Local:
    """The same files in a local directory, under the same names, and the tools' results with them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._outcomes: dict[tuple[str, str, Path], Outcome] = {}

    def outcome(self, tool: str, name: str, source: Path) -> Outcome:
        key = tool, name, source
        if key not in self._outcomes:
            self._outcomes[key] = self._make(tool, name, source)
        return self._outcomes[key]

    def _make(self, tool: str, name: str, source: Path) -> Outcome:
        made = self.directory / name
        made.mkdir()
        copy = made / name
        copy.write_bytes(source.read_bytes())
        copy.chmod(0o444)
        found, done = outcome(tool, name, copy, made / "out", lambda command: run(command, cwd=made))
        assert done.status == 0, f"{tool} fails on a local file: {done}"
        copy.unlink()
        made.rmdir()
        return found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Local:
    return Local(tmp_path_factory.mktemp("local"))


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest, server: Server) -> Case:
    case = CASES[request.param]
    server.profile = case.profile
    return case


def _differences(
    mount: Mount, local: Local, sources: Mapping[tuple[str, int], Path], scratch: Path, workers: int
) -> Iterator[str]:
    """Differences between the tools' results in the mount and locally; `sources`: tool and run → the run's file."""

    def compare(item: tuple[tuple[str, int], Path]) -> str | None:
        (tool, run_id), source = item
        wanted = local.outcome(tool, f"{run_id}.flac", source)
        found, done = outcome(tool, f"{run_id}.flac", source, scratch / str(run_id), mount.run)
        return None if found == wanted else f"{tool} on run {run_id}: {done}\n  {found}\n  where locally {wanted}"

    with ThreadPoolExecutor(workers) as pool:
        yield from filter(None, pool.map(compare, sources.items()))


def _maybe(patterns: Iterable[str]) -> list[str]:
    return ["?" + pattern.removeprefix("?") for pattern in patterns]


def _serve(server: Server, tools: Iterable[str], source: Path, first: int = _FIRST_RUN) -> dict[tuple[str, int], Path]:
    sources = dict.fromkeys(zip(tools, itertools.count(first), strict=False), source)
    server.results.update({run_id: source for _, run_id in sources})
    return sources


def test_every_tool_on_a_cold_result(
    case: Case, server: Server, mounted: Mounted, audio: Audio, local: Local, tmp_path: Path
) -> None:
    sources = _serve(server, TOOLS, audio.minutes)
    with mounted(expected=case.expected) as mount:
        differences = list(_differences(mount, local, sources, tmp_path / "out", _WORKERS))
        assert not differences, "\n".join(differences)


def test_other_files_than_a_plain_flac(case: Case, server: Server, mounted: Mounted, audio: Audio) -> None:
    """A WAV by the name of a FLAC, a FLAC without a checksum, and sizes around the kernel's own."""
    files = [audio.sentence, audio.wav, audio.piped, *audio.edges]
    server.results.update({1 + number: file for number, file in enumerate(files)})
    random.Random(len(case.expected)).shuffle(files)
    warnings = [*_maybe(case.expected), "?run 2: .*WAV"]
    with mounted(expected=warnings) as mount:
        for run_id, file in server.results.items():
            done = mount.run(f"cat {run_id}.flac")
            assert (done.status, done.out == file.read_bytes()) == (0, True), f"{file.name}: {done}"
            assert mount.run(f"stat -c %s {run_id}.flac").out.split() == [str(file.stat().st_size).encode()]


def test_every_stat_is_exact(case: Case, server: Server, mounted: Mounted, audio: Audio) -> None:
    files = [audio.sentence, audio.minutes, audio.piped]
    singles, crowd, listed = range(1, 4), range(10, 42), range(100, 140)
    for run_id in (*singles, *crowd, *listed):
        server.results[run_id] = files[run_id % len(files)]
    with mounted("--runs", "100-139", expected=_maybe(case.expected)) as mount:
        found = [mount.run(f"stat -c %s {run_id}.flac").out for run_id in singles]
        assert [int(size) for size in found] == [server.results[run_id].stat().st_size for run_id in singles]
        done = mount.read("sizes", *(f"{run_id}.flac" for run_id in crowd))
        assert done.out.decode().splitlines() == [
            f"{run_id}.flac {server.results[run_id].stat().st_size}" for run_id in crowd
        ]
        done = mount.run("ls -l | grep flac$ | awk '{print $9, $5}'")
        wanted = {f"{run_id}.flac {server.results[run_id].stat().st_size}" for run_id in server.results if run_id > 99}
        assert wanted <= set(done.out.decode().splitlines()), done
        if not case.sizes_cost_audio:
            assert sum(record.sent for record in server.requests if record.kind in ("stream", "redirected")) < 20e6


@pytest.mark.parametrize("length", ["chunked", "content-length", "close"])
def test_tools_on_a_long_result(
    length: str, server: Server, mounted: Mounted, audio: Audio, local: Local, tmp_path: Path
) -> None:
    """More than fits the cache together, so they also push each other out."""
    server.profile = Profile(length=length)  # type: ignore[arg-type]
    sources = _serve(server, _LONG_TOOLS, audio.long)
    with mounted("--cache-size", "400MB") as mount:
        differences = list(_differences(mount, local, sources, tmp_path / "out", 2))
        assert not differences, "\n".join(differences)
