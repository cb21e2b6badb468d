from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence, Set
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cambfs.errors import ConfigError
from cambfs.names import MAX_RUN_ID
from cambfs.run_list import DeclaredRuns, expand, items, parse_runs
from cambfs.run_list import declared as reading


def runs_in(text: str) -> list[int]:
    return list(expand(parse_runs(text)))


def write(file: Path, text: str) -> None:
    """Replaces the file as an editor does, so that its signature is another one however fast the test is."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("", []),
        ("205", [205]),
        ("1-3,205", [1, 2, 3, 205]),
        (" 1 - 3 , 205 ", [1, 2, 3, 205]),
        ("5,1-3,2-4,5", [1, 2, 3, 4, 5]),
        ("7-7", [7]),
        (f"{MAX_RUN_ID}", [MAX_RUN_ID]),
    ],
)
def test_a_list_of_runs_is_read(text: str, runs: list[int]) -> None:
    assert runs_in(text) == runs


@pytest.mark.parametrize(
    "text", ["abc", "0", "-1", "1-", "-", "01", "1-2-3", "1,,2", "1,", "1.5", "+1", "１", str(MAX_RUN_ID + 1), "1 2"]
)
def test_what_is_no_list_of_runs_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a run id or a range like 1-100"):
        runs_in(text)


def test_a_range_that_descends_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="'9-3' is a range that descends; write 3-9"):
        runs_in("9-3")


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), min_size=1))
def test_a_list_gives_what_its_items_give_sorted_and_once(items: list[tuple[int, int]]) -> None:
    text = ",".join(f"{start}-{start + more}" if more else str(start) for start, more in items)
    expected = {run for start, more in items for run in range(start, start + more + 1)}
    assert runs_in(text) == sorted(expected)


@given(st.text(alphabet="0123456789-, a"))
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        runs = runs_in(text)
    except ValueError:
        return
    assert all(1 <= run <= MAX_RUN_ID for run in runs)


def test_the_limit_counts_each_run_once() -> None:
    limit = items.MAX_DECLARED_RUNS
    assert len(expand(parse_runs(f"1-{limit},1-{limit}"))) == limit
    with pytest.raises(ValueError, match="1,000,001 runs are declared; at most 1,000,000"):
        expand(parse_runs(f"1-{limit},{limit + 5}"))


def test_a_range_too_large_for_memory_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="at most 1,000,000"):
        runs_in(f"1-{MAX_RUN_ID}")


def test_the_list_and_the_file_are_joined(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.write_bytes("\ufeff# what I need\n1-3\r\n\n 7 # the long one\n".encode())
    assert list(DeclaredRuns("2,205", file)()) == [1, 2, 3, 7, 205]


def test_a_bad_line_is_refused_at_first_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n# 2\nabc\nxyz\n")
    with pytest.raises(ConfigError) as caught:
        DeclaredRuns("", file)
    first = f"{file}:3: 'abc' is not a run id or a range like 1-100"
    assert str(caught.value) == f"{first} (1 of 2 errors; see: cambfs names check {file})"


def test_a_bad_list_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--runs: 'abc' is not"):
        DeclaredRuns("abc")


def test_a_file_that_is_missing_or_none_is_refused_at_first(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        DeclaredRuns("", tmp_path / "none")
    with pytest.raises(ConfigError, match=r"is not a regular file|Is a directory"):
        DeclaredRuns("", tmp_path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match="is not a regular file"):
        DeclaredRuns("", tmp_path / "fifo")


@pytest.mark.timeout(10)
def test_what_is_no_list_is_refused_in_one_short_line(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "digits").write_text("9" * 5_000)
    (tmp_path / "junk").write_bytes(os.urandom(1 << 20).replace(b"\n", b"x").replace(b"#", b"x"))
    for name in ("zero", "digits", "junk"):
        with pytest.raises(ConfigError, match=r"is not a regular file|is not a run id") as caught:
            DeclaredRuns("", tmp_path / name)
        assert len(str(caught.value).replace(str(tmp_path), "")) < 400


def test_a_change_of_the_file_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    runs = DeclaredRuns("9", file)
    write(file, "2\n3\n")
    assert list(runs()) == [2, 3, 9]


def test_a_change_that_leaves_size_and_times_alike_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writes can fall into one tick of the file system's clock: then nothing in the file's status differs."""
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    status = file.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: status)
    monkeypatch.setattr(os, "fstat", lambda _: status)
    runs = DeclaredRuns("", file)
    file.write_text("2\n")
    assert list(runs()) == [2]


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    later_ns = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later_ns)
    runs = DeclaredRuns("", file)
    monkeypatch.setattr(reading, "_read", lambda _: pytest.fail("read again"))
    assert list(runs()) == list(runs()) == [1]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_bad_line_is_skipped_later_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    runs = DeclaredRuns("", file)
    write(file, "1\nabc\n5\n")
    assert list(runs()) == [1, 5]
    assert list(runs()) == [1, 5]
    assert warnings(caplog) == [f"{file}:2: 'abc' is not a run id or a range like 1-100; skipped"]


def test_many_bad_lines_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    runs = DeclaredRuns("", file)
    write(file, "bad\n" * 50)
    assert list(runs()) == []
    assert len(warnings(caplog)) == 11
    assert "40 more such lines" in warnings(caplog)[-1]


def test_a_file_that_vanishes_leaves_the_last_list_and_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    runs = DeclaredRuns("", file)
    file.unlink()
    assert list(runs()) == list(runs()) == [1]
    assert len(warnings(caplog)) == 1
    assert "No such file or directory; the runs listed before stay listed" in warnings(caplog)[0]
    write(file, "4\n")
    assert list(runs()) == [4]


def test_a_file_that_comes_to_declare_too_many_leaves_the_last_list(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1\n")
    runs = DeclaredRuns("", file)
    write(file, "1-2000000\n")
    assert list(runs()) == [1]
    assert "at most 1,000,000" in warnings(caplog)[0]


def test_threads_see_one_whole_list_or_the_other(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1-100\n")
    runs = DeclaredRuns("", file)
    seen: list[Sequence[int]] = []
    started = threading.Barrier(5)

    def look() -> None:
        started.wait(10)
        seen.extend(runs() for _ in range(200))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait(10)
    for turn in range(100):
        write(file, "1-100\n" if turn % 2 else "200-300\n")
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert {tuple(runs) for runs in seen} <= {tuple(range(1, 101)), tuple(range(200, 301))}


TASK = "3f2b8a52-1c1d-4e5f-8a9b-0c1d2e3f4a5b"


def test_names_and_tasks_follow_the_file(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1 Book/a\n")
    runs = DeclaredRuns("9", file)
    before = runs.names()
    assert [str(title.path) for title in before.root.all_titles] == ["Book/a"]
    assert before.mtime_ns == file.stat().st_mtime_ns
    assert runs.names().root is before.root
    write(file, f"1 Book/b\n{TASK}\n")
    assert [str(title.path) for title in runs.names().root.all_titles] == ["Book/b"]
    assert list(runs.tasks()) == [TASK]
    assert isinstance(runs.tasks(), Set), "each attribute of a task is a search in it"
    assert list(runs()) == [1, 9]


def test_a_file_that_was_only_touched_has_another_time_and_the_same_tree(tmp_path: Path) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1 Book/a\n")
    runs = DeclaredRuns("", file)
    before = runs.names()
    os.utime(file, ns=(10**18, 10**18))
    assert runs.names() == (before.root, 10**18)
    assert runs.names().root is before.root


def test_a_bad_name_is_refused_at_first_and_skipped_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("run_id,name\n1,../x\n")
    with pytest.raises(ConfigError, match=r"runs\.csv:2: '\.\./x': \.\. cannot be a name"):
        DeclaredRuns("", file)
    write(file, "run_id,name\n1,a\n")
    runs = DeclaredRuns("", file)
    write(file, "run_id,name\n1,a\n2,a\n3,c\n")
    assert list(runs()) == [1, 3]
    assert warnings(caplog) == [f"{file}:3: 'a' is the name in line 2 already; skipped"]


def test_surprises_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "runs.txt"
    file.write_text("1 a\n2 A\n")
    runs = DeclaredRuns("", file)
    runs()
    assert runs.warnings() == [f"{file}:2: 'A' looks like 'a' to some systems"]
    assert not warnings(caplog)
    write(file, "1 b\n2 B\n")
    runs()
    runs()
    assert warnings(caplog) == [f"{file}:2: 'B' looks like 'b' to some systems"]
