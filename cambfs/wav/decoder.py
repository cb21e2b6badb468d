"""Decodes a FLAC with libsndfile into the samples of a WAV.

The only module that imports soundfile, which takes a tenth of a second: import it where it is used. Threads: one at a
time, which may change between two calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import soundfile

from cambfs.errors import Undecodable
from cambfs.wav.flac_file import FlacFile
from cambfs.wav.wav_format import WavFormat

_WORD_BYTES = 4  # libsndfile returns samples as int32, their bits at the upper end
_COUNTED_AT_A_TIME = 8192
_SIGN_BIT = bytes(byte ^ 0x80 for byte in range(256))


class Decoder:
    """Decodes from the frame `start` on, and only forward. `position` counts frames.

    All methods raise Undecodable, and the errors of the file. No call is possible after an error but `close`.
    """

    def __init__(self, file: FlacFile, form: WavFormat, start: int) -> None:
        self.file = file
        self.position = start
        self._form = form
        # FLAC's MD5 is of samples whose bits are the lower ones.
        is_comparable = start == 0 and form.bits % 8 == 0
        self._md5 = hashlib.md5(usedforsecurity=False) if is_comparable else None
        with self._raising():
            self._sound = _Sound(file)
            if start:
                self._sound.go_to(start)

    def read(self, frames: int) -> bytes:
        """Exactly so many frames."""
        words = bytearray(frames * self._form.channels * _WORD_BYTES)
        with self._raising():
            count = self._sound.buffer_read_into(words, "int32")
        if count != frames:
            raise Undecodable(f"its audio ends at sample {self.position + count} of {self._form.samples}")
        self.position += frames
        return self._packed(words)

    def count(self) -> int:
        """Decodes to the end of the file, and returns the position there."""
        words = bytearray(_COUNTED_AT_A_TIME * self._form.channels * _WORD_BYTES)
        with self._raising():
            while count := self._sound.buffer_read_into(words, "int32"):
                self.position += count
        return self.position

    def _packed(self, words: bytearray) -> bytes:
        """The upper bytes of each word, in a WAV's order; WAV has samples of 8 bits without a sign."""
        width = self._form.sample_bytes
        packed = bytearray(len(words) // _WORD_BYTES * width)
        for place in range(width):
            packed[place::width] = words[_WORD_BYTES - width + place :: _WORD_BYTES]
        if self._md5 is not None:
            self._md5.update(packed)
        return bytes(packed.translate(_SIGN_BIT) if width == 1 else packed)

    @property
    def md5(self) -> bytes | None:
        """The MD5 of all samples so far, as STREAMINFO has it; None when that cannot be known."""
        return None if self._md5 is None else self._md5.digest()

    @contextmanager
    def _raising(self) -> Iterator[None]:
        try:
            yield
        except soundfile.SoundFileError as error:
            self.file.check()
            reason = getattr(error, "error_string", error)  # without the name of the file, which is an object
            raise Undecodable(f"libsndfile cannot decode it: {reason}") from error
        self.file.check()

    def close(self) -> None:
        self._sound.close()


class _Sound(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after each read, to where it is already. For FLAC, that searches the file. A file that cannot
    seek avoids it."""

    def seekable(self) -> bool:
        return False

    def go_to(self, frame: int) -> None:
        super().seek(frame)
