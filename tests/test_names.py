"""`cambfs.names`: which names a result can have, and which not."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cambfs.names import (
    MAX_RUN_ID,
    Kind,
    RunId,
    file_name,
    inode,
    names_and_inodes,
    parse_name,
    parse_run_id,
    parse_task_id,
)

_RUNS = st.integers(1, MAX_RUN_ID).map(RunId)
_KINDS = st.sampled_from(Kind)
JUNK = [
    "", ".", "..", ".flac", ".url", "flac", "12345", "12345.", "12345.FLAC", "12345.Url", "12345.wav", "12345.flac.url",
    "0.flac", "0012.flac", "-1.flac", "+1.flac", "1_0.flac", "1e3.flac", "0x10.flac", "1.5.flac", " 1.flac", "1 .flac",
    "1.flac ", "1.flac\n", "\n1.flac", "1\n.flac", "1.flac\0", "١.flac", "１.flac", "²x.flac", "1.ﬂac",
    "x.flac", ".DS_Store", "autorun.inf", "desktop.ini", "._1.flac", "folder.jpg", "1.flac~", ".1.flac.swp",
    "9223372036854775808.flac", "99999999999999999999.flac", "9" * 250 + ".flac",
    "5f0c2c5e-3f2a-4a1e-9d7e-7f3c7a9c1b11", "5f0c2c5e-3f2a-4a1e-9d7e-7f3c7a9c1b11.flac", "\udcff.flac", "1/2.flac",
]  # fmt: skip


@given(_RUNS, _KINDS)
@example(RunId(1), Kind.FLAC)
@example(RunId(MAX_RUN_ID), Kind.URL)
def test_every_name_is_read_back(run_id: RunId, kind: Kind) -> None:
    assert parse_name(file_name(run_id, kind)) == (run_id, kind)
    assert parse_run_id(str(run_id)) == run_id


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_no_name(name: str) -> None:
    assert parse_name(name) is None


@pytest.mark.parametrize("text", ["", "0", "01", "-1", "+1", "1 ", "1\n", "1.0", "١", "9223372036854775808", "9" * 30])
def test_junk_is_no_run_id(text: str) -> None:
    assert parse_run_id(text) is None


@given(st.text(max_size=30))
def test_only_names_that_would_be_made_are_names(text: str) -> None:
    found = parse_name(text)

    assert found is None or file_name(*found) == text


@given(_RUNS, _KINDS, _RUNS, _KINDS)
def test_inodes_differ_and_fit(run_id: RunId, kind: Kind, other_id: RunId, other_kind: Kind) -> None:
    one, other = inode(run_id, kind), inode(other_id, other_kind)

    assert (one == other) == ((run_id, kind) == (other_id, other_kind))
    assert 1 < one < 2**64


def test_the_two_files_of_a_run_have_two_inodes() -> None:
    assert inode(RunId(1), Kind.FLAC) != inode(RunId(1), Kind.URL)


def test_a_listing_has_the_same_names_and_inodes() -> None:
    runs = [RunId(1), RunId(77), RunId(MAX_RUN_ID)]

    both = [(file_name(run, kind), inode(run, kind)) for run in runs for kind in Kind]

    assert list(names_and_inodes(runs, runs)) == both
    assert list(names_and_inodes(runs, runs[:1])) == [*both[:2], *both[2::2]]
    assert list(names_and_inodes(runs, ())) == both[::2]


@pytest.mark.parametrize("text", ["5f0c2c5e-3f2a-4a1e-9d7e-7f3c7a9c1b11", "00000000-0000-0000-0000-000000000000"])
def test_a_task_id_is_a_uuid_in_lower_case(text: str) -> None:
    assert parse_task_id(text) == text


@given(st.uuids())
def test_every_uuid_is_a_task_id(value: uuid.UUID) -> None:
    assert parse_task_id(str(value)) == str(value)


_UUID = "5f0c2c5e-3f2a-4a1e-9d7e-7f3c7a9c1b11"


@pytest.mark.parametrize(
    "text",
    ["", "..", _UUID.upper(), _UUID[:-1], f"{_UUID}0", f"{_UUID}\n", f" {_UUID}", f"{{{_UUID}}}",
     _UUID.replace("-", ""), f"../{_UUID}", f"{_UUID}/", _UUID.replace("5", "٥"), _UUID.replace("f", "g"), "1477"],
)  # fmt: skip
def test_junk_is_no_task_id(text: str) -> None:
    assert parse_task_id(text) is None
