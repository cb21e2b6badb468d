"""`cambfs.wav.wav_format`: headers, compared with those of the program flac."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cambfs.wav import wav_format
from cambfs.wav.wav_format import WavFormat
from tests.wav.flacs import noise, wav_of

_MONO = WavFormat(rate=22_050, channels=1, bits=16, samples=700)


@pytest.mark.parametrize("bits", [8, 12, 16, 20, 24])
@pytest.mark.parametrize("channels", range(1, 9))
def test_the_header_and_the_length_are_those_of_flac(channels: int, bits: int, tmp_path: Path) -> None:
    form = replace(_MONO, channels=channels, bits=bits, samples=33)
    wanted = wav_of(noise(form), tmp_path)

    assert wanted.startswith(form.header)
    assert form.file_bytes == len(wanted)


@pytest.mark.parametrize("bits", [8, 24])
def test_rf64_is_that_of_flac(bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    form = replace(_MONO, bits=bits, samples=33)
    wanted = wav_of(noise(form), tmp_path, "--force-rf64-format")
    monkeypatch.setattr(wav_format, "_RIFF_LIMIT_BYTES", 0)

    assert wanted.startswith(form.header)
    assert form.file_bytes == len(wanted)


def test_riff_is_used_as_long_as_it_can_express_the_length() -> None:
    most = replace(_MONO, samples=(2**32 - 1 - 44) // 2)

    assert most.header[:4] == b"RIFF"
    assert int.from_bytes(most.header[4:8], "little") == most.file_bytes - 8
    assert replace(most, samples=most.samples + 1).header[:4] == b"RF64"
