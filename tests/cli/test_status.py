"""`cambfs status` without mounts. With mounts: tests/kernel/test_status."""

from __future__ import annotations

from pathlib import Path

import pytest

from cambfs.cli import run
from cambfs.mounts import mount_table


def test_without_a_mount_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(mount_table, "own_mounts", list)
    for arguments, words in (([], "you have no mount"), ([str(tmp_path)], f"{tmp_path}: no cambfs mount is there")):
        assert run(["status", *arguments]) == 1
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert words in err


def test_watching_is_not_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--watch", "--json"]) == 2
    assert "exclude each other" in capsys.readouterr().err
