"""The runs file as text and as a table: its runs, names, mistakes and surprises."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.run_list import content as reading
from cambfs.run_list.content import Content, parse_content
from cambfs.run_list.folders import Folder

TASK = "3f2b8a52-1c1d-4e5f-8a9b-0c1d2e3f4a5b"


def parse(text: str | bytes, *, is_csv: bool = False) -> Content:
    return parse_content(text.encode() if isinstance(text, str) else text, is_csv=is_csv)


def names(found: Content) -> dict[str, int | str]:
    assert not found.errors
    return {str(title.path): title.target for title in found.root.all_titles}


def error(text: str, *, is_csv: bool = False) -> str:
    """The mistake in the last line, the only one."""
    found = parse(text, is_csv=is_csv)
    assert [problem.number for problem in found.errors] == [len(text.split("\n"))]
    return found.errors[0].text


@pytest.mark.parametrize(
    ("line", "run", "name"),
    [
        ("1477  Book/01 The harbour", 1477, "Book/01 The harbour"),
        ("1477\tBook/01", 1477, "Book/01"),
        ("  1477 Book/01 \t ", 1477, "Book/01"),
        ("1477 Track #1", 1477, "Track #1"),
        ('1477 It\'s "quoted"; a, b', 1477, 'It\'s "quoted"; a, b'),
        ("1477 the end.flac", 1477, "the end"),
        ("1477 2", 1477, "2"),
        ("1477 2-3 times", 1477, "2-3 times"),
        ("1477 日本語/\u200fעברית", 1477, "日本語/\u200fעברית"),
        (f"{TASK.upper()} Task/soon", TASK, "Task/soon"),
    ],
)
def test_a_line_names_a_run_or_a_task(line: str, run: int | str, name: str) -> None:
    assert names(parse(line)) == {name: run}


def test_lines_without_names_stay_what_they_were() -> None:
    found = parse(f"# what I need\n7\n 9 # the long one\n11#x\n1 - 3\n\n{TASK}\n")
    assert not found.errors
    assert found.ranges == [range(7, 8), range(9, 10), range(11, 12), range(1, 4)]
    assert found.tasks == [TASK]
    assert not found.root.all_titles


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_a_table_is_read_as_spreadsheets_write_it(encoding: str, delimiter: str, newline: str) -> None:
    rows = ["line,Name,run_id", '1,"Ünï/a, ""b"" ",1477 ', ",,", "2,,1478", "3,#4,1479"]
    text = newline.join(row.replace(",", delimiter) if '"' not in row else row for row in rows)
    text = text.replace('1,"Ünï/a, ""b"" ",1477 ', f'1{delimiter}"Ünï/a, ""b"" "{delimiter}1477 ')
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    found = parse(mark + text.encode(encoding), is_csv=True)
    assert names(found) == {'Ünï/a, "b"': 1477, "#4": 1479}
    assert found.ranges == [range(1477, 1478), range(1478, 1479), range(1479, 1480)]


def test_a_header_makes_a_table_of_any_file() -> None:
    assert names(parse("run_id\tname\n1477\tBook/01\n")) == {"Book/01": 1477}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1477,Book\n", "'1477,Book' is not a header; a CSV file needs the columns run_id and name"),
        ("", "'' is not a header"),
        ('run_id,name\n1,a\n2,"b\n3,c\n', "line 3: .*; check the quotes"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text, is_csv=True)


def test_a_mistake_in_a_table_has_the_line_of_an_editor() -> None:
    found = parse('run_id,name\n1,"a\nb"\n2,c\nx,d\n,e\n', is_csv=True)
    assert [problem.number for problem in found.errors] == [2, 5, 6]
    assert "a line break" in found.errors[0].text
    assert "'x' is not a run id" in found.errors[1].text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/etc/passwd", "begins with /"),
        ("../../etc/passwd", r"\.\. cannot be a name"),
        ("Book/../../x", r"\.\. cannot be a name"),
        ("Book/..", r"\.\. cannot be a name"),
        ("Book/.", r"\. cannot be a name"),
        ("Book//01", "empty part"),
        ("Book/", "empty part"),
        ("Book/.flac", "empty part"),
        ("a\tb", "control character"),
        ("a\x00b", "control character"),
        ("a\x1b[2Jb", "control character"),
        ("a\u2028b", "line break"),
        ("a\x85b", "line break"),
        ("songs.flac/01", "must not end like a file"),
        ("playlist.m3u8/01", "must not end like a file"),
        ("x" * 251, "has 256 bytes; a name can have 255"),
        ("é" * 126, "has 257 bytes; a name can have 255"),
        ("é" * 128 + "/01", "has 256 bytes; a name can have 255"),
        ("/".join("d" * 600), "longer than 1,024 bytes"),
        ("d/" * 33 + "x", "has 33 folders; a path can have 32"),
    ],
)
def test_a_name_that_cannot_work_is_refused(name: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error(f"1477 ok\n1478 {name}"))


def test_the_longest_name_is_allowed() -> None:
    assert not parse(f"1 {'é' * 125}\n2 {'é' * 127}/x\n3 {'d/' * 32}x\n").errors


def test_bytes_that_are_not_utf_8_are_refused_in_a_name_only() -> None:
    found = parse(b"# caf\xe9\n1 caf\xe9\n")
    assert [(number, "is not UTF-8; save the file as UTF-8" in text) for number, text in found.errors] == [(2, True)]


def test_a_duplicate_is_refused_and_the_first_stays() -> None:
    found = parse("1 Book/01\n2 Book/01.flac\n")
    assert found.errors == [(2, "'Book/01' is the name in line 1 already")]
    assert found.ranges == [range(1, 2)]
    assert found.root.folders["Book"].titles == {"01": 1}


def test_a_title_and_a_folder_may_share_a_name() -> None:
    found = parse("1 Book\n2 Book/01\n")
    assert names(found) == {"Book": 1, "Book/01": 2}


def test_a_range_has_no_name() -> None:
    assert "is a range, and a name is for one run" in error("1-3 Book")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 Book/a\n2 book/b", "'book/' looks like 'Book/'"),
        ("1 A\n2 a", "'a' looks like 'A'"),
        ("1 caf\u00e9\n2 cafe\u0301", "looks like 'caf\u00e9'"),
        ("1 .hidden", "begins with a dot"),
        ("1 Book /a", "blank at the beginning or end"),
        ("1 Book\\a", "backslash"),
        ("1 a\u202eb", "cannot be seen"),
        ("1 a\ufffdb", "saved as UTF-8"),
        ("1 a # b", "begins no comment"),
    ],
)
def test_a_name_that_may_surprise_is_a_warning(text: str, message: str) -> None:
    found = parse(text)
    assert len(names(found)) == len(text.split("\n"))
    assert [(problem.number, message in problem.text) for problem in found.warnings] == [(len(text.split("\n")), True)]


def test_usual_names_surprise_nobody() -> None:
    text = "1 Book/01 The harbour\n2 Book/Track #1\n3 می\u200cخواهم\n4 👨\u200d👩\u200d👧\n5 Who? What: 100%\n"
    assert not parse(text).warnings


def test_folders_have_their_titles_in_the_order_of_the_file() -> None:
    root = parse("1 B/2\n2 A/1\n3 B/c/1\n4 B/1\n").root
    assert list(root.folders) == ["B", "A"]
    assert [title.target for title in root.folders["B"].all_titles] == [1, 3, 4]
    assert [title.target for title in root.all_titles] == [1, 2, 3, 4]
    assert root.find(["B", "c"]) is root.folders["B"].folders["c"]
    assert root.find(["B", "d", "e"]) is None
    assert root.count_folders() == 3


def test_too_many_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_NAMES", 3)
    assert len(names(parse("1 a\n2 b\n3 c\n"))) == 3
    for text in ("1 a\n2 b\n3 c\n4 d\n", "1 a/b/c/d\n"):
        with pytest.raises(ValueError, match="more than 3 names and folders"):
            parse(text)


def _paths(folder: Folder, above: str = "") -> list[str]:
    own = [f"{above}{title}" for title in folder.titles]
    return own + [path for name, inner in folder.folders.items() for path in _paths(inner, f"{above}{name}/")]


@given(st.lists(st.text(alphabet="ab/. #\\\t\u0301é\x00\u202e", max_size=8), max_size=12))
def test_any_names_make_a_tree_that_nothing_leaves(texts: list[str]) -> None:
    found = parse("\n".join(f"{number} {text}" for number, text in enumerate(texts, 1)))
    paths = _paths(found.root)
    assert sorted(paths) == sorted(str(title.path) for title in found.root.all_titles)
    assert len({*paths}) == len(paths)
    for part in (part for path in paths for part in path.split("/")):
        assert part not in ("", ".", "..")
        assert "\t" not in part
        assert "\x00" not in part
    assert len(found.ranges) + len(found.errors) == len(texts)


@given(st.binary(max_size=200), st.booleans(), st.sampled_from([b"", b"run_id,name\n", b"\xff\xfe"]))
def test_any_bytes_are_a_list_or_refused(content: bytes, is_csv: bool, head: bytes) -> None:
    with suppress(ValueError):
        parse(head + content, is_csv=is_csv)
