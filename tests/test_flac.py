"""`cambfs.flac`, on results that an encoder made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cambfs.demo
from cambfs import flac
from cambfs.remote.object_store import HEAD_BYTES

_SAMPLES = sorted((Path(cambfs.demo.__file__).parent / "samples").glob("*.flac"))
_SMALLEST = min(_SAMPLES, key=lambda path: path.stat().st_size).read_bytes()
_MD5 = slice(26, 42)
_FRAME_SYNC = b"\xff\xf8"


def _frame_starts() -> list[int]:
    starts, position = [], HEAD_BYTES
    while (position := _SMALLEST.find(_FRAME_SYNC, position + 1)) >= 0:
        starts.append(position)
    return starts


def _last_frame() -> int:
    info = flac.stream_info(_SMALLEST)
    assert info is not None
    return max(
        start
        for start in _frame_starts()
        if flac._header_end(_SMALLEST[start:]) and flac._samples_until(_SMALLEST[start:], info) == info.samples
    )


_LAST_FRAME = _last_frame()


def _is_whole(content: bytes) -> bool:
    """Asked as a transfer asks."""
    head = content[:HEAD_BYTES]
    wanted = flac.tail_bytes_wanted(head)
    return flac.is_whole(head, flac.without_id3v1(content[-wanted:] if wanted < len(content) else content))


def test_there_are_samples() -> None:
    assert len(_SAMPLES) >= 3


@pytest.mark.parametrize("path", _SAMPLES, ids=lambda path: path.name)
def test_a_whole_file_is_whole(path: Path) -> None:
    assert _is_whole(path.read_bytes())


def test_a_file_that_was_cut_off_between_two_frames_is_not_whole() -> None:
    cuts = _frame_starts()

    assert len(cuts) > 10
    assert not any(_is_whole(_SMALLEST[:cut]) for cut in cuts)


def test_a_file_that_was_cut_off_anywhere_is_not_whole() -> None:
    end = len(_SMALLEST)
    cuts = [*range(100), *range(100, end, 997), *range(end - 300, end)]

    assert not any(_is_whole(_SMALLEST[:cut]) for cut in cuts)


@given(st.integers(_LAST_FRAME, len(_SMALLEST) - 1), st.integers(1, 255))
def test_a_last_frame_that_was_damaged_proves_nothing(position: int, flip: int) -> None:
    damaged = bytearray(_SMALLEST)
    damaged[position] ^= flip

    assert not _is_whole(bytes(damaged))


def test_bytes_after_the_last_frame_prove_nothing() -> None:
    assert not _is_whole(_SMALLEST + b"a tag" * 10)


def test_a_tag_of_the_old_kind_may_follow_the_last_frame() -> None:
    tag = b"TAG" + bytes(125)

    assert _is_whole(_SMALLEST + tag)
    assert not any(_is_whole(_SMALLEST[:-1] + tag[:kept]) for kept in (127, 128))
    assert not any(_is_whole(_SMALLEST + tag[:cut]) for cut in (1, 3, 64, 127))


def _crc16(data: bytes) -> bytes:
    """As defined, a bit at a time."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc.to_bytes(2, "big")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 1000, 1001, 9000])
def test_checksums_of_any_length(length: int) -> None:
    data = _SMALLEST[-length:] if length else b""
    frame = data + _crc16(data)
    number = int.from_bytes(frame, "big")

    assert flac._divides_evenly(frame)
    for place in range(0, 8 * len(frame), 11):
        assert not flac._divides_evenly((number ^ 1 << place).to_bytes(len(frame), "big"))
        if place > 15:  # two bits, so that the parity is right
            assert not flac._divides_evenly((number ^ 1 << place ^ 1).to_bytes(len(frame), "big"))


def test_a_count_of_samples_that_is_not_known_proves_nothing() -> None:
    unknown = bytearray(_SMALLEST)
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)

    assert not _is_whole(bytes(unknown))


@given(st.binary(max_size=80))
def test_any_tail_is_judged(tail: bytes) -> None:
    assert not flac.is_whole(_SMALLEST[:HEAD_BYTES], b"\xff\xf8" + tail)


def test_a_frame_with_a_reserved_block_size_ends_nothing() -> None:
    frame = b"\xff\xf8\x09\x18\x00\x00\x00"
    assert not flac.is_whole(_SMALLEST[:HEAD_BYTES], frame + _crc16(frame))


@pytest.mark.parametrize("content", [b"", b"fLaC", b"RIFF" + bytes(100), b"fLaC\x01" + bytes(100), _SMALLEST[:41]])
def test_what_is_no_flac_has_no_stream_info(content: bytes) -> None:
    assert flac.stream_info(content) is None
    assert not flac.identifies(content)
    assert not flac.is_whole(content, content)


def test_an_md5_identifies() -> None:
    assert flac.identifies(_SMALLEST[:HEAD_BYTES])


def test_without_md5_audio_identifies() -> None:
    assert flac.identifies(_without_md5(_SMALLEST)[:HEAD_BYTES])


def test_without_md5_padding_does_not_identify() -> None:
    padding = b"\x81" + (8192).to_bytes(3, "big") + bytes(8192)
    padded = b"fLaC\0" + _without_md5(_SMALLEST)[5:42] + padding

    assert not flac.identifies(padded[:HEAD_BYTES])
    assert flac.identifies(padded + _SMALLEST[-2048:])


def _without_md5(content: bytes) -> bytes:
    return content[: _MD5.start] + bytes(16) + content[_MD5.stop :]


def test_what_only_looks_like_frames_costs_no_time() -> None:
    """Each of 65,000 beginnings would take a checksum over all behind it: hours."""
    assert not _is_whole(_SMALLEST[:42] + b"\xff\xf8" * 65_000)


def test_of_many_frames_that_claim_to_be_the_last_few_are_checked() -> None:
    """A tail of half a megabyte has room for 65,000, and each takes a checksum over all behind it."""
    last = _SMALLEST[_LAST_FRAME:]
    header = last[: flac._header_end(last)]

    for count, is_found in ((10, True), (1000, False)):
        frame = header * count
        assert _is_whole(_SMALLEST[:_LAST_FRAME] + frame + _crc16(frame)) is is_found
        assert flac.ends_in_a_frame(frame + _crc16(frame)) is is_found


def test_without_samples_the_metadata_is_the_whole_file() -> None:
    empty = b"fLaC\x80\0\0\x22" + bytes(18) + hashlib.md5().digest()
    unknown = empty[:-16] + bytes(16)

    assert flac.is_empty(empty, len(empty))
    assert not flac.is_cut_short(empty, len(empty))
    assert not flac.is_empty(empty, len(empty) + 1)
    assert not flac.is_empty(b"fLaC\0" + empty[5:], len(empty))  # more metadata is to follow
    assert not flac.is_empty(unknown, len(unknown))


def test_a_file_without_a_whole_header_and_a_frame_is_cut_short() -> None:
    end = flac._metadata_end(_SMALLEST[:HEAD_BYTES])
    cuts = {size: flac.is_cut_short(_SMALLEST[: min(size, HEAD_BYTES)], size) for size in range(end + 2 * HEAD_BYTES)}

    assert [size for size, is_short in cuts.items() if not is_short] == list(range(end + 9, end + 2 * HEAD_BYTES))


@pytest.mark.parametrize("content", [b"R", b"RIFF", b"RIFF and so on", b"ID3", b"fLa!", b"fLaC" + b"?" * 100])
def test_of_what_is_no_flac_nobody_can_tell_that_it_is_cut_short(content: bytes) -> None:
    assert not flac.is_cut_short(content, len(content))
