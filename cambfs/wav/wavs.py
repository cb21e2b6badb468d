"""The WAV of every run of a mount: its size and time, and open ones.

The size of a WAV is known when the size of the FLAC is known. The number of samples is in the FLAC's header, or else
in its last frame. Threads: any. `_lock` guards the tables; under it nothing else is locked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from cambfs import audio
from cambfs.audio import End
from cambfs.deadline import Deadline
from cambfs.errors import NoWav, ResultChanged, Undecodable
from cambfs.flac import StreamInfo, is_empty, samples_at_end, stream_info, without_id3v1
from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.remote.object_store import HEAD_BYTES
from cambfs.runs.handle import Handle
from cambfs.runs.library import Library
from cambfs.wav.decoding import Blocks, Decoding, Key, count_samples
from cambfs.wav.wav_format import WavFormat
from cambfs.wav.wav_format import of_flac as of_flac_header

# libsndfile decodes these.
_BITS = (8, 12, 16, 20, 24)


class OpenWav:
    """One open WAV, to be used as a library's Handle. `decoding` is None for a result that is a WAV itself."""

    def __init__(self, wavs: Wavs, run_id: RunId, handle: Handle, decoding: Decoding | None, same_bytes: bool) -> None:
        self.same_bytes = same_bytes
        self.beside_other = handle.beside_other
        self._wavs = wavs
        self._run_id = run_id
        self._handle = handle
        self._decoding = decoding

    def readinto(self, offset: int, buffer: memoryview, deadline: Deadline) -> int:
        """As that of a Handle. Raises Undecodable, too."""
        if self._decoding is None:
            return self._handle.readinto(offset, buffer, deadline)
        try:
            return self._decoding.readinto(self._handle, offset, buffer, deadline)
        except Undecodable as error:
            self._wavs.forget_pages(self._run_id)
            raise Undecodable(f"run {self._run_id}: {error}") from error

    def size(self, deadline: Deadline) -> int:
        """In bytes. Waits for the size of a result that is a WAV itself."""
        return self._handle.size(deadline) if self._decoding is None else self._decoding.form.file_bytes

    def close(self) -> None:
        """Call once."""
        if self._decoding is not None:
            self._wavs.release(self._decoding)
        self._handle.close()


class Wavs:
    def __init__(self, library: Library) -> None:
        self._library = library
        self._blocks = Blocks()
        self._lock = Lock()  # guards all below
        # The reported size of a run's WAV, and the info of its FLAC at that time; None if the size was wrong.
        self._reported: dict[RunId, tuple[RunInfo, int] | None] = {}
        self._without: set[RunId] = set()  # the runs whose results have no WAV
        self._decodings: dict[Key, Decoding] = {}
        self._opened_generations: dict[RunId, int] = {}  # of the FLACs whose samples the kernel may have

    def info(self, run_id: RunId) -> RunInfo | None:
        """What is known without waiting; None when the size is not. Raises UnknownRun when the API just said so."""
        of_flac = self._library.info(run_id)
        with self._lock:
            reported = self._reported.get(run_id)
        if reported is None or reported[0] != of_flac:
            return None
        return RunInfo(reported[1], reported[0].mtime_ns)

    def was_reported(self, run_id: RunId) -> bool:
        """Whether this mount has ever reported a size of the WAV."""
        with self._lock:
            return run_id in self._reported

    def wait_for_info(self, run_id: RunId, deadline: Deadline) -> RunInfo:
        """Waits for the exact size, and asks for it if necessary. Decodes nothing where the FLAC counts its samples.
        Raises NoWav, Undecodable and other CambfsErrors."""
        if (known := self.info(run_id)) is not None:
            return known
        of_flac, head = self._library.wait_for_head(run_id, deadline)
        with self._noting(run_id):
            size = self._size(run_id, of_flac, head, deadline)
        with self._lock:
            self._reported[run_id] = of_flac, size
        return RunInfo(size, of_flac.mtime_ns)

    def _size(self, run_id: RunId, of_flac: RunInfo, head: bytes, deadline: Deadline) -> int:
        if audio.signature(head) == "WAV":
            return of_flac.size
        info = _stream_info(run_id, head)
        if info.samples:
            return of_flac_header(info, info.samples).file_bytes
        with self._library.open(run_id, deadline) as handle:
            return _format(run_id, handle, head, deadline).file_bytes

    def open(self, run_id: RunId, deadline: Deadline) -> OpenWav:
        """Returns as soon as the first audio is here; for a FLAC that does not count its samples, when its end is.
        Raises NoWav, Undecodable and other CambfsErrors."""
        handle = self._library.open(run_id, deadline)
        try:
            head = handle.read(0, HEAD_BYTES, deadline)
            is_wav = audio.signature(head) == "WAV"
            with self._noting(run_id):
                decoding = None if is_wav else self._acquire(run_id, handle, head, deadline)
        except BaseException:
            handle.close()
            raise
        return OpenWav(self, run_id, handle, decoding, self._note_opened(run_id, handle))

    def is_known_without(self, run_id: RunId) -> bool:
        """Whether the result was found to have no WAV when it was last looked at."""
        with self._lock:
            return run_id in self._without

    @contextmanager
    def _noting(self, run_id: RunId) -> Iterator[None]:
        """Notes whether the result has a WAV."""
        try:
            yield
        except NoWav:
            with self._lock:
                self._without.add(run_id)
            raise
        with self._lock:
            self._without.discard(run_id)

    def _acquire(self, run_id: RunId, handle: Handle, head: bytes, deadline: Deadline) -> Decoding:
        """The decoding that all readers of these bytes share."""
        form, key = _format(run_id, handle, head, deadline), (run_id, handle.generation)
        with self._lock:
            if (reported := self._reported.get(run_id)) is not None and reported[1] != form.file_bytes:
                self._reported[run_id] = None
                raise ResultChanged(
                    f"run {run_id}: the WAV has {form.file_bytes} bytes, but {reported[1]} were reported before"
                )
            decoding = self._decodings.get(key) or Decoding(key, head, form, self._blocks)
            decoding.users += 1
            self._decodings[key] = decoding
            return decoding

    def release(self, decoding: Decoding) -> None:
        """Ends one use."""
        with self._lock:
            decoding.users -= 1
            is_last = not decoding.users
            if is_last and decoding.error is None:  # what cannot be decoded is known for good
                del self._decodings[decoding.key]
        if is_last:
            decoding.close()

    def _note_opened(self, run_id: RunId, handle: Handle) -> bool:
        """Whether every byte is what it was at the last open of this WAV. The FLAC may have been open since."""
        generation = handle.generation
        with self._lock:
            is_same = self._opened_generations.get(run_id) == generation and not handle.beside_other
            self._opened_generations[run_id] = -1 if handle.beside_other else generation
            return is_same

    def forget_pages(self, run_id: RunId) -> None:
        """Samples that were read are not to be trusted. The next open drops them from the kernel."""
        with self._lock:
            self._opened_generations.pop(run_id, None)


def _stream_info(run_id: RunId, head: bytes) -> StreamInfo:
    info = stream_info(head)
    if info is None:
        container = audio.signature(head) or "of an unknown kind"
        raise NoWav(f"run {run_id}: the audio is {container}, and only FLAC is decoded")
    if info.bits not in _BITS:
        raise NoWav(f"run {run_id}: the audio has {info.bits} bits, which cannot be decoded")
    return info


def _format(run_id: RunId, handle: Handle, head: bytes, deadline: Deadline) -> WavFormat:
    info = _stream_info(run_id, head)
    return of_flac_header(info, info.samples or _counted(run_id, handle, head, info, deadline))


def _counted(run_id: RunId, handle: Handle, head: bytes, info: StreamInfo, deadline: Deadline) -> int:
    """The samples of a FLAC whose header does not count them: its last frame does."""
    size = handle.size(deadline)
    if is_empty(head, size):
        return 0
    wanted = min(audio.tail_bytes_wanted(head), size)
    if not wanted:  # frames too large to search for the last one
        return count_samples(handle, head, info, deadline)
    tail = handle.read(size - wanted, wanted, deadline)
    samples = None if audio.end_of(head, tail, size) is End.BROKEN else samples_at_end(head, without_id3v1(tail))
    if samples is None:
        raise Undecodable(f"run {run_id}: the FLAC does not end with a frame")
    return samples
