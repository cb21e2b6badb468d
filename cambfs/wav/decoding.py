"""The decoding of one run, which all its readers share.

Nothing decoded is kept on the disk: the FLAC is in the cache, decoding it again takes milliseconds per second of audio,
and the kernel keeps the pages that were read. The blocks here serve reads that come slightly out of order.

Threads: any read. A reader that misses a block decodes it in its own thread. If another one decodes towards the block,
it waits for that one, in slices. Readers at distant places have a decoder each. `_changed` is not held while decoding;
under it only `Blocks._lock` is locked, a leaf.
"""

from __future__ import annotations

import time
from contextlib import closing
from threading import Condition, Lock
from typing import TYPE_CHECKING, Protocol

from cachetools import LRUCache

from cambfs import audio
from cambfs.audio import End
from cambfs.deadline import SLICE_S, Deadline
from cambfs.errors import CambfsError, Undecodable
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
# A place up to so far ahead is reached by decoding on, which keeps the MD5; one further ahead by a seek. `cat` and `cp`
# announce that they read on. The kernel then has up to 4 MiB under way, in any order, in a mount of root.
_DECODED_ON_BYTES = 5 << 20
# Of one run: for that many readers at distant places.
_IDLE_DECODERS = 8


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
        self.error: Undecodable | None = None  # set once: these are not the samples that the FLAC promises
        self._head = head
        self._blocks = blocks
        self._frames = max(_BLOCK_BYTES // form.frame_bytes, 1)  # in a block
        self._block_bytes = self._frames * form.frame_bytes
        self._ahead = max(_DECODED_ON_BYTES // self._block_bytes, 1)  # blocks
        self._changed = Condition()  # guards the next two; notified when a decoder is not busy any more
        self._idle: list[Decoder] = []  # the one used last at the end
        self._busy_from: list[int] = []  # the blocks where busy decoders began

    def readinto(self, flac: OpenFlac, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """As `readinto` of an open file, for the whole WAV. Raises Undecodable, too."""
        stop = min(offset + len(buffer), self.form.file_bytes)
        position = offset
        while position < stop:
            piece = self._piece(flac, position, deadline)[: stop - position]
            assert piece, "a block has the length that the format gives it"
            buffer[position - offset : position - offset + len(piece)] = piece
            position += len(piece)
        return position - offset

    def _piece(self, flac: OpenFlac, position: int, deadline: Deadline) -> memoryview:
        """What is at `position`, up to the end of its block."""
        into_data = position - len(self.form.header)
        if into_data < 0:
            return memoryview(self.form.header)[position:]
        # The zero behind the last sample belongs to the last block, also where that is full.
        index = min(into_data // self._block_bytes, self._last_block)
        return memoryview(self._block(flac, index, deadline))[into_data - index * self._block_bytes :]

    @property
    def _last_block(self) -> int:
        return (self.form.samples - 1) // self._frames

    def _block(self, flac: OpenFlac, index: int, deadline: Deadline) -> bytes:
        with self._changed:
            while (block := self._blocks.get((self.key, index))) is None and self._is_coming(index):
                self._changed.wait(SLICE_S)
                deadline.check(time.monotonic())  # the other reader's deadline ends this wait
            if self.error is not None:
                raise self.error.with_traceback(None)
            if block is not None:
                return block
            decoder = self._take_idle(index)
            begin = self._first_block(index) if decoder is None else decoder.position // self._frames
            self._busy_from.append(begin)
        try:
            return self._decode(decoder, begin, index, flac, deadline)
        finally:
            with self._changed:
                self._busy_from.remove(begin)
                self._changed.notify_all()

    def _is_coming(self, index: int) -> bool:
        """Whether a busy decoder is about to decode a block, or will soon be before it."""
        return any(0 <= index - begin <= self._ahead for begin in self._busy_from)

    def _first_block(self, index: int) -> int:
        """Where a new decoder begins that has to decode a block."""
        return 0 if index <= self._ahead else index

    def _take_idle(self, index: int) -> Decoder | None:
        """The decoder that is nearest before a block."""
        near = [one for one in self._idle if 0 <= index - one.position // self._frames <= self._ahead]
        if not near:
            return None
        nearest = max(near, key=lambda one: one.position)
        self._idle.remove(nearest)
        return nearest

    def _decode(self, decoder: Decoder | None, begin: int, index: int, flac: OpenFlac, deadline: Deadline) -> bytes:
        """Decodes the blocks from `begin` to `index`, and keeps them. Returns the last one."""
        if decoder is None:
            decoder = self._new_decoder(begin * self._frames, flac, deadline)
        decoder.file.source, decoder.file.deadline = flac, deadline
        try:
            for at in range(begin, index + 1):
                block = self._next_block(decoder, flac, deadline)
                self._blocks.put((self.key, at), block)
        except BaseException as error:
            decoder.close()
            if isinstance(error, Undecodable):
                self.error = error
            raise
        self._return(decoder)
        return block

    def _new_decoder(self, start: int, flac: OpenFlac, deadline: Deadline) -> Decoder:
        tag_end = id3_end(self._head)
        length = flac.size(deadline) - tag_end if start else None  # only a seek needs it
        return _decoder(FlacFile(flac, deadline, tag_end, self.form, length), self.form, start)

    def _return(self, decoder: Decoder) -> None:
        surplus: Decoder | None = decoder  # at the end it is of no more use
        if decoder.position < self.form.samples:
            with self._changed:
                self._idle.append(decoder)
                surplus = self._idle.pop(0) if len(self._idle) > _IDLE_DECODERS else None
        if surplus is not None:
            surplus.close()

    def _next_block(self, decoder: Decoder, flac: OpenFlac, deadline: Deadline) -> bytes:
        """With the zero behind data of odd length."""
        left = self.form.samples - decoder.position
        block = decoder.read(min(self._frames, left))
        if left > self._frames:
            return block
        self._check_end(decoder, flac, deadline)
        return block + bytes(self.form.data_bytes % 2)

    def _check_end(self, decoder: Decoder, flac: OpenFlac, deadline: Deadline) -> None:
        """The last samples count only if they are the last: by the structure of the FLAC, and by its MD5 where all was
        decoded in a row."""
        size, info = flac.size(deadline), stream_info(self._head)
        tail = memoryview(bytearray(min(audio.tail_bytes_wanted(self._head), size)))
        flac.readinto(size - len(tail), tail, deadline)
        if audio.end_of(self._head, bytes(tail), size) is End.BROKEN:
            raise Undecodable("it does not end with the last of the samples that its header counts")
        if info is not None and any(info.md5) and decoder.md5 not in (None, info.md5):
            raise Undecodable("its samples have another MD5 than its header says")

    def close(self) -> None:
        """After the last read. May be called again after another one."""
        with self._changed:
            idle, self._idle = self._idle, []
        for decoder in idle:
            decoder.close()


def count_samples(flac: Flac, head: bytes, info: StreamInfo, deadline: Deadline) -> int:
    """Decodes all of a FLAC. Raises Undecodable and other CambfsErrors."""
    form = of_flac(info, 0)
    with closing(_decoder(FlacFile(flac, deadline, id3_end(head), form), form, 0)) as decoder:
        return decoder.count()


def _decoder(file: FlacFile, form: WavFormat, start: int) -> Decoder:
    try:
        from cambfs.wav.decoder import Decoder
    except (ImportError, OSError) as error:  # soundfile raises OSError where its library is missing
        raise CambfsError(f"libsndfile cannot be used, install libsndfile1: {error}") from None
    return Decoder(file, form, start)
