"""`cambfs.vfs.wav_files`: the names of WAVs, and the responses to the kernel before a size is known."""

from __future__ import annotations

import stat

import pytest

from cambfs.errors import NoSuchName, NoWav
from cambfs.names import RunId
from cambfs.runs.library import Library
from cambfs.vfs.nodes import PROVISIONAL_SIZE
from cambfs.vfs.results import Results, UrlStyle
from cambfs.vfs.tree import Tree
from cambfs.vfs.wav_files import WavFiles
from cambfs.wav.wav_format import WavFormat
from cambfs.wav.wavs import Wavs
from tests.fakes import FakeSource, Result, some_bytes
from tests.waiting import MakeLibrary, deadline, read
from tests.wav.flacs import noise

_FORM = WavFormat(rate=8000, channels=1, bits=16, samples=5000)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary) -> Library:
    source.add(1, Result(noise(_FORM)))
    return make_library(declared=[1, 2])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tree(library: Library, clock: Clock) -> Tree:
    return Tree(Results(library, UrlStyle.JSON), {}, wavs=WavFiles(Wavs(library), library.listed, clock))


def test_a_lookup_does_not_wait_and_the_next_request_does(tree: Tree) -> None:
    assert tree.attributes("/1.wav", deadline()).size == PROVISIONAL_SIZE
    assert tree.attributes("/1.wav", deadline()).size == _FORM.file_bytes
    assert tree.attributes("/1.wav", deadline()).size == _FORM.file_bytes


def test_a_provisional_size_is_given_again_only_after_the_kernel_has_forgotten(
    source: FakeSource, tree: Tree, clock: Clock
) -> None:
    del source.results[1]
    tree.attributes("/1.wav", deadline())
    with pytest.raises(Exception, match="run 1"):
        tree.attributes("/1.wav", deadline())
    clock.now_s = 1000.0
    with pytest.raises(Exception, match="run 1"):
        tree.attributes("/1.wav", deadline(), is_lookup_possible=False)


def test_a_size_that_was_reported_stays_so(tree: Tree, library: Library) -> None:
    asked = tree.attributes("/1.wav", deadline(), is_lookup_possible=False)

    assert tree.attributes("/1.wav", deadline()) == asked
    library.learn(RunId(1), None, False)
    assert tree.attributes("/1.wav", deadline()) == asked


def test_the_node(tree: Tree, library: Library) -> None:
    node = tree.attributes("/1.wav", deadline(), is_lookup_possible=False)

    assert stat.S_ISREG(node.mode)
    assert stat.S_IMODE(node.mode) == 0o444
    assert node.mtime_ns == library.wait_for_info(RunId(1), deadline()).mtime_ns
    assert node.ino != tree.attributes("/1.flac", deadline()).ino
    assert not tree.is_private("/1.wav")


def test_the_bytes(tree: Tree) -> None:
    file = tree.open("/1.wav", deadline())

    content = read(file, 0, 1 << 20, deadline())
    assert (content[:4], len(content)) == (b"RIFF", _FORM.file_bytes)
    file.close()


@pytest.mark.parametrize("path", ["/.wav", "/01.wav", "/x.wav", "/1.WAV", "/1.wav/x", "/1.flac.wav", "/-1.wav"])
def test_other_names_cost_no_request(path: str, tree: Tree, source: FakeSource) -> None:
    for call in (tree.attributes, tree.open, tree.readlink):
        with pytest.raises(NoSuchName):
            call(path, deadline())
    assert source.requests == 0


def test_the_root_does_not_list_what_was_found_to_have_none(source: FakeSource, tree: Tree) -> None:
    source.add(2, Result(some_bytes(10_000, head=b"OggS\0")))
    with pytest.raises(NoWav):
        tree.attributes("/2.wav", deadline(), is_lookup_possible=False)

    assert [name for name, _, _ in tree.names("/") if name.endswith(".wav")] == ["1.wav"]


def test_the_root_lists_them_if_the_user_wants_that(tree: Tree, library: Library) -> None:
    entries = list(tree.names("/"))
    unlisted = Tree(Results(library, UrlStyle.JSON), {}, wavs=WavFiles(Wavs(library)))

    assert [name for name, _, _ in entries][-2:] == ["1.wav", "2.wav"]
    assert {name: ino for name, ino, _ in entries}["1.wav"] == tree.attributes("/1.wav", deadline()).ino
    assert not [name for name, _, _ in unlisted.names("/") if name.endswith(".wav")]
