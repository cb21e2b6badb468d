"""The decoding of one run, which all its readers share: decoded blocks, and at most one decoder.

Nothing decoded is kept on the disk. Decoding takes a few milliseconds per second of audio, the FLAC is in the cache,
and the kernel keeps the pages that were read; the blocks here only serve reads that come slightly out of order.

Threads: any read. A reader that misses a block decodes it in its own thread, under `_turn`; the others wait for their
turn, in slices. `Blocks._lock` is a leaf.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from cambfs import audio
from cambfs.audio import End
from cambfs.deadline import SLICE_S, Deadline
from cambfs.errors import Undecodable
from cambfs.flac import StreamInfo, id3_end, stream_info
from cambfs.names import RunId
from cambfs.wav.flac_file import Flac, FlacFile
from cambfs.wav.wav_format import WavFormat, of_flac

if TYPE_CHECKING:
    from cambfs.wav.decoder import Decoder

# Names the bytes of a FLAC: the run, and the generation of its bytes.
Key = tuple[RunId, int]

# A read needs all of the blocks that it touches. Small ones keep the first byte early: 0.3 s of speech.
_BLOCK_BYTES = 32 * 1024
# Of all decodings of a mount.
BLOCKS_BYTES = 16 << 20
# A place up to so far ahead is reached by decoding on, which keeps the MD5; one further ahead by a seek.
_DECODED_ON_BYTES = 2 << 20


class Blocks:
    """The blocks used last, of all runs."""

    def __init__(self, limit_bytes: int = BLOCKS_BYTES) -> None:
        self._lock = Lock()  # guards the next one
        self._blocks: LRUCache[tuple[Key, int], bytes] = LRUCache(limit_bytes, getsizeof=len)

    def get(self, key: tuple[Key, int]) -> bytes | None:
        with self._lock:
            return self._blocks.get(key)

    def put(self, key: tuple[Key, int], block: bytes) -> None:
        with self._lock:
            self._blocks[key] = block


class OpenFlac(Flac, Protocol):
    def size(self, deadline: Deadline) -> int: ...


class Decoding:
    """`head` are the first bytes of the FLAC. `flac` is in every method an open handle of it, the caller's own."""

    def __init__(self, key: Key, head: bytes, form: WavFormat, blocks: Blocks) -> None:
        self.users = 0  # belongs to the owner
        self.key = key
        self.form = form
        self._head = head
        self._blocks = blocks
        self._frames = max(_BLOCK_BYTES // form.frame_bytes, 1)  # in a block
        self._block_bytes = self._frames * form.frame_bytes
        self._turn = Lock()  # guards all below; its holder waits for the FLAC
        self._decoder: Decoder | None = None
        self._progress_at = time.monotonic()  # read by any thread

    def readinto(self, flac: OpenFlac, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """As `readinto` of an open file, for the whole WAV."""
        stop = min(offset + len(buffer), self.form.file_bytes)
        position = offset
        while position < stop:
            piece = self._piece(flac, position, deadline)[: stop - position]
            buffer[position - offset : position - offset + len(piece)] = piece
            position += len(piece)
        return max(position - offset, 0)

    def _piece(self, flac: OpenFlac, position: int, deadline: Deadline) -> memoryview:
        """What is at `position`, up to the end of its block."""
        into_data = position - len(self.form.header)
        if into_data < 0:
            return memoryview(self.form.header)[position:]
        index, into_block = divmod(into_data, self._block_bytes)
        return memoryview(self._block(flac, index, deadline))[into_block:]

    def _block(self, flac: OpenFlac, index: int, deadline: Deadline) -> bytes:
        if (block := self._blocks.get((self.key, index))) is not None:
            return block
        with self._my_turn(deadline):
            if (block := self._blocks.get((self.key, index))) is not None:
                return block
            try:
                return self._decode(flac, index, deadline)
            except BaseException:
                self._drop_decoder()
                raise

    @contextmanager
    def _my_turn(self, deadline: Deadline) -> Iterator[None]:
        while not self._turn.acquire(timeout=SLICE_S):
            deadline.check(self._progress_at)
        try:
            yield
        finally:
            self._turn.release()

    def _decode(self, flac: OpenFlac, index: int, deadline: Deadline) -> bytes:
        """Decodes up to the end of a block, and keeps what is on the way."""
        decoder = self._decoder_before(index * self._frames, flac, deadline)
        for at in range(decoder.position // self._frames, index + 1):
            block = self._next_block(decoder, flac, deadline)
            self._blocks.put((self.key, at), block)
        return block

    def _decoder_before(self, frame: int, flac: OpenFlac, deadline: Deadline) -> Decoder:
        """A decoder that is at this frame, or not far before it."""
        from cambfs.wav.decoder import Decoder

        position = 0 if self._decoder is None else self._decoder.position
        if not 0 <= (frame - position) * self.form.frame_bytes <= _DECODED_ON_BYTES:
            self._drop_decoder()
            position = frame
        if self._decoder is None:
            self._decoder = Decoder(self._file(position > 0, flac, deadline), self.form, position)
        self._decoder.file.source, self._decoder.file.deadline = flac, deadline
        return self._decoder

    def _file(self, is_to_seek: bool, flac: OpenFlac, deadline: Deadline) -> FlacFile:
        start = id3_end(self._head)
        length = flac.size(deadline) - start if is_to_seek else None
        return FlacFile(flac, deadline, start, self.form, length, self._note_progress)

    def _note_progress(self) -> None:
        self._progress_at = time.monotonic()

    def _next_block(self, decoder: Decoder, flac: OpenFlac, deadline: Deadline) -> bytes:
        """With the zero behind data of odd length."""
        left = self.form.samples - decoder.position
        block = decoder.read(min(self._frames, left))
        if left > self._frames:
            return block
        self._check_end(decoder, flac, deadline)
        return block + bytes(self.form.data_bytes % 2)

    def _check_end(self, decoder: Decoder, flac: OpenFlac, deadline: Deadline) -> None:
        """The last samples count only if they are the last: by the structure of the FLAC, and by its MD5."""
        size, info = flac.size(deadline), stream_info(self._head[id3_end(self._head) :])
        tail = memoryview(bytearray(min(audio.tail_bytes_wanted(self._head), size)))
        flac.readinto(size - len(tail), tail, deadline)
        if audio.end_of(self._head, bytes(tail), size) is End.BROKEN:
            raise Undecodable("it does not end with the last of the samples that its header counts")
        if info is not None and any(info.md5) and decoder.md5 not in (None, info.md5):
            raise Undecodable("its samples have another MD5 than its header says")

    def _drop_decoder(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def close(self) -> None:
        """After the last read."""
        self._drop_decoder()


def count_samples(flac: Flac, head: bytes, info: StreamInfo, deadline: Deadline) -> int:
    """Decodes all of a FLAC. Raises Undecodable and other CambfsErrors."""
    from cambfs.wav.decoder import Decoder

    form = of_flac(info, 0)
    with closing(Decoder(FlacFile(flac, deadline, id3_end(head), form), form, 0)) as decoder:
        return decoder.count()
