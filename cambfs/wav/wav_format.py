"""A WAV file without its samples: the header, and where each sample is. Pure arithmetic, no threads.

The header is byte for byte that of the program flac: WAVE_FORMAT_EXTENSIBLE beyond 16 bits or two channels, RF64 where
RIFF cannot express the length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property

from cambfs.flac import StreamInfo

_PCM, _EXTENSIBLE = 1, 0xFFFE
_PCM_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
# The speakers of FLAC's channels, by their number (RFC 9639, 9.1.3).
_SPEAKERS = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x607, 6: 0x60F, 7: 0x70F, 8: 0x63F}
_RIFF_LIMIT_BYTES = 1 << 32
_DS64_CHUNK_BYTES = 36
_SEE_DS64 = 0xFFFFFFFF


@dataclass(frozen=True)
class WavFormat:
    """`samples` counts those of one channel; a frame has one sample of each channel. A sample takes whole bytes, and
    its `bits` are the upper ones of them."""

    rate: int
    channels: int
    bits: int
    samples: int

    @property
    def sample_bytes(self) -> int:
        return -(-self.bits // 8)

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.sample_bytes

    @property
    def data_bytes(self) -> int:
        return self.samples * self.frame_bytes

    @property
    def file_bytes(self) -> int:
        """The length of the whole file. Data of odd length is followed by a zero."""
        return len(self.header) + self.data_bytes + self.data_bytes % 2

    @cached_property
    def header(self) -> bytes:
        """All that precedes the samples."""
        form = self._form()
        form_chunk = struct.pack("<4sI", b"fmt ", len(form)) + form
        riff_bytes = 4 + len(form_chunk) + 8 + self.data_bytes + self.data_bytes % 2
        if riff_bytes + 8 < _RIFF_LIMIT_BYTES:
            riff = struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE")
            return riff + form_chunk + struct.pack("<4sI", b"data", self.data_bytes)
        return self._rf64(form_chunk, riff_bytes)

    def _rf64(self, form_chunk: bytes, riff_bytes: int) -> bytes:
        ds64 = struct.pack("<QQQI", riff_bytes + _DS64_CHUNK_BYTES, self.data_bytes, self.samples, 0)
        riff = struct.pack("<4sI4s4sI", b"RF64", _SEE_DS64, b"WAVE", b"ds64", len(ds64))
        return riff + ds64 + form_chunk + struct.pack("<4sI", b"data", _SEE_DS64)

    def _form(self) -> bytes:
        """The content of the chunk `fmt `."""
        is_plain = self.channels <= 2 and self.bits in (8, 16)
        tag, bytes_per_s = _PCM if is_plain else _EXTENSIBLE, self.rate * self.frame_bytes
        container_bits = 8 * self.sample_bytes
        form = struct.pack("<HHIIHH", tag, self.channels, self.rate, bytes_per_s, self.frame_bytes, container_bits)
        if is_plain:
            return form
        speakers = _SPEAKERS[self.channels]
        return form + struct.pack("<HHIH", 22, self.bits, speakers, _PCM) + _PCM_GUID_TAIL


def of_flac(info: StreamInfo, samples: int) -> WavFormat:
    """The WAV of a FLAC that has so many samples."""
    return WavFormat(info.rate, info.channels, info.bits, samples)
