"""`cambfs.vfs.results` and `controls`: nodes, their attributes, and the responses before a size is known."""

from __future__ import annotations

import json
import stat

import pytest

from cambfs.deadline import Deadline
from cambfs.errors import NoSuchName, ResultChanged, TimedOut, UnknownRun, Unreachable
from cambfs.names import Kind, RunId, inode
from cambfs.runs.library import Library
from cambfs.vfs.controls import Controls
from cambfs.vfs.nodes import ENTRY_TIMEOUT_S, PROVISIONAL_SIZE, Attributes
from cambfs.vfs.results import Results, UrlStyle
from cambfs.vfs.tree import Tree
from tests.fakes import LIMIT_S, FakeSource, Gate, Plan, Result, some_flac
from tests.test_names import JUNK
from tests.waiting import MakeLibrary, deadline, read

SIZE = 5000
CONTENT = some_flac(SIZE)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def library(source: FakeSource, make_library: MakeLibrary) -> Library:
    source.add(1, Result(CONTENT))
    return make_library(declared=[1, 2])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tree(library: Library, clock: Clock) -> Tree:
    controls = Controls({"errors": lambda: b"none\n"})
    return Tree(Results(library, UrlStyle.JSON, clock), {".cambfs": controls})


def _look(tree: Tree, path: str) -> Attributes:
    """A request that may be a lookup."""
    return tree.attributes(path, deadline())


def _ask(tree: Tree, path: str) -> Attributes:
    """A request that is no lookup."""
    return tree.attributes(path, deadline(), is_lookup_possible=False)


def _text(tree: Tree, path: str) -> bytes:
    file = tree.open(path, deadline())
    try:
        return read(file, 0, 1 << 20, deadline())
    finally:
        file.close()


# Attributes.


def test_the_root(tree: Tree) -> None:
    root = _look(tree, "/")

    assert (root.ino, root.nlink) == (1, 2)
    assert root.mode == stat.S_IFDIR | 0o755
    assert sorted(tree.names("/")) == sorted(
        (f"{run_id}.{kind.value}", inode(RunId(run_id), kind), stat.S_IFREG | 0o444)
        for run_id in (1, 2)
        for kind in Kind
    )


def test_a_file(tree: Tree) -> None:
    file = _ask(tree, "/1.flac")

    assert file == Attributes(inode(RunId(1), Kind.FLAC), stat.S_IFREG | 0o444, 1, SIZE, 1_700_000_000 * 10**9)
    assert file.blocks == 10


def test_a_url_is_its_owners_alone(tree: Tree) -> None:
    assert _ask(tree, "/1.url").mode == stat.S_IFREG | 0o400


def test_without_url_files_their_names_do_not_exist_and_make_no_request(library: Library, source: FakeSource) -> None:
    tree = Tree(Results(library, None), {})

    assert [name for name, _, _ in tree.names("/")] == ["1.flac", "2.flac"]
    assert tree.usage()[1] == 2
    with pytest.raises(NoSuchName):
        _look(tree, "/1.url")
    with pytest.raises(NoSuchName):
        tree.open("/1.url", deadline())
    assert source.requests == 0
    assert _text(tree, "/1.flac") == CONTENT


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (1, 1), (512, 1), (513, 2)])
def test_blocks_are_rounded_up(size: int, blocks: int) -> None:
    assert Attributes(2, 0, 1, size, 0).blocks == blocks


@pytest.mark.parametrize(
    "name", [*JUNK, "1.flac/x", "/1.flac", ".cambfs/nothing", ".cambfs/errors/x", ".cambfs/1.flac"]
)
def test_junk_is_no_file_and_makes_no_request(tree: Tree, source: FakeSource, name: str) -> None:
    if name:
        with pytest.raises(NoSuchName):
            _look(tree, f"/{name}")
        with pytest.raises(NoSuchName):
            tree.check_exists(f"/{name}", deadline())
    with pytest.raises(NoSuchName):
        tree.open(f"/{name}", deadline())
    assert source.requests == 0


# Provisional sizes.


@pytest.mark.parametrize("path", ["/1.flac", "/1.url"])
def test_the_first_answer_is_given_at_once_and_the_second_is_true(tree: Tree, source: FakeSource, path: str) -> None:
    assert _look(tree, path).size == PROVISIONAL_SIZE
    assert source.requests == 0

    assert 0 < _look(tree, path).size <= SIZE
    assert 0 < _look(tree, path).size <= SIZE


@pytest.mark.parametrize("path", ["/1.flac", "/1.url"])
def test_what_is_no_lookup_is_never_answered_provisionally(tree: Tree, path: str) -> None:
    assert _ask(tree, path).size <= SIZE


@pytest.mark.parametrize("path", ["/2.flac", "/2.url"])
@pytest.mark.tuning(unknown_for_s=0.0)
def test_a_name_is_answered_provisionally_once_as_long_as_the_kernel_may_remember_it(
    tree: Tree, clock: Clock, path: str
) -> None:
    assert _look(tree, path).size == PROVISIONAL_SIZE
    for now_s in (0.0, 1.0, ENTRY_TIMEOUT_S):
        clock.now_s = now_s
        with pytest.raises(UnknownRun):
            _look(tree, path)
    clock.now_s = ENTRY_TIMEOUT_S * 2.0

    assert _look(tree, path).size == PROVISIONAL_SIZE


def test_the_two_files_of_a_run_are_answered_on_their_own(tree: Tree) -> None:
    assert _look(tree, "/1.flac").size == PROVISIONAL_SIZE
    assert _look(tree, "/1.url").size == PROVISIONAL_SIZE


def test_a_size_that_was_told_is_never_replaced_by_a_provisional_one(
    tree: Tree, library: Library, clock: Clock
) -> None:
    assert _ask(tree, "/1.flac").size == SIZE
    library.learn(RunId(1), None, False)
    clock.now_s = 10_000.0

    assert _look(tree, "/1.flac").size == SIZE


def test_a_text_that_was_told_is_never_replaced_by_a_provisional_size(
    tree: Tree, source: FakeSource, clock: Clock
) -> None:
    source.life_s = 0.0
    size = _ask(tree, "/1.url").size
    clock.now_s = 10_000.0

    assert _look(tree, "/1.url").size == size
    assert source.count("sign", 1) == 2


def test_a_cached_result_is_answered_truly_at_once(tree: Tree, source: FakeSource) -> None:
    _text(tree, "/1.flac")
    for kind in ("stream", "sign", "stored"):
        source.plan_always(kind, 1, Plan(error=Unreachable("gone")))

    assert _look(tree, "/1.flac").size == SIZE


@pytest.mark.tuning(unknown_for_s=1000.0)
def test_a_file_that_cannot_be_is_not_said_to_exist(tree: Tree) -> None:
    with pytest.raises(UnknownRun):
        tree.check_exists("/2.flac", deadline())
    with pytest.raises(UnknownRun):
        _look(tree, "/2.flac")


# Open files.


def test_audio(tree: Tree) -> None:
    file = tree.open("/1.flac", deadline())

    assert read(file, 0, SIZE * 2, deadline()) == CONTENT
    assert read(file, SIZE - 1, 10, deadline()) == CONTENT[-1:]
    assert read(file, SIZE, 10, deadline()) == b""
    assert not file.keep_cache
    file.close()
    again = tree.open("/1.flac", deadline())
    assert again.keep_cache
    again.close()


@pytest.mark.parametrize("style", UrlStyle)
def test_a_text_is_as_long_as_its_attributes_say(library: Library, style: UrlStyle) -> None:
    tree = Tree(Results(library, style), {})
    text = _text(tree, "/1.url")

    assert _look(tree, "/1.url").size == len(text)
    file = tree.open("/1.url", deadline())
    assert read(file, 3, 4, deadline()) == text[3:7]
    assert read(file, len(text), 4, deadline()) == b""
    file.close()


def test_an_open_text_stays_what_it_was_when_another_is_shown(tree: Tree, source: FakeSource) -> None:
    source.life_s = 0.0
    first = tree.open("/1.url", deadline())
    was = read(first, 0, 1000, deadline())
    second = tree.open("/1.url", deadline())
    now = read(second, 0, 1000, deadline())

    assert now != was
    assert read(first, 0, 3, deadline()) + read(first, 3, 1000, deadline()) == was
    first.close()
    assert read(second, 0, 1000, deadline()) == now
    second.close()


def test_texts_that_differ_do_not_share_the_pages_of_the_kernel(tree: Tree, source: FakeSource) -> None:
    """Of those that are open at the same time, all that go by way of its pages are the same."""
    source.life_s = 0.0
    first, second = tree.open("/1.url", deadline()), tree.open("/1.url", deadline())
    first.close()
    third, fourth = tree.open("/1.url", deadline()), tree.open("/1.url", deadline())

    assert [file.direct_io for file in (first, second, third, fourth)] == [False, True, False, True]
    for file in (second, third, fourth):
        file.close()
    source.life_s = 3600.0
    same = [tree.open("/1.url", deadline()) for _ in range(2)]
    assert not any(file.direct_io for file in same)


def test_a_text_that_its_size_no_longer_fits_is_not_read(tree: Tree, source: FakeSource) -> None:
    """The size is the last open's, and the kernel cuts a longer text."""
    source.life_s = 0.0
    first = tree.open("/1.url", deadline())
    for _ in range(9):
        tree.open("/1.url", deadline()).close()
    second = tree.open("/1.url", deadline())
    now = read(second, 0, 1000, deadline())

    assert _look(tree, "/1.url").size == len(now)
    with pytest.raises(ResultChanged):
        read(first, 0, 1000, deadline())
    second.close()
    assert _look(tree, "/1.url").size == len(now)
    first.close()


def test_a_failure_is_remembered_for_its_place_alone(tree: Tree, source: FakeSource) -> None:
    """The kernel asks again for parts of a failed read; reads elsewhere wait as usual."""
    gate, content = Gate(), some_flac(600_000)

    def open_gate() -> bool:
        gate.open()
        return False

    source.add(5, Result(content))
    source.plan_always("stream", 5, Plan(stall_at=100_000, stall_gate=gate))
    source.plan_always("stored", 5, Plan(error=Unreachable("gone")))
    file = tree.open("/5.flac", deadline())
    failures = {}
    for place in (131_072, 262_144):
        with pytest.raises(TimedOut) as failed:
            read(file, place, 131_072, Deadline(0.1))
        failures[place] = failed.value
    for place, failure in failures.items():
        with pytest.raises(TimedOut) as again:
            read(file, place + 4096, 4096, deadline())
        assert again.value is failure

    assert read(file, 393_216, 1000, Deadline(LIMIT_S, open_gate)) == content[393_216:394_216]
    assert read(file, 131_072, 131_072, deadline()) == content[131_072:262_144], "what is there is read all the same"
    file.close()


def test_a_text_is_asked_for_once_as_long_as_it_holds(tree: Tree, source: FakeSource) -> None:
    texts = {_text(tree, "/1.url") for _ in range(3)}

    assert len(texts) == 1
    assert source.requests == 1


# The three styles.

_ANSWER = {"output_url": "https://storage.test/1?n=ü&x=1", "more": [1, None]}


def test_json_is_the_answer_on_one_line() -> None:
    text = UrlStyle.JSON.text(_ANSWER)

    assert json.loads(text) == _ANSWER
    assert text.endswith(b"}\n")
    assert text.count(b"\n") == 1
    assert UrlStyle.JSON.text({"output_url": "https://a"}) == b'{"output_url": "https://a"}\n'


def test_plain_is_the_url_on_a_line() -> None:
    assert UrlStyle.PLAIN.text({"output_url": "https://a/b?c=d", "more": 1}) == b"https://a/b?c=d\n"


def test_a_shortcut_is_what_desktops_open() -> None:
    assert UrlStyle.SHORTCUT.text({"output_url": "https://a"}) == b"[InternetShortcut]\r\nURL=https://a\r\n"


@pytest.mark.parametrize("odd", ["\ud800", "\n", "\r\n", "\x1b[2J", "\x7f", "\x9b2J", "\u202e", "\0"])
def test_odd_characters_neither_fail_nor_begin_a_line(odd: str) -> None:
    response = {"output_url": "https://a/b", "more": odd, odd: "more"}
    text = UrlStyle.JSON.text(response)

    assert text.count(b"\n") == 1
    assert text.decode().removesuffix("\n").isprintable()
    assert json.loads(text) == response


# The mount's own files.


def test_controls_are_there_and_not_listed(tree: Tree) -> None:
    assert _look(tree, "/.cambfs").mode == stat.S_IFDIR | 0o755
    assert _look(tree, "/.cambfs/errors").size == len(b"none\n")
    assert [name for name, _, _ in tree.names("/.cambfs")] == ["errors"]
    assert all(not name.startswith(".") for name, _, _ in tree.names("/"))
    assert _text(tree, "/.cambfs/errors") == b"none\n"
    assert tree.open("/.cambfs/errors", deadline()).direct_io
    assert _look(tree, "/.cambfs/errors").mode == stat.S_IFREG | 0o400
