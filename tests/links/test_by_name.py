"""`cambfs.links.by_name` and `cambfs.links.playlists`: nodes under names, and the texts of playlists."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from cambfs.errors import NoSuchName
from cambfs.links.by_name import NAME, ByName
from cambfs.links.playlists import ALL, AllResults, Playlists
from cambfs.names import RunId, TaskId
from cambfs.run_list import DeclaredRuns
from cambfs.runs.library import Library
from cambfs.vfs.nodes import Attributes
from cambfs.vfs.results import Results
from cambfs.vfs.tree import Tree
from tests.fakes import FakeSource, Result, some_flac
from tests.waiting import MakeLibrary, deadline, read, read_all

TASK = "3f2b8a52-1c1d-4e5f-8a9b-0c1d2e3f4a5b"
TEXT = f"1 Book/01 The harbour\n2 Book/Part 2/02 #2?\n1 again\n{TASK} soon\n3\n"
MTIME_NS = 1_700_000_000 * 10**9
SECONDS = 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "runs.txt"
    write(file, TEXT)
    return file


def write(file: Path, text: str) -> None:
    file.write_text(text)
    os.utime(file, ns=(MTIME_NS, MTIME_NS))


@pytest.fixture
def declared(file: Path) -> DeclaredRuns:
    return DeclaredRuns("", file)


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary, declared: DeclaredRuns) -> Library:
    source.add(1, Result(some_flac(SECONDS * 44_100)))
    return make_library(declared=declared())


def tree_of(
    library: Library,
    declared: DeclaredRuns,
    runs_of: Mapping[TaskId, RunId] = MappingProxyType({}),
    refresh: Callable[[], None] = lambda: None,
    *,
    with_wav: bool = False,
) -> Tree:
    playlists = Playlists(library)
    by_name = ByName(library, declared.names, playlists, run_of=runs_of.get, refresh=refresh, with_wav=with_wav)
    return Tree(Results(library, None), {NAME: by_name, ALL: AllResults(library, declared.names, playlists)})


@pytest.fixture
def tree(library: Library, declared: DeclaredRuns) -> Tree:
    return tree_of(library, declared)


def look(tree: Tree, path: str) -> Attributes:
    return tree.attributes(path, deadline())


def listed(tree: Tree, path: str) -> list[str]:
    entries = list(tree.names(path))
    for name, ino, mode in entries:  # as stat shows them
        found = look(tree, f"{path.rstrip('/')}/{name}")
        assert (found.ino, stat.S_IFMT(found.mode)) == (ino, stat.S_IFMT(mode))
    return [name for name, _, _ in entries]


def text(tree: Tree, path: str) -> list[str]:
    opened = tree.open(path, deadline())
    content = read(opened, 0, 1 << 20, deadline())
    opened.close()
    assert len(content) == look(tree, path).size
    return content.decode().splitlines()


def test_folders_list_folders_links_and_a_playlist(tree: Tree) -> None:
    assert [name for name, _, _ in tree.names("/")] == ["1.flac", "2.flac", "3.flac", NAME, ALL]
    assert listed(tree, "/by-name") == ["again.flac", "playlist.m3u8", "Book"]
    assert listed(tree, "/by-name/Book") == ["01 The harbour.flac", "playlist.m3u8", "Part 2"]
    assert listed(tree, "/by-name/Book/Part 2") == ["02 #2?.flac", "playlist.m3u8"]


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/by-name/again.flac", "../1.flac"),
        ("/by-name/Book/01 The harbour.flac", "../../1.flac"),
        ("/by-name/Book/Part 2/02 #2?.flac", "../../../2.flac"),
        ("/by-name/soon.flac", f"../tasks/{TASK}.flac"),
    ],
)
def test_a_link_leads_to_its_run_or_task(tree: Tree, path: str, target: str) -> None:
    assert tree.readlink(path, deadline()) == target
    node = look(tree, path)
    assert (stat.S_ISLNK(node.mode), node.nlink, node.size) == (True, 1, len(target))


def test_nodes_are_the_same_in_every_mount(tree: Tree, library: Library, file: Path) -> None:
    other = tree_of(library, DeclaredRuns("", file))
    paths = ["/by-name", "/by-name/Book", "/by-name/Book/01 The harbour.flac", "/by-name/playlist.m3u8", "/all.m3u8"]
    for path in paths:
        assert look(tree, path) == look(other, path)
        assert look(tree, path).mtime_ns == MTIME_NS
    assert len({look(tree, path).ino for path in paths}) == len(paths)
    assert (look(tree, "/by-name").nlink, look(tree, "/by-name/Book/Part 2").nlink) == (3, 2)


@pytest.mark.parametrize(
    "path",
    [
        "/by-name/none",
        "/by-name/Book/01 The harbour",
        "/by-name/Book/01 The harbour.url",
        "/by-name/Book/01 The harbour.mp3",
        "/by-name/Book/none/01.flac",
        "/by-name/Book/01 The harbour.flac/x",
        "/by-name/book",
        "/all.m3u8/x",
    ],
)
def test_other_names_are_not_there(tree: Tree, path: str) -> None:
    for ask in (tree.readlink, tree.open, tree.attributes):
        with pytest.raises(NoSuchName):
            ask(path, deadline())
    with pytest.raises(NoSuchName):
        tree.names(path)


def test_each_operation_refuses_the_wrong_kind_of_node(tree: Tree) -> None:
    for path in ("/by-name", "/by-name/Book/playlist.m3u8", "/all.m3u8"):
        with pytest.raises(NoSuchName, match="is not a symbolic link"):
            tree.readlink(path, deadline())
    for path in ("/by-name", "/by-name/again.flac"):
        with pytest.raises(NoSuchName, match="is not a file"):
            tree.open(path, deadline())
    for path in ("/by-name/again.flac", "/all.m3u8"):
        with pytest.raises(NoSuchName, match="is not a directory"):
            tree.names(path)


@pytest.mark.parametrize("with_wav", [True, False])
def test_a_wav_opens_under_each_name_and_is_listed_with_wav(
    library: Library, declared: DeclaredRuns, *, with_wav: bool
) -> None:
    tree = tree_of(library, declared, with_wav=with_wav)
    wavs = ["again.wav"] if with_wav else []
    assert listed(tree, "/by-name") == ["again.flac", *wavs, "playlist.m3u8", "Book"]
    assert tree.readlink("/by-name/again.wav", deadline()) == "../1.wav"
    assert tree.readlink("/by-name/soon.wav", deadline()) == f"../tasks/{TASK}.wav"
    with pytest.raises(NoSuchName):
        look(tree, "/by-name/other.wav")


def test_a_task_appears_under_its_name_when_its_run_is_known(library: Library, declared: DeclaredRuns) -> None:
    runs_of: dict[TaskId, RunId] = {}
    tree = tree_of(library, declared, runs_of, lambda: runs_of.update({TaskId(TASK): RunId(7)}), with_wav=True)
    assert "./soon.flac" not in text(tree, "/by-name/playlist.m3u8")

    assert listed(tree, "/by-name")[2:4] == ["soon.flac", "soon.wav"], "a listing asks for pending tasks"
    assert tree.readlink("/by-name/soon.wav", deadline()) == "../7.wav"
    assert "./soon.flac" in text(tree, "/by-name/playlist.m3u8")


def test_a_change_of_the_file_is_seen_at_once(tree: Tree, file: Path) -> None:
    kept = look(tree, "/by-name/again.flac").ino
    write(file, "2 again\n3 new\n")
    assert listed(tree, "/by-name") == ["again.flac", "new.flac", "playlist.m3u8"]
    assert tree.readlink("/by-name/again.flac", deadline()) == "../2.flac"
    assert look(tree, "/by-name/again.flac").ino == kept
    with pytest.raises(NoSuchName):
        look(tree, "/by-name/Book")


def test_without_names_the_branch_is_not_there(tree: Tree, file: Path) -> None:
    write(file, "1\n2\n3\n")
    assert [name for name, _, _ in tree.names("/")] == ["1.flac", "2.flac", "3.flac"]
    for path in ("/by-name", "/by-name/playlist.m3u8"):
        with pytest.raises(NoSuchName):
            look(tree, path)
    assert text(tree, "/all.m3u8")[1] == "#EXTINF:-1,Run 1"


def test_nothing_costs_a_request(tree: Tree, source: FakeSource) -> None:
    for path in ("/by-name", "/by-name/Book", "/by-name/Book/Part 2"):
        listed(tree, path)
        text(tree, f"{path}/playlist.m3u8")
    text(tree, "/all.m3u8")
    assert source.requests == 0


def test_a_playlist_has_its_titles_in_order_and_the_durations_of_what_is_here(tree: Tree, library: Library) -> None:
    assert "#EXTINF:-1,again" in text(tree, "/by-name/playlist.m3u8")
    assert look(tree, "/by-name/playlist.m3u8").mtime_ns == MTIME_NS
    read_all(library, 1)
    assert text(tree, "/by-name/playlist.m3u8") == [
        "#EXTM3U",
        "#EXTINF:3,01 The harbour",
        "./Book/01 The harbour.flac",
        "#EXTINF:-1,02 #2?",
        "./../2.flac",  # VLC would take # and ? for parts of a URL
        "#EXTINF:3,again",
        "./again.flac",
    ]
    learned_ns = look(tree, "/by-name/playlist.m3u8").mtime_ns
    assert learned_ns > MTIME_NS
    assert look(tree, "/by-name/playlist.m3u8").mtime_ns == learned_ns, "it stays while nothing changes"
    assert look(tree, "/by-name/Book/Part 2/playlist.m3u8").mtime_ns == MTIME_NS, "no duration in it is known"
    assert text(tree, "/by-name/Book/playlist.m3u8")[2:] == [
        "./01 The harbour.flac",
        "#EXTINF:-1,02 #2?",
        "./../../2.flac",
    ]


def test_the_playlist_of_all_has_the_listed_runs_with_their_first_names(tree: Tree) -> None:
    assert text(tree, "/all.m3u8") == [
        "#EXTM3U",
        "#EXTINF:-1,01 The harbour",
        "./1.flac",
        "#EXTINF:-1,02 #2?",
        "./2.flac",
        "#EXTINF:-1,Run 3",
        "./3.flac",
    ]
    assert not tree.is_private("/all.m3u8")
    assert not tree.is_private("/by-name/Book")


def test_going_through_a_folder_asks_ahead_in_bulk(source: FakeSource, make_library: MakeLibrary, file: Path) -> None:
    runs = range(31, 1, -1)  # as the file has them, and not sorted
    for run_id in runs:
        source.add(run_id, Result(some_flac(5000, seed=run_id), has_length=False))
    write(file, "".join(f"{run_id} Book/line {run_id}\n" for run_id in runs))
    declared = DeclaredRuns("", file)
    tree = tree_of(make_library(declared=declared()), declared)
    for name in listed(tree, "/by-name/Book")[:-1]:
        target = tree.readlink(f"/by-name/Book/{name}", deadline()).removeprefix("../..")
        assert tree.attributes(target, deadline(), is_lookup_possible=False).size == 5000
    assert source.calls("sign") + source.calls("bulk") <= len(runs) // 5


def test_listing_the_root_makes_no_playlist(
    library: Library, declared: DeclaredRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would read the beginning of every cached result."""

    def text_is_made(*_: object) -> bytes:
        raise AssertionError("a playlist is made")

    monkeypatch.setattr(Playlists, "make", text_is_made)
    tree = tree_of(library, declared)

    assert [name for name, _, _ in tree.names("/")][-2:] == ["by-name", "all.m3u8"]
