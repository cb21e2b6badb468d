"""The FLAC of a run as a seekable file for libsndfile. It shows a header that libsndfile can work with.

Threads: only the one that decodes at this moment.
"""

from __future__ import annotations

import io
from typing import Any, Protocol

from cambfs.deadline import Deadline
from cambfs.wav.wav_format import WavFormat

# Where in a FLAC the rate (20 bits), channels (3), bits of a sample (5) and number of samples (36) stand.
_SHAPE_AT, _SHAPE_END = 18, 26
# libsndfile asks for the length when it opens a file, and needs it only for a seek.
_UNKNOWN_LENGTH = 1 << 40


class Flac(Protocol):
    """An open result, as a library's Handle is one."""

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int: ...


class FlacFile:
    """The FLAC from its byte `start` on; `length` counts from there, None while it is unknown. `source` and `deadline`
    are those of the reader for which the decoder works now.

    An exception cannot pass through libsndfile. So `readinto` keeps it and reads nothing, and `check` raises it.
    """

    def __init__(
        self,
        source: Flac,
        deadline: Deadline,
        start: int,
        form: WavFormat,
        length: int | None = None,
    ) -> None:
        self.source = source
        self.deadline = deadline
        self._start = start
        self._shape = _shape(form)
        self._length = _UNKNOWN_LENGTH if length is None else length
        self._position = 0
        self._error: BaseException | None = None

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        """`buffer` is memory of libsndfile."""
        try:
            with memoryview(buffer).cast("B") as view:
                count = self._read(view)
        except BaseException as error:
            self._error = error
            return 0
        self._position += count
        return count

    def _read(self, view: memoryview) -> int:
        count = self.source.readinto(self._start + self._position, view, self.deadline)
        for at in range(max(self._position, _SHAPE_AT), min(self._position + count, _SHAPE_END)):
            view[at - self._position] = self._shape[at - _SHAPE_AT]
        return count

    def check(self) -> None:
        """Raises what a read has met."""
        if self._error is not None:
            raise self._error


def _shape(form: WavFormat) -> bytes:
    """As STREAMINFO has it. It has the true number of samples, which makes a seek quicker. libsndfile refuses 12 and 20
    bits, so the next larger sample is announced: each frame tells its own bits, and libsndfile takes those."""
    bits = 8 * form.sample_bytes
    return (form.rate << 44 | (form.channels - 1) << 41 | (bits - 1) << 36 | form.samples).to_bytes(8, "big")
