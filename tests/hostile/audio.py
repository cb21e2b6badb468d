"""Real FLACs, each with other bytes and another length, and other contents of a run.

Made with flac and ffmpeg; nothing here knows of servers. No threads.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

from cambfs import flac

_SMALL_SAMPLES, _MIDDLE_SAMPLES, _LARGE_SAMPLES = 6_000, 24_000, 1_600_000
_SHAPE = ("--force-raw-format", "--endian=little", "--sign=signed", "--channels=1", "--bps=16", "--sample-rate=22050")
_STREAMINFO_SAMPLES = 21  # where the count's last four bits of the first byte are
_STREAMINFO_END = 42


def make(directory: Path, neighbours: Sequence[int], runs: Sequence[int], large: Sequence[int]) -> dict[int, bytes]:
    """Some 12 KB for each neighbour, 48 KB for a run, 3 MB for a large one."""
    lengths = dict.fromkeys(neighbours, _SMALL_SAMPLES) | dict.fromkeys(runs, _MIDDLE_SAMPLES)
    lengths |= dict.fromkeys(large, _LARGE_SAMPLES)
    for run_id, samples in lengths.items():
        noise = random.Random(run_id).randbytes(2 * (samples + run_id * 13 % 1999))
        (directory / f"{run_id}.raw").write_bytes(noise)
    names = [f"{run_id}.raw" for run_id in lengths]
    subprocess.run(["flac", "-0", "-s", *_SHAPE, *names], cwd=directory, check=True, timeout=120)
    return {run_id: (directory / f"{run_id}.flac").read_bytes() for run_id in lengths}


def piped(content: bytes) -> bytes:
    """The FLAC as an encoder leaves it that writes to a pipe: neither the samples nor the MD5 in its header."""
    first = bytes([content[_STREAMINFO_SAMPLES] & 0xF0])
    return content[:_STREAMINFO_SAMPLES] + first + bytes(20) + content[_STREAMINFO_END:]


def wav(content: bytes) -> bytes:
    """Some WAV that differs as the content does; with its length in its header."""
    samples = content[200:24_200]
    shape = b"fmt \x10\0\0\0\1\0\1\0" + (22_050).to_bytes(4, "little") + (44_100).to_bytes(4, "little") + b"\2\0\x10\0"
    inner = b"WAVE" + shape + b"data" + len(samples).to_bytes(4, "little") + samples
    return b"RIFF" + len(inner).to_bytes(4, "little") + inner


def converted(content: bytes, form: str, *options: str) -> bytes:
    """The same audio in another of ffmpeg's formats."""
    command = ["ffmpeg", "-v", "error", "-i", "-", *options, "-f", form, "-movflags", "frag_keyframe+empty_moov", "-"]
    return subprocess.run(command, input=content, capture_output=True, check=True, timeout=60).stdout


def with_id3(content: bytes) -> bytes:
    return b"ID3\4\0\0\0\0\0\x14" + b"TIT2\0\0\0\x0a\0\0\0a title  " + content


def frame_end(content: bytes, near: int) -> int:
    """A place near another one where a frame ends and the next begins."""
    at = content.index(content[_first_frame(content) :][:2], near)
    while not flac.ends_in_a_frame(content[:at]):
        at = content.index(content[_first_frame(content) :][:2], at + 1)
    return at


def _first_frame(content: bytes) -> int:
    position, is_last = 4, False
    while not is_last:
        is_last = bool(content[position] & 0x80)
        position += 4 + int.from_bytes(content[position + 1 : position + 4], "big")
    return position


# Files that are almost the same.


def other_middle(content: bytes) -> bytes:
    """The same head and length."""
    middle = len(content) // 2
    return content[:middle] + bytes(500) + content[middle + 500 :]


def other_end(content: bytes) -> bytes:
    return content[:-500] + bytes(500)


def other_head(content: bytes) -> bytes:
    return content[:30] + bytes(16) + content[46:]


def longer(content: bytes) -> bytes:
    return content + content[: len(content) * 2 // 5]


def shorter(content: bytes) -> bytes:
    return content[: len(content) * 3 // 5]
