"""`cambfs names check`, and what a mount says of the names in its runs file."""

from __future__ import annotations

from tests.cli.shell import Shell, complaint


def test_a_good_file_is_counted(shell: Shell) -> None:
    (shell.directory / "n.txt").write_text("1 Book/a\n2 Book/Part/b\n3-9\n3f2b8a52-1c1d-4e5f-8a9b-0c1d2e3f4a5b c\n")
    done = shell("names", "check", "n.txt", CAMB_API_KEY="")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "9 runs, 1 task, 3 names, 2 folders, 0 errors, 0 warnings\n"


def test_every_mistake_and_surprise_is_told_in_the_order_of_the_lines(shell: Shell) -> None:
    (shell.directory / "n.csv").write_text("run_id;name\r\n1;A\r\n2;a\r\n3;../x\r\n4;\x1b[2J\r\n")
    done = shell("names", "check", "n.csv")
    file = shell.directory / "n.csv"
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"{file}:3: warning: 'a' looks like 'A' to some systems",
        f"{file}:4: error: '../x': .. cannot be a name",
        f"{file}:5: error: '\\x1b[2J' has a tab, a line break or another control character in it",
        "2 runs, 0 tasks, 2 names, 0 folders, 2 errors, 1 warning",
    ]


def test_a_warning_alone_is_no_failure(shell: Shell) -> None:
    (shell.directory / "n.txt").write_text("1 A\n2 a\n")
    assert shell("names", "check", "n.txt").returncode == 0


def test_what_is_no_list_is_refused_in_one_line(shell: Shell) -> None:
    (shell.directory / "n.csv").write_text("1,a\n")
    assert "n.csv: '1,a' is not a header" in complaint(shell("names", "check", "n.csv"))
    assert "none: No such file or directory" in complaint(shell("names", "check", "none"))
    assert "Missing argument 'FILE'" in complaint(shell("names", "check"), 2)


def test_a_mount_refuses_a_bad_name_and_warns_of_surprises(shell: Shell) -> None:
    file = shell.directory / "n.txt"
    file.write_text("1 a\n2 /etc/passwd\n")
    refused = complaint(shell("mount", "--runs-file", "n.txt", "mnt"), 2)
    assert refused == f"{file}:2: '/etc/passwd' begins with /; write the path without it"
    file.write_text("1 a\nx\n2 ../b\n")
    refused = complaint(shell("mount", "--runs-file", "n.txt", "mnt"), 2)
    assert refused.startswith(f"{file}:2: 'x' is not a run id")
    assert refused.endswith(f" (1 of 2 errors; see: cambfs names check {file})")
    file.write_text("1 a\n2 A\n")
    done = shell("mount", "--runs-file", "n.txt", "mnt")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert done.stderr == f"cambfs: warning: {file}:2: 'A' looks like 'a' to some systems\n"
    assert sorted(path.name for path in (shell.mountpoint / "by-name").iterdir()) == [
        "A.flac",
        "a.flac",
        "playlist.m3u8",
    ]
    assert shell("unmount", "mnt").returncode == 0
