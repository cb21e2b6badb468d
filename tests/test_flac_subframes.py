"""`cambfs.flac_subframes`, on files that encoders made: each of their frames ends where the next one begins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import cambfs.demo
from cambfs import audio, flac, flac_subframes
from cambfs.audio import End
from tests.flac_files import make_flac

_SAMPLES = Path(cambfs.demo.__file__).parent / "samples"


def _made(form: str, level: str, sound: str, effects: str) -> bytes:
    command = f"sox -R -n {form} -t wav - synth 0.7 {sound} {effects}"
    wav = subprocess.run(command.split(), capture_output=True, check=True, timeout=60).stdout
    flac_command = ["flac", "-s", "-c", *level.split(), "-"]
    return subprocess.run(flac_command, input=wav, capture_output=True, check=True, timeout=60).stdout


def _ends(content: bytes) -> list[int]:
    """Where the frames end, one after the other."""
    info, position, ends = flac.stream_info(content), flac._metadata_end(content), list[int]()
    assert info is not None
    while position < len(content):
        frame = content[position : position + info.frame_limit_bytes]
        header_end = flac._header_end(frame)
        assert header_end, f"no frame at {position}"
        position += flac_subframes.end_of(frame, header_end, flac._numbers(frame)[1], info.bits)
        ends.append(position)
    return ends


@pytest.mark.parametrize(
    ("form", "level", "sound", "effects"),
    [
        ("-r 8000 -b 8 -c 1", "-0", "whitenoise", ""),
        ("-r 8000 -b 16 -c 1", "-8", "sine 300-3000", ""),
        ("-r 8000 -b 16 -c 2", "-8", "sine 300 sine 310", ""),
        ("-r 8000 -b 16 -c 2", "-8", "pinknoise pinknoise", "vol 0.01"),
        ("-r 8000 -b 16 -c 1", "-2 -m", "sine 400", "remix 1 1v0.9"),
        ("-r 8000 -b 16 -c 1", "-5 -r 0,6", "brownnoise", ""),
        ("-r 8000 -b 24 -c 1", "-8 -e -p", "pluck A3", ""),
        ("-r 8000 -b 16 -c 1", "-5", "sine 300", "vol 0"),
        ("-r 8000 -b 16 -c 1", "-8 -b 192", "square 50", "vol 0.5"),
        ("-r 8000 -b 24 -c 4", "-6", "sine 300 pinknoise sine 301 square 20", ""),
    ],
)
def test_each_frame_ends_where_the_next_begins(form: str, level: str, sound: str, effects: str) -> None:
    content = _made(form, level, sound, effects)
    assert _ends(content)[-1] == len(content)


def test_a_result_of_the_api() -> None:
    content = (_SAMPLES / "101.flac").read_bytes()
    assert _ends(content)[-1] == len(content)


@pytest.mark.parametrize(("counted", "end"), [(True, End.WHOLE), (False, End.INTACT)])
def test_a_zero_of_the_checksum_is_told_from_one_behind_it(counted: bool, end: End) -> None:
    content = make_flac(2000, counted=counted, ends_in_zero=True)
    assert content.endswith(b"\0")
    assert audio.end_of(content, content, len(content)) is end
    padded = content + bytes(1)
    assert audio.end_of(padded, padded, len(padded)) is End.PADDED


def test_what_does_not_parse_may_be_padded() -> None:
    frame = b"\xff\xf8\x70\0\0\0\0" + bytes([0, 0b00000100]) + bytes(20)
    with pytest.raises(ValueError, match="reserved"):
        flac_subframes.end_of(frame, 8, 16, 8)
    wasted = frame[:8] + bytes([0b00000001, 0, 1]) + bytes(20)
    with pytest.raises(ValueError, match="without bits"):
        flac_subframes.end_of(wasted, 8, 16, 8)
    with pytest.raises(ValueError, match="substring"):
        flac_subframes.end_of(frame[:8] + b"\x10" + bytes(20), 8, 16, 8)


@pytest.mark.parametrize(
    ("channels", "subframes", "length"),
    [
        (0, "0 000001 1 01" + 16 * " 000000", 24),
        (0, "0 001000 0 00 0000 1111 00011" + 16 * " 000", 19),
        (0, "0 001000 0 00 0001 1111 00000 0011" + 8 * " 1 000", 18),
        (8, "0 000000 0 00000000 0 000001 0" + 16 * " 000000000", 31),
        (9, "0 000000 0 000000000 0 000001 0" + 16 * " 00000000", 30),
    ],
    ids=["two bits less a sample", "bits as they are", "no bits, then Rice", "left and side", "side and right"],
)
def test_what_encoders_do_rarely(channels: int, subframes: str, length: int) -> None:
    digits = subframes.replace(" ", "")
    content = int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8), "big")
    frame = b"\xff\xf8\x70" + bytes([channels << 4 | 1 << 1]) + bytes(4) + content + bytes(2)
    assert len(frame) == length
    assert flac_subframes.end_of(frame, 8, 16, 8) == length
