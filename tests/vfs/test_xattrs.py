"""The extended attributes of audio: only known facts, without a request."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cambfs.cache.cache import Cache
from cambfs.disk.disk import Disk
from cambfs.errors import KeyRefused
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.vfs.xattrs import Xattrs
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, StorageManner, some_bytes, some_flac
from tests.waiting import MakeLibrary, deadline, read_all

SIZE = 20_000
CONTENT = some_flac(SIZE)
ORIGIN = "https://api.test/apis/tts-result/1"


def _all(xattrs: Xattrs, path: str = "/1.flac") -> dict[str, str]:
    return {name.removeprefix("user."): value.decode() for name, value in xattrs.of(path).items()}


def _of(library: Library) -> Xattrs:
    return Xattrs(library, "https://api.test/apis/", {"2.flac": "EIO: broken"}.get)


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary, tmp_path: Path) -> Library:
    source.add(1, Result(CONTENT))
    return make_library(Cache(Disk(tmp_path), 1 << 20))


def test_of_a_result_of_which_nothing_is_here(library: Library, source: FakeSource) -> None:
    assert _all(_of(library)) == {"xdg.origin.url": ORIGIN, "cambfs.run_id": "1", "cambfs.state": "remote"}
    assert source.requests == 0


def test_of_a_result_that_is_arriving(library: Library, source: FakeSource) -> None:
    gate = Gate()
    source.plan("stream", 1, Plan(stall_at=7400, stall_gate=gate))
    handle = library.open(RunId(1), deadline())
    assert handle.read(0, 7400, deadline()) == CONTENT[:7400]
    found = _all(_of(library))
    assert (found["cambfs.state"], found["mime_type"]) == ("partial 37%", "audio/flac")
    assert "cambfs.sha256" not in found
    gate.open()
    handle.close()


def test_of_a_cached_result(library: Library, source: FakeSource) -> None:
    read_all(library, 1)
    library.wait_until_kept(LIMIT_S)
    asked = source.requests
    found = _all(_of(library))
    assert found["cambfs.sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert (found["cambfs.state"], found["mime_type"]) == ("cached", "audio/flac")
    assert source.requests == asked


def test_of_a_result_in_memory(source: FakeSource, make_library: MakeLibrary) -> None:
    source.add(1, Result(CONTENT))
    library = make_library()
    read_all(library, 1)
    library.wait_until_kept(LIMIT_S)
    found = _all(_of(library))
    assert (found["cambfs.state"], found["mime_type"]) == ("cached", "audio/flac")
    assert "cambfs.sha256" not in found


def test_of_a_part_that_is_only_kept(library: Library, source: FakeSource) -> None:
    source.storage = StorageManner.UNREACHABLE
    source.plan("stream", 1, Plan(break_after=10_000), Plan(error=KeyRefused("no", 403)))
    with pytest.raises(KeyRefused):
        read_all(library, 1)
    library.wait_until_kept(LIMIT_S)
    found = _all(_of(library))
    assert (found["cambfs.state"], found["mime_type"]) == ("partial 50%", "audio/flac")


def test_the_type_is_what_the_bytes_are(source: FakeSource, make_library: MakeLibrary) -> None:
    wav = b"RIFF" + (5992).to_bytes(4, "little") + b"WAVE" + some_bytes(5988)
    source.add(1, Result(wav))
    library = make_library()
    with library.use(RunId(1)):
        handle = library.open(RunId(1), deadline())
        handle.read(0, 5000, deadline())
        assert _all(_of(library))["mime_type"] == "audio/x-wav"
        handle.close()


def test_the_last_error_is_that_of_the_file(library: Library) -> None:
    assert _all(_of(library), "/2.flac")["cambfs.error"] == "EIO: broken"
    assert "cambfs.error" not in _all(_of(library))


@pytest.mark.parametrize("path", ["/", "/1.url", "/.cambfs", "/.cambfs/errors", "/01.flac", "/x"])
def test_other_files_have_none(library: Library, path: str) -> None:
    assert _all(_of(library), path) == {}
