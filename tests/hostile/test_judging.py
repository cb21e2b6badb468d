"""Whether the judge of the hostile cases notices mistakes, without a mount."""

from __future__ import annotations

import json

import pytest

from tests.hostile.case import CHANGED, EITHER, REFUSED, RIGHT
from tests.hostile.judging import Answer, Read, judge, shown_url

CONTENT = bytes(range(100))
WHOLE = Read(0, CONTENT, "end")


def problems(want: frozenset[str], reads: list[Read], sizes: list[int | str], *, is_open: bool = False) -> str:
    found = judge(Answer(reads, sizes), [CONTENT], want, repr, is_size_open=lambda _: is_open)[1]
    return "\n".join(found)


@pytest.mark.parametrize(
    ("want", "reads", "sizes"),
    [
        (RIGHT, [WHOLE], [100, 100]),
        (RIGHT, [Read(90, CONTENT[90:], "end"), WHOLE], [100]),
        (EITHER, [WHOLE], [100]),
        (EITHER, [Read(0, CONTENT[:50], "EIO")], [100]),
        (REFUSED, [Read(0, b"", "EIO")], ["EIO"]),
        (CHANGED, [Read(0, CONTENT[:50], "ESTALE"), WHOLE], [100]),
    ],
)
def test_what_is_right(want: frozenset[str], reads: list[Read], sizes: list[int | str]) -> None:
    assert problems(want, reads, sizes) == ""


@pytest.mark.parametrize(
    ("want", "reads", "sizes", "words"),
    [
        (RIGHT, [Read(0, CONTENT[:50], "end")], [50], "50 bytes of 100, and status 0"),
        (EITHER, [Read(0, CONTENT[:50], "end")], [50], "50 bytes of 100, and status 0"),
        (RIGHT, [Read(0, b"", "end")], [], "0 bytes of 100, and status 0"),
        (RIGHT, [Read(0, CONTENT + b"x", "end")], [], "wrong from 100 on: b'x'"),
        (RIGHT, [Read(0, b"{}", "end")], [], "wrong from 0 on"),
        (EITHER, [Read(0, CONTENT[:9] + b"x", "EIO")], [], "wrong from 9 on"),
        (RIGHT, [Read(80, CONTENT[90:], "end")], [], "wrong from 80 on"),
        (RIGHT, [WHOLE, Read(0, CONTENT[:99], "end")], [], "99 bytes of 100"),
        (RIGHT, [Read(0, b"", "EIO")], [], "got EIO, not right"),
        (REFUSED, [WHOLE], [100], "got right, not EIO"),
        (RIGHT, [WHOLE], ["EIO", 100], "got EIO or right"),
        (RIGHT, [WHOLE], [99, 100], "stat told 99 bytes, not 100"),
        (EITHER, [Read(0, b"", "EIO")], [99], "stat told 99 bytes, not 100"),
    ],
)
def test_what_is_wrong(want: frozenset[str], reads: list[Read], sizes: list[int | str], words: str) -> None:
    assert words in problems(want, reads, sizes)


def test_a_size_that_may_be_a_claim_is_right_at_the_end() -> None:
    assert problems(RIGHT, [WHOLE], [99, 100], is_open=True) == ""
    assert problems(EITHER, [Read(0, b"", "EIO")], [99], is_open=True) == ""
    assert "stat told 99" in problems(RIGHT, [WHOLE], [100, 99], is_open=True)


@pytest.mark.parametrize(
    ("data", "url"),
    [
        (json.dumps({"output_url": "https://x.example/"}).encode() + b"\n", "right"),
        (b"", "wrong"),
        (b"null\n", "wrong"),
        (b'{"output_url": null}\n', "wrong"),
        (b'{"output_url":\n"https://x.example/"}\n', "wrong"),
    ],
)
def test_what_a_url_file_shows(data: bytes, url: str) -> None:
    assert shown_url(Answer([Read(0, data, "end")], [])) == url
    assert shown_url(Answer([Read(0, data, "EIO")], [])) == "EIO"
