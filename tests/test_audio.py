"""`cambfs.audio`: which bytes are audio, and where it ends by its own structure."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import cambfs.demo
from cambfs import audio
from cambfs.audio import End
from tests.flac_files import make_flac

_SAMPLE = (Path(cambfs.demo.__file__).parent / "samples" / "101.flac").read_bytes()


def _made(*arguments: str, stdin: bytes = b"") -> bytes:
    return subprocess.run(arguments, input=stdin, capture_output=True, check=True, timeout=60).stdout


def _end_of(content: bytes) -> End:
    head = content[:4096]
    return audio.end_of(head, content[-(audio.tail_bytes_wanted(head) or 1) :], len(content))


def _piped() -> bytes:
    """As an encoder leaves it that cannot go back to the header."""
    info = bytearray(_SAMPLE)
    info[21] &= 0xF0
    info[22:42] = bytes(20)
    return bytes(info)


_ID3 = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
_MP3_FRAME = b"\xff\xfb\x90\x00" + bytes(413)


@pytest.mark.parametrize(
    ("content", "container"),
    [
        (_SAMPLE, "FLAC"),
        (_ID3 + _SAMPLE, "FLAC"),
        (b"fLaC\x04\x00\x00\x28 reference libFLAC 1.4.3", "FLAC"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "WAV"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "WAV"),
        (b"OggS\0\x02" + bytes(40), "Ogg"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42", "MP4"),
        (_MP3_FRAME * 3, "MP3"),
        (_MP3_FRAME, "MP3"),
        (_ID3 + _MP3_FRAME * 2, "MP3"),
        (b"ID3\x04\x00\x00\x00\x07\x7f\x7f" + bytes(2000), "MP3"),
        *((_ID3 + _MP3_FRAME[:cut], "MP3") for cut in (0, 1, 4, 300)),
        *((_ID3 + _SAMPLE[:cut], "FLAC") for cut in (4, 9, 41)),
    ],
)
def test_audio_looks_like_audio(content: bytes, container: str) -> None:
    assert audio.signature(content[: audio.SIGNATURE_BYTES]) == container


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"f",
        b"fLa",
        b"null",
        b"0",
        b'"fLaC"',
        b'{"detail": "no"}',
        b"upstream connect error",
        b"\xff\xfeu\0p\0s\0t\0r\0e\0a\0m\0" * 200,
        b"\xfe\xff\0u\0p",
        b"\xef\xbb\xbfupstream",
        b"data: x\n\n",
        b"<html>",
        bytes(4096),
        b"1000\r\nfLaC" + bytes(100),
        b"RIFF\x24\x00\x00\x00AVI LIST",
        b"OggS",
        b"\0\0\0\x20moov",
        b"\xff\xfb\x90\x00" + bytes(2000),
        b"fLaC",
        "fLaC: nicht verfügbar".encode("latin-1"),
        b"fLaC: upstream connect error or disconnect/reset before headers",
        b"ID3",
        b"ID3\x04\x00\x00\xff\xff\xff\xff" + bytes(100),
        _ID3 + b"<html>",
    ],
)
def test_nothing_else_does(content: bytes) -> None:
    assert audio.signature(content[: audio.SIGNATURE_BYTES]) is None


def test_a_flac_with_a_count_of_samples_ends_in_the_last_of_them() -> None:
    assert _end_of(_SAMPLE) is End.WHOLE
    assert _end_of(_ID3 + _SAMPLE) is End.WHOLE
    for count in (4, 20, 41, 42):
        assert _end_of(_SAMPLE[:count]) is _end_of(_ID3 + _SAMPLE[:count]) is End.BROKEN
    assert _end_of(_SAMPLE[: len(_SAMPLE) * 2 // 5]) is End.BROKEN
    assert _end_of(_SAMPLE + b"x") is End.BROKEN
    assert _end_of(_SAMPLE + b"TAG" + bytes(125)) is End.WHOLE
    assert _end_of(_SAMPLE + bytes(100)) is _end_of(_piped() + bytes(100)) is End.BROKEN
    assert not _SAMPLE.endswith(b"\0")
    assert _end_of(_SAMPLE + b"\0") is _end_of(_SAMPLE + b"\0\0") is End.PADDED, "zeros do not change a CRC"
    assert _end_of(_SAMPLE + bytes(3)) is _end_of(_SAMPLE + bytes(500)) is End.BROKEN


def test_a_flac_that_does_not_count_ends_in_a_frame() -> None:
    assert _end_of(_piped()) is End.INTACT
    assert _end_of(_piped()[:-1]) is End.BROKEN
    assert _end_of(_piped() + b"x") is End.BROKEN


def test_a_flac_that_was_sent_twice_does_not_end_there() -> None:
    assert _end_of(_SAMPLE * 2) is End.BROKEN
    assert _end_of(make_flac(100_000) * 2) is End.BROKEN


def test_frames_are_counted_by_the_largest_block() -> None:
    """Some encoders count the last, shorter, block as the smallest."""
    content = bytearray(_SAMPLE)
    content[8:10] = b"\0\x10"
    assert _end_of(bytes(content)) is End.WHOLE


def test_long_metadata_leaves_room_for_more() -> None:
    picture = b"\x06" + (70_000).to_bytes(3, "big") + bytes(70_000)
    assert _end_of(_SAMPLE[:42] + picture + _SAMPLE[42:]) is End.WHOLE


def test_a_flac_with_blocks_beyond_all_measure_does_not_tell() -> None:
    content = bytearray(_SAMPLE)
    content[8:12] = b"\xff\xff\xff\xff"  # blocks of 65,535 samples,
    content[20] |= 0x0E  # of eight channels
    assert audio.tail_bytes_wanted(bytes(content)) == 0
    assert audio.end_of(bytes(content[:4096]), b"", len(content)) is End.UNKNOWN


@pytest.mark.parametrize("length", [2, 3])
def test_a_wav_ends_where_it_says(length: int) -> None:
    content = b"RIFF" + (36 + length).to_bytes(4, "little") + b"WAVEfmt " + bytes(28) + bytes(length)
    padded = content + bytes(length % 2)

    assert _end_of(content) is _end_of(padded) is End.WHOLE
    assert _end_of(content[:-1]) is _end_of(padded + b"\0") is End.BROKEN
    assert _end_of(content[:-8]) is End.UNKNOWN, "some services count the first eight bytes, too"


def test_a_long_wav_says_its_length_elsewhere() -> None:
    content = b"RF64\xff\xff\xff\xffWAVEds64" + (28).to_bytes(4, "little") + (92).to_bytes(8, "little") + bytes(72)
    assert len(content) == 100
    assert _end_of(content) is End.WHOLE
    assert _end_of(content[:-1]) is End.BROKEN


@pytest.mark.parametrize("size", [0, 36, 2_000_000_036, 0x7FFFF024, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_does_not_tell(size: int) -> None:
    assert _end_of(b"RIFF" + size.to_bytes(4, "little") + b"WAVE" + bytes(100)) is End.UNKNOWN


@pytest.mark.parametrize("content", [b"", b"OggS\0" + bytes(100), _MP3_FRAME])
def test_other_audio_does_not_tell(content: bytes) -> None:
    assert _end_of(content) is End.UNKNOWN


@pytest.mark.parametrize("shape", [("-b", "24", "-r", "192000", "-c", "2"), ("-b", "8", "-r", "8000", "-c", "8")])
def test_the_last_frame_is_found_in_any_shape(shape: tuple[str, ...]) -> None:
    """White noise, which an encoder stores as it is: no frame can be longer."""
    noise = _made("sox", "-n", *shape, "-t", "flac", "-", "synth", "3", "whitenoise")
    assert _end_of(noise) in (End.WHOLE, End.INTACT)
    assert _end_of(noise[:-1]) is End.BROKEN


@pytest.mark.parametrize("length", [62, 100, 575, 1000, 5000, 100_000])
def test_files_made_for_tests_are_whole(length: int, tmp_path: Path) -> None:
    path = tmp_path / "made.flac"
    path.write_bytes(make_flac(length, seed=length))

    assert path.stat().st_size == length
    assert _end_of(path.read_bytes()) is End.WHOLE
    assert _end_of(make_flac(length, counted=False)) is End.INTACT
    decoded = subprocess.run(["flac", "-d", "-c", "-s", path], capture_output=True, timeout=60, check=False)
    assert b"MD5" in decoded.stderr, "every frame was decoded, and only the MD5, which is noise, is wrong"


@pytest.mark.parametrize(
    ("end", "counted", "is_counted"),
    [
        (End.WHOLE, True, True),
        (End.PADDED, True, False),
        (End.INTACT, False, False),
        (End.BROKEN, True, False),
        (End.UNKNOWN, True, False),
    ],
)
def test_only_a_count_of_samples_ties_an_end_to_a_head(end: End, counted: bool, is_counted: bool) -> None:
    assert audio.is_counted(make_flac(5000, counted=counted), end) == is_counted
    assert not audio.is_counted(b"RIFF\x24\x08\0\0WAVE", end)
