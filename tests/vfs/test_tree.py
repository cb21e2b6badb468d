"""`cambfs.vfs.tree`: which branch has a path, and what the root lists."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName
from cambfs.runs.library import Library
from cambfs.vfs.nodes import DIRECTORY_MODE, FILE_MODE, LINK_MODE, Attributes, Branch, Entry
from cambfs.vfs.open_files import OpenControl, OpenFile
from cambfs.vfs.results import Results, UrlStyle
from cambfs.vfs.tree import Tree
from tests.fakes import FakeSource
from tests.waiting import MakeLibrary, deadline, read


class Links(Branch):
    """A folder with one link."""

    def __init__(self, listed_mode: int | None = DIRECTORY_MODE) -> None:
        self._listed_mode = listed_mode

    def listed_mode(self) -> int | None:
        return self._listed_mode

    def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:  # noqa: ARG002
        return Attributes(7, DIRECTORY_MODE if path in ("/links", "/.hidden") else LINK_MODE, 1, 0, 0)

    def open(self, path: str, _deadline: Deadline) -> OpenFile:
        return OpenControl(path.encode())

    def readlink(self, path: str, _deadline: Deadline) -> str:
        return f"target of {path}"

    def names(self, path: str) -> Iterator[Entry]:
        return iter([(f"in {path}", 8, LINK_MODE)])

    def is_private(self, path: str) -> bool:
        return path.endswith("secret")


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary) -> Library:
    assert source.requests == 0
    return make_library(declared=[1])


@pytest.fixture
def tree(library: Library) -> Tree:
    return Tree(Results(library, UrlStyle.JSON), {"links": Links(), ".hidden": Links(listed_mode=None)})


def test_the_root_lists_the_results_and_the_branches_that_want_it(tree: Tree) -> None:
    found = [(name, stat.S_IFMT(mode)) for name, _, mode in tree.names("/")]

    assert found == [("1.flac", stat.S_IFREG), ("1.url", stat.S_IFREG), ("links", stat.S_IFDIR)]


def test_a_branch_has_all_paths_below_its_name(tree: Tree) -> None:
    assert tree.readlink("/links/a/b", deadline()) == "target of /links/a/b"
    assert tree.attributes("/links", deadline()).mode == DIRECTORY_MODE
    assert tree.attributes("/links/1.flac", deadline()).mode == LINK_MODE
    assert list(tree.names("/links/a")) == [("in /links/a", 8, LINK_MODE)]
    file = tree.open("/.hidden/x", deadline())
    assert read(file, 0, 100, deadline()) == b"/.hidden/x"
    file.close()
    assert tree.is_private("/links/secret")
    assert not tree.is_private("/links/1.url")
    tree.check_exists("/links/anything", deadline())


def test_all_other_names_belong_to_the_results(tree: Tree) -> None:
    assert tree.attributes("/1.flac", deadline()).mode == FILE_MODE
    assert tree.is_private("/1.url")
    for path in ("/link", "/links.flac", "/hidden"):
        with pytest.raises(NoSuchName):
            tree.attributes(path, deadline())
    with pytest.raises(NoSuchName):
        tree.readlink("/1.flac", deadline())


def test_the_root_looks_at_no_attributes_of_a_branch(library: Library) -> None:
    class Expensive(Links):
        def attributes(self, path: str, _deadline: Deadline, *, is_lookup_possible: bool) -> Attributes:
            raise AssertionError(f"{path} was looked at, {is_lookup_possible=}")

    tree = Tree(Results(library, None), {"a": Expensive(), "b": Expensive(FILE_MODE), "none": Expensive(None)})

    assert [(name, mode) for name, _, mode in tree.names("/")][1:] == [("a", DIRECTORY_MODE), ("b", FILE_MODE)]
    assert tree.readlink("/none/x", deadline()) == "target of /none/x"
